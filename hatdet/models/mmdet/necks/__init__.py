"""Feature maps -> feature maps."""
