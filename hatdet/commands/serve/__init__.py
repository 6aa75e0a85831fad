"""A page on this machine that shows what models find in a picture."""
