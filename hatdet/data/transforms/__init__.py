"""Transforms of samples: geometry is collected lazily, pixels are resampled once."""
