"""Training that learns of more than its labels."""
