"""List trainings, the best first, and compare them: a table, and a page with their curves over each other."""

from _start import start

start(__name__, "runs")
