"""Blocks that keep the shape of a map, to be put into other blocks (``plugins=[dict(cfg=..., position=...)]``)."""
