"""The data half of configs in MMDetection's vocabulary."""
