"""ResNet (arXiv 1512.03385) and the networks made of its blocks."""
