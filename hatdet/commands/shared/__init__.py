"""What several commands need: arguments, how a process starts and ends, checkpoints, model files, scoring."""
