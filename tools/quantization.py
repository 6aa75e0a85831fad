"""From float weights to the int8 file in one run: calibration, QAT, integer model, export, comparison."""

from _start import start

start(__name__, "quantization")
