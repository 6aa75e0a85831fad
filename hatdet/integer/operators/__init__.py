"""The operators of the integer model, one file each: data and formula, shape, real function, exact kernel, cost."""
