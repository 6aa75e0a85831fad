"""Published weights of backbones that a training starts from."""
