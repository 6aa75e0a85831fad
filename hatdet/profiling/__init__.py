"""Size, work and time of models."""
