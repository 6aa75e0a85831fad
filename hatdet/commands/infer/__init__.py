"""Pictures through a stage's model, with boxes drawn and listed."""
