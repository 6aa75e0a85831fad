"""Two arithmetics at once: scales with which both give the same codes, and what is left of their difference."""
