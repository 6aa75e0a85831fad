"""Transforms of transforms, erasing, and the filter of boxes."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from hatdet.building import Builder
from hatdet.config.check import check
from hatdet.data.transforms.mmdet.albu import Albu
from hatdet.data.transforms.mmdet.annotations import FilterAnnotations
from hatdet.data.transforms.mmdet.choice import AutoAugment, RandAugment, RandomApply, RandomChoice, RandomOrder
from hatdet.data.transforms.mmdet.erase import CutOut, RandomErasing
from hatdet.data.transforms.mmdet.mix.mosaic import Mosaic
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Sample
from tests.helpers.samples import context, noise, sample_of


class Mark:
    """Adds a letter to the file's name."""

    def __init__(self, letter: str, drop: bool = False) -> None:
        self.letter, self.drop = letter, drop

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        sample.file_name += self.letter
        return None if self.drop else sample


def names(step: Any, count: int = 600) -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in range(count):
        sample = sample_of(noise(2, 2))
        sample.file_name = ""
        made = step(sample, context(seed))
        found["dropped" if made is None else made.file_name] += 1
    return found


def test_choice() -> None:
    counts = names(RandomChoice([[Mark("a"), Mark("b")], Mark("c"), [Mark("d", drop=True), Mark("e")]]))
    assert set(counts) == {"ab", "c", "dropped"} and all(150 < count < 250 for count in counts.values())
    counts = names(RandomChoice([Mark("a"), Mark("b")], prob=[0.9, 0.1]))
    assert 500 < counts["a"] < 580
    with pytest.raises(ValueError, match="sum to 1"):
        RandomChoice([Mark("a"), Mark("b")], prob=[0.9, 0.2])
    assert RandomChoice([[Mosaic()], [Mark("a")]]).window == Mosaic().window


def test_order_and_apply() -> None:
    assert set(names(RandomOrder([Mark("a"), Mark("b"), Mark("c")]))) == {"abc", "acb", "bac", "bca", "cab", "cba"}
    counts = names(RandomApply(Mark("a"), prob=0.3))
    assert 130 < counts["a"] < 230 and counts["a"] + counts[""] == 600


def test_auto_augment() -> None:
    assert len(AutoAugment().transforms) == 25 and all(len(policy) == 2 for policy in AutoAugment().transforms)
    counts = names(AutoAugment(policies=[[Mark("a")], [Mark("b"), Mark("c")]]))
    assert set(counts) == {"a", "bc"}
    for seed in range(25):
        assert AutoAugment()(sample_of(noise(20, 30), [[1, 2, 9, 9]]), context(seed)).canvas == (20, 30)  # type: ignore[union-attr]


def test_rand_augment_takes_none_twice() -> None:
    counts = names(RandAugment(aug_space=[[Mark("a")], [Mark("b")], [Mark("c")]], aug_num=2))
    assert set(counts) == {"ab", "ba", "ac", "ca", "bc", "cb"}
    assert len(RandAugment().transforms) == 15
    for seed in range(25):
        assert RandAugment(aug_num=3)(sample_of(noise(20, 30), [[1, 2, 9, 9]]), context(seed)).canvas == (20, 30)  # type: ignore[union-attr]


def test_nested_dicts_are_checked_and_built() -> None:
    cfg = dict(type="mmdet.RandomChoice", transforms=[[dict(type="mmdet.RandomChoiceResize", scales=[(40, 30)])]])
    assert check(cfg) == []
    step: Any = Builder().build(cfg, "step")
    assert step(sample_of(noise(20, 30)), context()).canvas == (30, 40)
    cfg["transforms"][0][0]["scalez"] = 3  # type: ignore[index]
    assert "scalez" in str(check(cfg)[0])


# ----------------------------------------------------------------------------------------------- erasing
@pytest.mark.parametrize("options", [dict(cutout_shape=[(5, 3), (8, 8)]), dict(cutout_ratio=(0.2, 0.5))])
def test_cutout(options: Any) -> None:
    image = noise(20, 30)
    for seed in range(10):
        drawn = render(CutOut(n_holes=(1, 3), **options, fill_in=(1, 2, 3))(sample_of(image), context(seed)))
        rng = np.random.default_rng(seed)
        expected = image.copy()
        shapes = options.get("cutout_shape", [(6, 10)])
        for _ in range(int(rng.integers(1, 4))):
            x, y = int(rng.integers(30)), int(rng.integers(20))
            w, h = shapes[int(rng.integers(len(shapes)))]
            expected[y : y + h, x : x + w] = (1, 2, 3)
        assert np.array_equal(drawn, expected)
    with pytest.raises(ValueError, match="give one of them"):
        CutOut(n_holes=1)


def test_random_erasing() -> None:
    image = noise(20, 30)
    boxes = [[0, 0, 30, 20], [10, 10, 12, 12]]
    counts = set()
    for seed in range(40):
        step = RandomErasing(n_patches=2, ratio=(0.2, 0.8), squared=False, bbox_erased_thr=0.5, img_border_value=9)
        sample = step(sample_of(image, boxes), context(seed))
        rng = np.random.default_rng(seed)
        rng.integers(2, 3)
        expected, erased = image.copy(), np.zeros((2, 20, 30))
        for i in range(2):
            shares = rng.random(2) * 0.6 + 0.2
            h, w = int(20 * shares[0]), int(30 * shares[1])
            x, y = int(rng.integers(30 - w)), int(rng.integers(20 - h))
            expected[y : y + h, x : x + w] = 9
            erased[i, y : y + h, x : x + w] = 1
        assert np.array_equal(render(sample), expected)
        keep = [i for i, (x1, y1, x2, y2) in enumerate(boxes) if erased[:, y1:y2, x1:x2].mean(axis=(1, 2)).sum() < 0.5]
        assert sample.labels.tolist() == keep
        counts.add(len(keep))
    assert counts == {0, 1, 2}


def test_filter_annotations() -> None:
    boxes = [[0, 0, 5, 5], [0, 0, 4, 9], [0, 0, 9, 9]]
    kept = FilterAnnotations(min_gt_bbox_wh=(4, 4))(sample_of(noise(9, 9), boxes), context())
    assert kept is not None and kept.labels.tolist() == [0, 2]  # above, not at
    assert FilterAnnotations(min_gt_bbox_wh=(9, 9))(sample_of(noise(9, 9), boxes), context()) is None
    left = FilterAnnotations(min_gt_bbox_wh=(9, 9), keep_empty=False)(sample_of(noise(9, 9), boxes), context())
    assert left is not None and len(left.boxes) == 0
    assert FilterAnnotations()(sample_of(noise(9, 9)), context()) is not None  # it came without a box


def test_albu_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(ValueError, match="pip install albumentations"):
        Albu(transforms=[dict(type="Blur")])


def test_albu_is_a_function_of_the_sample() -> None:
    pytest.importorskip("albumentations")
    one_of = dict(type="OneOf", transforms=[dict(type="VerticalFlip", p=1.0)], p=0.5)
    steps = [dict(type="HorizontalFlip", p=0.5), one_of]
    step = Albu(steps, bbox_params=dict(type="BboxParams", format="pascal_voc", label_fields=["gt_bboxes_labels"]))
    found = set()
    for seed in range(40):
        first, second = (step(sample_of(noise(20, 30), [[1, 2, 9, 9]]), context(seed)) for _ in range(2))
        assert first is not None and second is not None and np.array_equal(render(first), render(second))
        assert np.array_equal(first.boxes, second.boxes) and first.labels.tolist() == [0]
        found.add(tuple(np.rint(first.boxes[0]).tolist()))
    assert found == {(1, 2, 9, 9), (21, 2, 29, 9), (1, 11, 9, 18), (21, 11, 29, 18)}


def test_albu_drops_a_picture_whose_boxes_it_lost() -> None:
    pytest.importorskip("albumentations")
    crop: list[dict[str, Any]] = [dict(type="Crop", x_min=20, y_min=10, x_max=30, y_max=20)]
    fields = dict(type="BboxParams", format="pascal_voc", label_fields=["gt_bboxes_labels"], filter_lost_elements=True)
    other = dict(type="BboxParams", format="pascal_voc", label_fields=["gt_bboxes_labels"])
    lost, stays = ([[1, 2, 9, 9]], [[1, 2, 9, 9], [22, 12, 28, 18]])
    step = Albu(crop, bbox_params=fields, skip_img_without_anno=True)
    assert step(sample_of(noise(20, 30), lost), context()) is None
    kept = step(sample_of(noise(20, 30), stays), context())
    assert kept is not None and np.allclose(kept.boxes, [[2, 2, 8, 8]], atol=1e-4) and kept.labels.tolist() == [1]
    empty = Albu(crop, bbox_params=other, skip_img_without_anno=True)(sample_of(noise(20, 30), lost), context())
    assert empty is not None and not len(empty.boxes) and empty.canvas == (10, 10)
