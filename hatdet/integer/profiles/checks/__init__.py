"""What kernels of a profile do not compute with."""
