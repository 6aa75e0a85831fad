"""The command lines: a module, or a package where it is long, for each script in ``tools/``."""
