"""The model of a config in MMDetection's vocabulary."""
