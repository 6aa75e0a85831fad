"""Write a model as files that other runtimes read, and check each against the model."""

from _start import start

start(__name__, "export")
