"""Where quantization loses accuracy: compare two stages layer by layer on validation images."""

from _start import start

start(__name__, "quant_analysis")
