"""Write one HTML page on a run."""

from _start import start

start(__name__, "report")
