"""Learning rate policies of MMDetection 2.x: closed forms of the step, and warm-ups."""
