"""Print the resolved config, with inheritance and options applied, as a runnable Python file."""

from _start import start

start(__name__, "print_config")
