"""Decoders of detectors whose detections are cells of one map (FOMO)."""
