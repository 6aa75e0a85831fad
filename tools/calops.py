"""Print parameters and multiply-accumulates of a config's model, for each module and in total."""

from _start import start

start(__name__, "calops")
