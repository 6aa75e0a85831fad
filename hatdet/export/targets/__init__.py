"""What the hardware can run."""
