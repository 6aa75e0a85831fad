"""Proposals in stages, each from the boxes of the one before."""
