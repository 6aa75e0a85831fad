"""``hatdet init``: from a data set to a config of a few lines, each with its reason."""
