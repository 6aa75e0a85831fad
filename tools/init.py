"""Look at a data set and write a config for it, with the reason of each line."""

from _start import start

start(__name__, "init")
