"""Data sets: items, ground truth, subsets, the cache of packed copies."""

from __future__ import annotations

import copy
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.image_file import decode
from hatdet.data.samplers import SampleRef
from hatdet.data.transforms.geometry import Pad, RandomCrop, Resize
from hatdet.data.transforms.sample import Context, Sample
from hatdet.utils.errors import UserError


def val(packed: Path, **options: Any) -> CocoFromLMDB:
    transforms = [Resize(img_scale=(64, 64)), Pad(size=(64, 64))]
    return CocoFromLMDB(**{"data_path": packed, "transforms": transforms, "test_mode": True, **options})


def test_an_item(packed: Path) -> None:
    dataset = val(packed)
    item = dataset[0]  # 37 x 53 (h, w): scale 64 / 53
    assert item["img"].shape == (3, 64, 64) and item["img"].dtype == torch.uint8
    assert item["img"].stride() == (1, 192, 3)  # channels last
    assert (item["img_id"], item["orig_size"], item["img_size"]) == (100, (37, 53), (45, 64))
    assert item["scale_factor"] == (64 / 53, 45 / 37)
    assert item["file_name"] == "00.png"
    # the crowd is not among the boxes
    assert item["gt_labels"].tolist() == [1, 2]
    scale = torch.tensor([64 / 53, 45 / 37] * 2)
    assert torch.allclose(item["gt_boxes"], torch.tensor([[2, 3, 12, 15], [40.5, 27.75, 53, 37]]) * scale)


def test_ground_truth_is_that_of_the_json(packed: Path) -> None:
    truth = val(packed).coco_annotations()
    assert [c["name"] for c in truth["categories"]] == ["bar", "dot", "box"]
    assert [c["id"] for c in truth["categories"]] == [3, 7, 90]
    assert len(truth["images"]) == 9
    assert truth["images"][1] == {"id": 101, "file_name": "01.png", "width": 41, "height": 60}
    assert [a["id"] for a in truth["annotations"]] == list(range(1, 18))
    assert truth["annotations"][1] == {
        "id": 2,
        "image_id": 100,
        "category_id": 90,
        "bbox": [40.5, 27.75, 12.5, 9.25],
        "area": 115.625,
        "iscrowd": 0,
    }
    assert [a["category_id"] for a in truth["annotations"] if a["iscrowd"]] == [3]


def test_training_leaves_out_images_without_boxes_and_says_so(packed: Path) -> None:
    dataset = val(packed, test_mode=False)
    assert dataset.num_images == len(dataset) == 8
    assert 103 not in {dataset[i]["img_id"] for i in range(8)}
    assert "file_name" not in dataset[0]
    text = dataset.summary()
    assert "8 images, 16 boxes, 3 classes: bar 0, dot 8, box 8" in text
    assert "1 crowd" in text and "1 without a box" in text
    assert len(val(packed, test_mode=False, filter_empty=False)) == 9
    assert len(val(packed, test_mode=False, min_size=30)) == 6  # 21 and 29 px are smaller, 103 is empty
    assert len(val(packed, num_samples=3)) == 3
    assert len(val(packed).coco_annotations()["images"]) == 9


def test_a_subset_of_classes_in_another_order(packed: Path) -> None:
    dataset = val(packed, classes=["box", "bar"])
    assert dataset.classes == ("box", "bar") and dataset.category_ids == (90, 3)
    assert dataset[0]["gt_labels"].tolist() == [0]
    truth = dataset.coco_annotations()
    assert {a["category_id"] for a in truth["annotations"]} == {90, 3}
    with pytest.raises(UserError, match="no 'boxx'; did you mean 'box'"):
        val(packed, classes=["boxx"])
    with pytest.raises(UserError, match="none of its 9 images can be used"):
        val(packed, classes=["bar"], test_mode=False)


def test_items_are_the_same_whatever_ran_before_and_with_any_cache(packed: Path) -> None:
    from hatdet.data.transforms.mosaic import Mosaic

    transforms = [Mosaic(img_scale=(32, 32), max_cached=5), RandomCrop(crop_size=(64, 64)), Pad(size=(64, 64))]
    ref = SampleRef(3, 12345, (5, 1, 0, 7, 2))
    images = []
    for cache_mb in (256, 0):
        dataset = CocoFromLMDB(data_path=packed, transforms=transforms, cache_mb=cache_mb)
        images.append(dataset[ref]["img"])
        for index in range(len(dataset)):
            dataset[index]
        images.append(dataset[ref]["img"])
    assert all(torch.equal(image, images[0]) for image in images)
    assert not torch.equal(images[0], dataset[ref._replace(seed=12346)]["img"])


def test_pickled_without_handles_and_images(packed: Path) -> None:
    dataset = val(packed)
    before = dataset[4]
    stream = io.BytesIO()
    pickle.dump(dataset, stream)
    assert len(stream.getvalue()) < 20_000
    after = pickle.loads(stream.getvalue())[4]
    assert torch.equal(before["img"], after["img"])
    assert torch.equal(copy.deepcopy(dataset)[4]["img"], before["img"])


def test_a_forked_process_reads_on(packed: Path) -> None:
    dataset = val(packed, cache_mb=0)
    expected = int(dataset[2]["img"].long().sum())
    pid = os.fork()
    if pid == 0:
        os._exit(0 if int(dataset[2]["img"].long().sum()) == expected else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert int(dataset[2]["img"].long().sum()) == expected


class DropUntil:
    """Drops every sample but that of one index."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        return sample if sample.index == self.index or ctx.must_keep else None


def test_a_dropped_sample_is_replaced_by_one_just_before_it(packed: Path) -> None:
    def items(index: int, ref: SampleRef) -> int:
        dataset = CocoFromLMDB(data_path=packed, transforms=[DropUntil(index)], test_mode=True)
        return int(dataset[ref]["img_id"])

    ref = SampleRef(0, 1, (4, 2))
    assert items(2, ref) == 102
    assert items(6, ref) in (100, 104, 102)  # never fits: taken as it comes, and no endless loop


def test_plain_indices(packed: Path) -> None:
    dataset = val(packed)
    assert torch.equal(dataset[-1]["img"], dataset[8]["img"])
    with pytest.raises(IndexError, match="index 9 of a data set of 9"):
        dataset[9]
    assert len(list(dataset)) == 9  # type: ignore[call-overload]


def test_late_transforms(packed: Path) -> None:
    dataset = val(packed, late_transforms=[Pad(size=(90, 90))])
    assert dataset[SampleRef(0, 0, (), 1)]["img"].shape == (3, 90, 90)
    assert val(packed)[SampleRef(0, 0, (), 1)]["img"].shape == (3, 64, 64)


# --------------------------------------------------------------------------------------------- CocoDataset
def coco(root: Path, **options: Any) -> CocoDataset:
    return CocoDataset(
        **{
            "data_root": root,
            "ann_file": "annotations/instances_train.json",
            "img_prefix": "train/",
            "transforms": [],
            "test_mode": True,
            **options,
        }
    )


@pytest.fixture(autouse=True)
def no_other_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HATDET_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def test_coco_dataset_packs_once_into_the_data_set(coco_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = coco(coco_root)
    assert dataset.data_path.parent == coco_root / ".hatdet_cache"
    assert "packing" in capsys.readouterr().err
    again = coco(coco_root)
    assert again.data_path == dataset.data_path
    assert "packing" not in capsys.readouterr().err
    image = decode((coco_root / "train" / "00.png").read_bytes())
    assert np.array_equal(dataset[0]["img"].permute(1, 2, 0).numpy(), image)


def test_coco_dataset_notices_a_change_even_while_open(coco_root: Path) -> None:
    first = coco(coco_root)
    before = first[7]["img"]
    (coco_root / "train" / "00.png").unlink()
    second = coco(coco_root)
    assert (len(first), len(second)) == (9, 8)
    assert second[0]["img_id"] == 101
    assert first[8]["img_id"] == 108 and torch.equal(first[7]["img"], before)  # the old copy stays readable


def test_coco_dataset_caches_elsewhere_when_told_or_forced(
    coco_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path / "mine"))
    assert coco(coco_root).data_path.parent == tmp_path / "mine"
    monkeypatch.delenv("HATDET_CACHE")
    (coco_root / ".hatdet_cache").write_text("a file: nothing can be written below it")
    assert coco(coco_root).data_path.parent == tmp_path / "xdg" / "hatdet"


def test_coco_dataset_names_a_missing_file(coco_root: Path) -> None:
    with pytest.raises(UserError, match=r"annotation file .*/no\.json does not exist"):
        coco(coco_root, ann_file="no.json")
    with pytest.raises(UserError, match="image folder .*/nope does not exist"):
        coco(coco_root, img_prefix="nope")
    assert not list((coco_root / ".hatdet_cache").iterdir())


def test_coco_dataset_leaves_a_read_only_data_set_alone(coco_root: Path, tmp_path: Path) -> None:
    before = sorted(coco_root.iterdir())
    coco_root.chmod(0o555)  # the superuser could write all the same
    try:
        assert coco(coco_root).data_path.parent == tmp_path / "xdg" / "hatdet"
    finally:
        coco_root.chmod(0o755)
    assert sorted(coco_root.iterdir()) == before
