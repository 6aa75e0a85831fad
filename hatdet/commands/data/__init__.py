"""Data sets before training: check, convert, split, report, browse."""
