"""The runtimes that execute the files, and the proof that they compute the same."""
