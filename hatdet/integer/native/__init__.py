"""Integer kernels in C, compiled on first use where there is a compiler; torch's forms are equal and always there."""
