"""Compile the int8 model for an Arm Ethos-U and report what it costs there, operator by operator."""

from _start import start

start(__name__, "compile_perf")
