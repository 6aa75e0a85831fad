"""Drawings of detections and batches, charts and reports."""
