"""Datasets: packed COCO sets as sequences of augmented samples."""
