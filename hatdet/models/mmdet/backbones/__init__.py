"""Image -> feature maps."""
