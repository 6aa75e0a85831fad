"""Check, report on, split, convert and browse data sets."""

from _start import start

start(__name__, "data")
