"""RTMDet's int8 figures on COCO: float, calibration, QAT and the file, for nano, tiny and s at 320 and 640 px."""

from _start import start

start(__name__, "coco_table")
