"""Score a model file on the config's validation data: the 12 COCO numbers and AP per class."""

from _start import start

start(__name__, "test")
