"""From a float network's forward to canonical operators."""
