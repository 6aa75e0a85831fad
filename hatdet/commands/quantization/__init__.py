"""From float weights to the int8 file in one run."""
