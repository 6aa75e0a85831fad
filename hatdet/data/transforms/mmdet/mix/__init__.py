"""Transforms that mix pictures: Mosaic, MixUp, CopyPaste."""
