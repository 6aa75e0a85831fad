"""The whole road on a rendered data set: train, calibrate, QAT, integer model, .tflite, bit-for-bit check, report."""

from _start import start

start(__name__, "demo")
