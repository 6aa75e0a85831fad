"""Pure functions on tensors: overlap of boxes, non-maximum suppression."""
