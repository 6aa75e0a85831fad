"""Check, convert and split data sets."""

from _start import start

start(__name__, "data")
