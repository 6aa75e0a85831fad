"""What is wrong with predictions, as numbers."""
