"""Image -> feature maps, by attention."""
