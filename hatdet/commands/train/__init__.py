"""One stage's training, and its pictures."""
