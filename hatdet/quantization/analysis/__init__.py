"""Which layers cost accuracy, and what to do about it."""
