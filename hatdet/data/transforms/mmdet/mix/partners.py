"""Partners of a picture: earlier ones in the sampler's order, after the transforms that they went through there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hatdet.data.transforms.mmdet.canvas import window_of
from hatdet.data.transforms.sample import Context, Sample

REACH = 40
"""How many earlier images stand for MMDetection's whole data set, where it draws from that."""


class Partners:
    """Draws partners.

    Args:
        reach: how many earlier images may be drawn from.
        before: transforms that a partner goes through first, with random numbers of this sample.
    """

    def __init__(self, reach: int, before: Sequence[Callable[..., Any]]) -> None:
        self.reach, self.before = reach, list(before)
        self.window = max(reach, window_of(self.before))

    def candidates(self, sample: Sample, ctx: Context) -> tuple[int, ...]:
        """Indices, the nearest first; a picture that is alone is its own partner."""
        return ctx.partners.indices[: self.reach] or (sample.index,)

    def load(self, index: int, ctx: Context) -> Sample | None:
        """The partner; None where a transform dropped it."""
        sample: Sample | None = ctx.partners.load(index)
        for transform in self.before:
            if sample is None:
                return None
            sample = transform(sample, ctx)
        return sample

    def anyone(self, sample: Sample, ctx: Context) -> Sample:
        """One of them, each equally; the raw picture where all that were tried are dropped."""
        candidates = self.candidates(sample, ctx)
        for _ in range(5):
            found = self.load(candidates[int(ctx.rng.integers(len(candidates)))], ctx)
            if found is not None:
                return found
        return ctx.partners.load(candidates[0])
