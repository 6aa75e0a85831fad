"""Models side by side: what they cost on a device, and how good they were on which data."""
