"""Train one stage of a config."""

from _start import start

start(__name__, "train")
