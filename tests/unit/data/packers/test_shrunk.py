"""Pictures stored smaller than their files: what is learned from follows, what an evaluation counts in stays."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hatdet.commands.align_bpu_validation.comparison import raw_picture
from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.datasets.drawing import whole_picture
from hatdet.data.image_file import check_image, decode_deep
from hatdet.data.packers import freshness
from hatdet.data.packers.freshness import PackOptions
from hatdet.data.packers.image_task import _shape
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.transforms.geometry import Pad, Resize
from hatdet.metrics.coco import COCODetectionMetric
from hatdet.utils.errors import UserError
from tests.unit.data.conftest import make_image


def packed_to(root: Path, max_side: int | None, lines: list[str] | None = None) -> Path:
    target = root / f"packed{max_side}" / "train_lmdb"
    log = (lambda line: None) if lines is None else lines.append
    file = root / "annotations" / "instances_train.json"
    pack_coco(file, root / "train", target, PackOptions(max_side), num_workers=0, quiet=True, log=log)
    return target


def val(path: Path, size: int = 32) -> CocoFromLMDB:
    return CocoFromLMDB(path, transforms=[Resize(img_scale=(size, size)), Pad(size=(size, size))], test_mode=True)


def test_ground_truth_is_that_of_the_files(coco_root: Path) -> None:
    """Boxes, areas, crowds and sizes, to the last bit: small, medium and large objects are what they were."""
    whole, shrunk = (val(packed_to(coco_root, side)) for side in (None, 45))
    assert shrunk.coco_annotations() == whole.coco_annotations()
    json_file = json.loads((coco_root / "annotations" / "instances_train.json").read_text())
    size_of = {image["id"]: (image["width"], image["height"]) for image in json_file["images"]}
    assert all((im["width"], im["height"]) == size_of[im["id"]] for im in shrunk.coco_annotations()["images"])


def test_a_sample_goes_back_to_the_files_pixels(coco_root: Path) -> None:
    whole, shrunk = (val(packed_to(coco_root, side)) for side in (None, 45))
    assert shrunk.store.picture(4).size == (10, 45)  # of 21 x 90
    for index in range(9):
        a, b = whole[index], shrunk[index]
        assert a["orig_size"] == b["orig_size"] and a["img_id"] == b["img_id"]
        factors = torch.tensor([*b["scale_factor"], *b["scale_factor"]], dtype=torch.float64)
        bbox = torch.from_numpy(shrunk.store.boxes(index).bbox[~shrunk.store.boxes(index).iscrowd].copy())
        corners = torch.cat([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]], 1)
        torch.testing.assert_close(b["gt_boxes"].double() / factors, corners, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("max_side", [None, 45, 30])
def test_perfect_detections_score_alike(coco_root: Path, max_side: int | None) -> None:
    """Detections at the network's input, divided by scale_factor, against ground truth: AP of 1, sizes as before."""
    dataset = val(packed_to(coco_root, max_side))
    metric = COCODetectionMetric(dataset=dataset)
    for index in range(len(dataset)):
        item = dataset[index]
        boxes = item["gt_boxes"] / torch.tensor([*item["scale_factor"], *item["scale_factor"]])
        found = {"boxes": boxes, "scores": torch.ones(len(boxes)), "labels": item["gt_labels"]}
        metric.update([found], {"img_id": torch.tensor([item["img_id"]])})
    values = metric.compute()
    assert values["AP"] == 1.0 and values["APs"] == 1.0 and values["APl"] == -1


def test_evaluation_on_shrunk_pictures_says_so(coco_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = packed_to(coco_root, 45)
    with caplog.at_level(logging.WARNING, "hatdet"):
        CocoFromLMDB(path, transforms=[])
        val(packed_to(coco_root, None))
        assert not caplog.messages
        val(path)
        val(path, 96)
    assert caplog.messages[0] == (
        f"{path}: 7 pictures were shrunk to 45 px when they were packed: scores are not those of whole pictures, which "
        "a device sees: pack validation data without --max-side (max_side)"
    )
    assert caplog.messages[1] == f"{caplog.messages[0]}; the transforms enlarge them again: the network takes 96 px"


def test_the_proof_of_what_a_device_computes_refuses_shrunk_pictures(coco_root: Path) -> None:
    dataset = val(packed_to(coco_root, 45))
    with pytest.raises(UserError, match=r"04\.png was shrunk when it was packed \(--max-side\): a device sees whole"):
        raw_picture(dataset, 4)
    assert raw_picture(dataset, 8).shape == (29, 31, 3)


def test_drawings_have_the_files_size(coco_root: Path) -> None:
    dataset = val(packed_to(coco_root, 45))
    assert whole_picture(dataset.raw(4)).shape == (21, 90, 3) and whole_picture(dataset.raw(8)).shape == (29, 31, 3)
    gray = CocoFromLMDB(dataset.data_path, transforms=[])
    sample = gray.raw(3)  # 4 of those with boxes
    sample.tiles[0].source.pixels = lambda: np.zeros((10, 45, 1), np.uint8)
    assert whole_picture(sample).shape == (21, 90, 1)


def test_what_an_earlier_version_shrunk_is_packed_anew_or_told(
    coco_root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(freshness, "RULES_SHRUNK", 2)
        path = packed_to(coco_root, 45)
    with caplog.at_level(logging.WARNING, "hatdet"):
        CocoFromLMDB(path, transforms=[])
    [message] = caplog.messages
    assert message.startswith(f"{path} was packed with --max-side by an earlier version: evaluation counts in pixels")
    lines: list[str] = []
    packed_to(coco_root, 45, lines)
    assert lines[0].endswith("it was packed by an earlier version, with other rules for shrunk pictures")
    with monkeypatch.context() as patch:  # without max_side nothing has changed
        patch.setattr(freshness, "RULES_SHRUNK", 4)
        packed_to(coco_root, None)
        packed_to(coco_root, None, lines)
    assert "is complete and up to date" in lines[-1]


def test_a_config_with_max_side_trains_and_validates(coco_root: Path) -> None:
    settings: dict[str, Any] = {"ann_file": "annotations/instances_train.json", "img_prefix": "train", "transforms": []}
    dataset = CocoDataset(data_root=coco_root, max_side=45, test_mode=True, **settings)
    assert dataset[4]["img"].shape == (3, 10, 45) and dataset[4]["orig_size"] == (21, 90)
    assert dataset[4]["scale_factor"] == (0.5, 10 / 21)


# ------------------------------------------------------------------------------- the size of a JPEG, found sooner
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 8), (17, 40), (64, 57), (120, 121), (240, 320), (333, 16)])
@pytest.mark.parametrize("settings", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_size_of_a_jpeg_is_that_of_its_decoding(size: tuple[int, int], settings: Any, channels: int) -> None:
    picture = make_image(*size, 3)[..., :channels]
    plain = cv2.imencode(".jpg", picture, settings)[1].tobytes()
    for orientation in range(9):
        data = plain if orientation == 0 else turned(plain, orientation)
        height, width = decode_deep(data).shape[:2]
        assert _shape(data, check_image(data)) in ((width, height), None)
    height, width = size
    if -(-height // 8) != -(-width // 8) or height == width:  # an eighth tells
        assert _shape(plain, check_image(plain)) == (width, height)
        assert _shape(turned(plain, 6), check_image(plain)) == (height, width)
    else:
        assert _shape(plain, check_image(plain)) is None


def turned(data: bytes, orientation: int) -> bytes:
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
