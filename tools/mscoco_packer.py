"""Pack a COCO detection set into an LMDB folder."""

from _start import start

start(__name__, "mscoco_packer")
