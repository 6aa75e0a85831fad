"""RTMDet-pico, 0.3 M: the smallest RTMDet, 96 to 256 px.

0.272 M parameters with 2 classes (0.284 M with 80); 0.127 GMACs at 192x192 with 2 classes: rtmdet_pico_06m.py at two
thirds of its width. Measured: docs/models.md.
"""

_base_ = "rtmdet_pico_06m.py"

widen_factor = 0.25
head_channels = 48
