"""After calibration: better integers without labels and without training (post-training quantization)."""
