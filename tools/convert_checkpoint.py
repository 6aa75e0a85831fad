"""Convert RTMDet checkpoints between MMDetection, MMYOLO and hatdet."""

from _start import start

start(__name__, "convert_checkpoint")
