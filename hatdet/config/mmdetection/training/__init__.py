"""How a config in MMDetection's vocabulary trains: optimizer, learning rate, hooks, length."""
