"""Score the model of one stage: the 12 COCO numbers and AP per class."""

from _start import start

start(__name__, "predict")
