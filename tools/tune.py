"""Find values for options by short trainings, each chosen by what the others gave."""

from _start import start

start(__name__, "tune")
