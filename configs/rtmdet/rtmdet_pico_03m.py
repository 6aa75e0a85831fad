"""RTMDet-pico, 0.3 M: the smallest RTMDet, 96 to 256 px.

0.293 M parameters with 2 classes (0.304 M with 80); 0.056 GMACs at 192x192 with 2 classes: rtmdet_pico_06m.py at three
quarters of its width, no stage wider than 96 channels. Measured: docs/models.md.
"""

_base_ = "rtmdet_pico_06m.py"

widen_factor = 0.1875
max_channels = 96
