"""What it costs to match a prediction with a ground truth."""
