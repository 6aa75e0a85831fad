"""Detectors of few parameters that stand on the heads of ``mmdet``: their own heads, and a detector of all of them."""
