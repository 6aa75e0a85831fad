"""MMDetection's transforms under their own names, as functions of the sampler's reference.

Arguments, defaults and the order of sizes (width, height) are those of MMDetection 3.3; the translation of a config of
version 2 turns its own into these. Differences that all of them share: random numbers come from the sample's generator
(``ctx.rng``), partners of Mosaic and the like from the images just before this one in the sampler's order, pictures
stay uint8 (MMDetection computes some steps in float and does not round), and geometry is resampled once, when pixels
are needed.
"""
