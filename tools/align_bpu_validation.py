"""Does the deployed model find what the toolbox reported? Image by image, to the last bit."""

from _start import start

start(__name__, "align_bpu_validation")
