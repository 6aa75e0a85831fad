"""Other data sets, and checkpoints, in the forms that the toolbox reads."""
