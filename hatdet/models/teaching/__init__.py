"""Learning of another detector: a teacher out of a checkpoint, and losses between it and its student."""
