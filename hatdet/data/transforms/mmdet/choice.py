"""Transforms of transforms: RandomChoice, RandomOrder, RandomApply, AutoAugment, RandAugment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hatdet.data.transforms.mmdet.affine import Rotate, ShearX, ShearY, TranslateX, TranslateY
from hatdet.data.transforms.mmdet.canvas import window_of
from hatdet.data.transforms.mmdet.color.enhance import (
    AutoContrast,
    Brightness,
    Color,
    Contrast,
    Equalize,
    Invert,
    Posterize,
    Sharpness,
    Solarize,
    SolarizeAdd,
)
from hatdet.data.transforms.sample import Context, Sample
from hatdet.registry import register

Steps = Sequence[Callable[..., Any]]
_E, _C, _R, _S, _A = Equalize, Color, Rotate, Solarize, SolarizeAdd
POLICIES: tuple[tuple[tuple[Callable[..., Any], float, int], ...], ...] = (
    ((_E, 0.8, 1), (ShearY, 0.8, 4)), ((_C, 0.4, 9), (_E, 0.6, 3)), ((_C, 0.4, 1), (_R, 0.6, 8)),
    ((_S, 0.8, 3), (_E, 0.4, 7)), ((_S, 0.4, 2), (_S, 0.6, 2)), ((_C, 0.2, 0), (_E, 0.8, 8)),
    ((_E, 0.4, 8), (_A, 0.8, 3)), ((ShearX, 0.2, 9), (_R, 0.6, 8)), ((_C, 0.6, 1), (_E, 1.0, 2)),
    ((Invert, 0.4, 9), (_R, 0.6, 0)), ((_E, 1.0, 9), (ShearY, 0.6, 3)), ((_C, 0.4, 7), (_E, 0.6, 0)),
    ((Posterize, 0.4, 6), (AutoContrast, 0.4, 7)), ((_S, 0.6, 8), (_C, 0.6, 9)), ((_S, 0.2, 4), (_R, 0.8, 9)),
    ((_R, 1.0, 7), (TranslateY, 0.8, 9)), ((ShearX, 0.0, 0), (_S, 0.8, 4)), ((ShearY, 0.8, 0), (_C, 0.6, 4)),
    ((_C, 1.0, 0), (_R, 0.6, 2)), ((_E, 0.8, 4), (_E, 0.0, 8)), ((_E, 1.0, 4), (AutoContrast, 0.6, 2)),
    ((ShearY, 0.4, 7), (_A, 0.6, 7)), ((Posterize, 0.8, 2), (_S, 0.6, 10)), ((_S, 0.6, 8), (_E, 0.6, 1)),
    ((_C, 0.8, 6), (_R, 0.4, 5)),
)  # fmt: skip
"""The policies of AutoAugment for ImageNet (arXiv 1805.09501, table 9): (operation, probability, level)."""
SPACE: tuple[Callable[..., Any], ...] = (
    AutoContrast, Equalize, Invert, Rotate, Posterize, Solarize, SolarizeAdd, Color, Contrast, Brightness, Sharpness,
    ShearX, ShearY, TranslateX, TranslateY,
)  # fmt: skip


def run(steps: Steps, sample: Sample, ctx: Context) -> Sample | None:
    """The sample after all ``steps``; None where one dropped it."""
    result: Sample | None = sample
    for step in steps:
        if result is None:
            return None
        result = step(result, ctx)
    return result


def _lists(transforms: Sequence[Any]) -> list[list[Callable[..., Any]]]:
    return [list(steps) if isinstance(steps, (list, tuple)) else [steps] for steps in transforms]


def _shares(prob: Sequence[float] | None, count: int) -> np.ndarray:
    if not count:
        raise ValueError("there are no transforms to choose from; give at least one")
    shares = np.full(count, 1 / count) if prob is None else np.asarray(prob, float)
    if shares.shape != (count,) or shares.min() < 0 or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"prob is {prob!r}; give {count} probabilities that sum to 1, or None: equal ones")
    return shares


@register(scope="mmdet")
class RandomChoice:
    """One of several lists of transforms.

    Args:
        transforms: lists, or single ones.
        prob: of each; None: equal.
    """

    def __init__(
        self, transforms: Sequence[Callable[..., Any] | Steps], prob: Sequence[float] | None = None
    ) -> None:
        self.transforms = _lists(transforms)
        self.shares = _shares(prob, len(self.transforms))
        self.window = window_of(self.transforms)

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        return run(self.transforms[int(ctx.rng.choice(len(self.shares), p=self.shares))], sample, ctx)


@register(scope="mmdet")
class RandomOrder:
    """All transforms, in random order.

    Args:
        transforms: at least one.
    """

    def __init__(self, transforms: Steps) -> None:
        self.transforms = list(transforms)
        self.window = window_of(self.transforms)

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        return run([self.transforms[i] for i in ctx.rng.permutation(len(self.transforms))], sample, ctx)


@register(scope="mmdet")
class RandomApply:
    """All transforms, or none.

    Args:
        transforms: one or a list.
        prob: of applying them.
    """

    def __init__(self, transforms: Callable[..., Any] | Steps, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob is {prob!r}; it is in 0..1")
        self.transforms = _lists([transforms])[0]
        self.prob, self.window = prob, window_of(self.transforms)

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        return run(self.transforms, sample, ctx) if ctx.rng.random() < self.prob else sample


@register(scope="mmdet")
class AutoAugment(RandomChoice):
    """One of several policies, each a list of transforms (arXiv 1805.09501, 1906.11172).

    Args:
        policies: default: those of ImageNet.
        prob: of each; None: equal.
    """

    def __init__(self, policies: Sequence[Steps] | None = None, prob: Sequence[float] | None = None) -> None:
        built = [[made(prob=share, level=level) for made, share, level in policy] for policy in POLICIES]
        super().__init__(built if policies is None else policies, prob)


@register(scope="mmdet")
class RandAugment(RandomChoice):
    """Some of many operations, none twice (arXiv 1909.13719).

    Args:
        aug_space: default: five of geometry, ten of colour.
        aug_num: how many.
        prob: of each in the first draw; None: equal.
    """

    def __init__(
        self,
        aug_space: Sequence[Callable[..., Any] | Steps] | None = None,
        aug_num: int = 2,
        prob: Sequence[float] | None = None,
    ) -> None:
        super().__init__([made() for made in SPACE] if aug_space is None else aug_space, prob)
        if not 0 <= aug_num <= len(self.transforms):
            raise ValueError(f"aug_num is {aug_num}; it is in 0..{len(self.transforms)}, the operations to choose from")
        self.aug_num = aug_num

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        chosen = ctx.rng.choice(len(self.shares), self.aug_num, replace=False, p=self.shares)
        return run([step for i in chosen for step in self.transforms[i]], sample, ctx)
