"""Check, report on, split and convert data sets."""

from _start import start

start(__name__, "data")
