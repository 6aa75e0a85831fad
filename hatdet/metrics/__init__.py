"""Metrics: COCO average precision, precision/recall curves, confusion matrix, training history."""
