"""Before any training: can a config's model become integers, and does the target run every operator of it?"""

from _start import start

start(__name__, "check_model")
