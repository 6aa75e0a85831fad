"""From scored boxes to detections, and merging of the results of augmented pictures."""
