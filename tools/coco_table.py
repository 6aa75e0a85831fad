"""RTMDet's int8 figures on COCO: float, calibration, QAT and the file."""

from _start import start

start(__name__, "coco_table")
