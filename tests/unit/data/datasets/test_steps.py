"""The steps of a sample end with what the data set gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.datasets.steps import draw_steps
from hatdet.data.samplers import SampleRef
from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.geometry import Pad, RandomCrop, RandomFlip, RandomResize
from hatdet.data.transforms.mosaic import Mosaic
from hatdet.data.transforms.sample import Context, Sample
from hatdet.utils.errors import UserError


class Drops:
    """Drops what has few boxes, as a crop may."""

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        return sample if ctx.must_keep or ctx.rng.random() < 0.3 else None


def pipeline(*more: Any) -> list[Any]:
    return [
        Mosaic(img_scale=(64, 64)), RandomResize((128, 128)), RandomCrop((64, 64)), HSVRandomAug(), RandomFlip(), *more,
        Pad((64, 64)),
    ]  # fmt: skip


def test_the_last_step_is_the_sample(packed: Path) -> None:
    data = CocoFromLMDB(packed, pipeline())
    for seed in range(5):
        ref = SampleRef(seed, seed, tuple((seed - 1 - i) % len(data) for i in range(5)))
        steps, item = draw_steps(data, ref), data[ref]
        names = [step.name for step in steps]
        assert names == ["file", "Mosaic", "RandomResize", "RandomCrop", "HSVRandomAug", "RandomFlip", "Pad"]
        assert np.array_equal(steps[-1].image.transpose(2, 0, 1), item["img"].numpy())
        assert np.array_equal(steps[-1].boxes, item["gt_boxes"].numpy())
        assert steps[-1].labels.tolist() == item["gt_labels"].tolist()
        assert steps[0].image.shape[:2] == data.raw(seed).orig_size


def test_a_transform_that_drops_what_must_be_kept_is_named(packed: Path) -> None:
    data = CocoFromLMDB(packed, [lambda sample, ctx: None])
    with pytest.raises(UserError, match="drops image 1 although"):
        draw_steps(data, 1)


def test_a_dropped_sample_is_drawn_again_as_the_data_set_does(packed: Path) -> None:
    data = CocoFromLMDB(packed, pipeline(Drops()))
    for seed in range(8):
        ref = SampleRef(seed, seed, (0, 1, 2))
        assert np.array_equal(draw_steps(data, ref)[-1].image.transpose(2, 0, 1), data[ref]["img"].numpy())
