"""What is checked before a stage starts."""
