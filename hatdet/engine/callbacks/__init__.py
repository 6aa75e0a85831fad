"""Callbacks: everything about training that is not the loop. One file each; `base.py` has the table of events."""
