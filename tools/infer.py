"""Show what a model finds in pictures: boxes, classes and scores drawn, and listed as json."""

from _start import start

start(__name__, "infer")
