"""From the reference of a sample to the sample: its images, its partners, its random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from hatdet.data.samplers import SampleRef, sample_generator
from hatdet.data.transforms.apply import apply
from hatdet.data.transforms.sample import Context, Image, Sample
from hatdet.utils.errors import UserError

T = TypeVar("T")
ATTEMPTS = 8
"""How often a dropped sample is replaced before it is taken as it comes."""
_INT_REF_WINDOW = 64


class Partners:
    """See :class:`hatdet.data.transforms.sample.Partners`."""

    __slots__ = ("_dataset", "indices")

    def __init__(self, dataset: Any, index: int, recent: Sequence[int]) -> None:
        self._dataset = dataset
        self.indices = tuple(i for i in recent if i != index)

    def load(self, index: int) -> Sample:
        return self._dataset.raw(index)  # type: ignore[no-any-return]


def draw(owner: Any, ref: SampleRef) -> dict[str, Any]:
    """The augmented sample of ``ref``.

    Args:
        owner: the data set that ``ref`` counts in: has ``leaf`` and ``raw``.
    """
    leaf, sample = drawn(owner, ref, apply)
    return leaf.item(sample)  # type: ignore[no-any-return]


def drawn(owner: Any, ref: SampleRef, run: Callable[[Sequence[Any], Sample, Context], T | None]) -> tuple[Any, T]:
    """What ``run`` makes of the sample of ``ref``, and the data set that the sample is of.

    Args:
        run: takes transforms, a sample and its context; None: a transform dropped the sample.

    Raises:
        UserError: a transform drops even what must be kept.
    """
    index = ref.index
    # A dropped sample is tried once more, then replaced by the images before it, in turn.
    replacements = (ref.index, *dict.fromkeys(ref.recent))
    for attempt in range(ATTEMPTS + 1):
        leaf = owner.leaf(index)[0]
        pipeline = leaf.pipelines[min(ref.pipeline, len(leaf.pipelines) - 1)]
        partners = Partners(owner, index, ref.recent)
        ctx = Context(sample_generator(ref.seed, attempt), partners, must_keep=attempt == ATTEMPTS)
        result = run(pipeline, owner.raw(index), ctx)
        if result is not None:
            return leaf, result
        index = replacements[attempt % len(replacements)]
    raise UserError(f"a transform drops image {ref.index} although ctx.must_keep is set; let it pass then")


def whole_picture(sample: Sample) -> Image:
    """The picture of a raw sample in the size of its file, which ground truth and detections count in: one that was
    stored smaller is enlarged."""
    import cv2

    image = np.ascontiguousarray(sample.tiles[0].source.pixels())
    height, width = sample.orig_size
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height)).reshape(height, width, -1)  # type: ignore[assignment]
    return image


def plain_ref(owner: Any, index: int) -> SampleRef:
    """The reference that a plain number stands for: always the same augmentation, partners just before it.

    Raises:
        IndexError: there is no such image.
    """
    if not -len(owner) <= index < len(owner):
        raise IndexError(f"index {index} of a data set of {len(owner)} images")
    index %= len(owner)
    window = min(owner.window, _INT_REF_WINDOW)
    return SampleRef(index, index, tuple((index - 1 - i) % len(owner) for i in range(window)))
