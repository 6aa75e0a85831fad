"""JPEGs decoded at a part of their size where training needs no more: what stays, and what it is a function of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.datasets.decoding import decode_picture
from hatdet.data.datasets.wrappers import ConcatDataset
from hatdet.data.image_file import decode
from hatdet.data.loader import build_data_loader
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.transforms.geometry import Pad, RandomCrop, RandomFlip, RandomResize, Resize
from hatdet.data.transforms.mosaic import Mosaic
from hatdet.utils.errors import UserError
from tests.helpers.samples import smooth

SIZES = [(120, 160), (121, 163), (160, 118), (120, 160), (60, 80), (240, 320)]  # (h, w)


def turned(data: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation."""
    entry = (0x0112).to_bytes(2, "big") + b"\0\3" + b"\0\0\0\1" + orientation.to_bytes(2, "big") + b"\0\0"
    content = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + b"\0\1" + entry + b"\0\0\0\0"
    return data[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    return cv2.imencode(".jpg", smooth(height, width, seed), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs (the last a PNG) with two boxes each, packed."""
    root = tmp_path_factory.mktemp("photos")
    (root / "train").mkdir()
    images, annotations = [], []
    for number, (height, width) in enumerate(SIZES):
        name = f"{number}.jpg" if number < 5 else f"{number}.png"
        data = jpeg(height, width, number)
        if number == 5:
            data = cv2.imencode(".png", smooth(height, width, number))[1].tobytes()
        (root / "train" / name).write_bytes(data)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for box in ([3, 5, 40, 30], [width - 50.5, height - 40.25, 50.5, 40.25]):
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box,
                                "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    categories = [{"id": 1, "name": "thing", "supercategory": ""}]
    file = root / "train.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    pack_coco(file, root / "train", root / "train_lmdb", num_workers=0, quiet=True)
    return root / "train_lmdb"


def training(photos: Path, **options: Any) -> CocoFromLMDB:
    """At 40 px, mosaics of up to 1.4 times: pictures of 160 px are needed at 0.35."""
    transforms = [
        Mosaic(img_scale=(40, 40), max_cached=4),
        RandomResize(scale=(80, 80), ratio_range=(0.6, 1.4)),
        RandomCrop(crop_size=(40, 40), allow_empty=True),
        RandomFlip(),
        Pad(size=(40, 40)),
    ]
    return CocoFromLMDB(**{"data_path": photos, "transforms": transforms, "decode_scale": "auto", **options})


def test_what_is_decoded_at_which_scale(photos: Path) -> None:
    dataset = training(photos)
    shapes = [dataset.raw(i).tiles[0].source.pixels().shape[:2] for i in range(6)]
    assert shapes == [(60, 80), (61, 82), (80, 59), (60, 80), (60, 80), (240, 320)]  # small ones and PNGs: whole
    assert [dataset.raw(i).canvas for i in range(6)] == SIZES
    assert [dataset.raw(i).orig_size for i in range(6)] == SIZES
    whole = training(photos, decode_scale=None)
    assert [whole.raw(i).tiles[0].source.pixels().shape[:2] for i in range(6)] == SIZES
    late = training(photos, late_transforms=[Resize(img_scale=(100, 100)), Pad(size=(100, 100))])
    assert late.raw(0).tiles[0].source.pixels().shape[:2] == (120, 160)
    alone = training(photos, num_samples=1)  # no mosaic would shrink it
    assert alone.raw(0).tiles[0].source.pixels().shape[:2] == (120, 160)


def test_boxes_stay_and_pixels_nearly(photos: Path) -> None:
    reduced, whole = training(photos), training(photos, decode_scale=None)
    for index in range(6):
        item, expected = reduced[index], whole[index]
        for key in ("gt_boxes", "gt_labels"):
            assert torch.equal(item[key], expected[key])
        for key in ("img_id", "orig_size", "img_size", "scale_factor"):
            assert item[key] == expected[key]
        assert (item["img"].float() - expected["img"].float()).abs().mean() < 1.5  # smooth pictures: averages agree


def test_pictures_that_are_needed_whole_are_the_same_to_the_last_bit(photos: Path) -> None:
    large = [Resize(img_scale=(300, 300)), Pad(size=(300, 300))]
    for index in range(6):
        item = training(photos, transforms=large)[index]
        assert torch.equal(item["img"], training(photos, transforms=large, decode_scale=None)[index]["img"])


def test_a_sample_is_a_function_of_its_reference(photos: Path) -> None:
    """Whatever the workers, the cache, where the epoch began, and the other pictures of the set."""
    epochs = []
    for workers, cache_mb, start in ((0, 256, 0), (2, 256, 0), (0, 0, 0), (2, 0, 2), (0, 256, 4)):
        loader = build_data_loader(training(photos, cache_mb=cache_mb), batch_size=2, shuffle=True, num_workers=workers)
        loader.sampler.start = start
        epochs.append([batch["img"] for batch in loader][-1:])
    assert all(torch.equal(epoch[0], epochs[0][0]) for epoch in epochs)
    joined = ConcatDataset([training(photos), training(photos)])
    assert torch.equal(joined[2]["img"], training(photos)[2]["img"])


def test_gray(photos: Path) -> None:
    from hatdet.data.transforms.tensor import ToTensor

    transforms = [Resize(img_scale=(40, 40)), Pad(size=(40, 40)), ToTensor(color="gray")]
    gray = training(photos, transforms=transforms)
    pixels = gray.raw(0).tiles[0].source.pixels()
    assert pixels.shape == (30, 40, 1) and not pixels.flags.writeable
    assert gray[0]["img"].shape == (1, 40, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(48, 64), (49, 67)])
def test_the_exif_turn(size: tuple[int, int], orientation: int) -> None:
    """As for the whole picture; where a rest could come first, whole."""
    data = turned(jpeg(*size, seed=orientation), orientation)
    whole = decode(data)
    few = decode_picture(data, whole.shape[:2], False, 16, 2)
    if size == (49, 67) and orientation != 1:
        assert np.array_equal(few, whole)
    else:
        assert few.shape[:2] == tuple(-(-side // 2) for side in whole.shape[:2])
        averaged = whole[: few.shape[0] * 2 - 2, : few.shape[1] * 2 - 2].astype(float)
        averaged = averaged.reshape(few.shape[0] - 1, 2, few.shape[1] - 1, 2, 3).mean(axis=(1, 3))
        assert np.abs(averaged - few[:-1, :-1]).mean() < 3
    stored = decode_picture(data, size, True, 16, 2)
    assert stored.shape[:2] == tuple(-(-side // 2) for side in size)


def test_a_jpeg_of_gray_levels_has_three_channels() -> None:
    data = cv2.imencode(".jpg", smooth(48, 64)[:, :, 0])[1].tobytes()
    few = decode_picture(data, (48, 64), False, 10, 8)
    assert few.shape == (6, 8, 3) and (few == few[:, :, :1]).all()


def test_the_option_is_checked(photos: Path) -> None:
    with pytest.raises(UserError, match='decode_scale must be "auto" or None, got 2; '):
        training(photos, decode_scale=2)
