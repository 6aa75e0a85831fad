"""Other data sets as COCO json, box by box; checkpoints without what training needs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hatdet.commands.converters import cityscapes, crowdhuman2coco, images2coco, pascal_voc, publish_model
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError


def picture(path: Path, height: int = 6, width: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


VOC = """<annotation><filename>000005.jpg</filename><size><width>8</width><height>6</height><depth>3</depth></size>
<object><name>{name}</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6</ymax></bndbox></object></annotation>"""


def voc(root: Path, name: str = "dog") -> Path:
    for folder in ("Annotations", "ImageSets/Main"):
        (root / "VOC2007" / folder).mkdir(parents=True, exist_ok=True)
    (root / "VOC2007/ImageSets/Main/val.txt").write_text("000005\n")
    (root / "VOC2007/Annotations/000005.xml").write_text(VOC.format(name=name))
    return root


def test_pascal_voc(tmp_path: Path) -> None:
    assert pascal_voc.main([str(voc(tmp_path)), "-o", str(tmp_path / "out")]) == 0
    found = read(tmp_path / "out" / "voc07_val.json")
    assert found["images"] == [{"id": 1, "file_name": "VOC2007/JPEGImages/000005.jpg", "width": 8, "height": 6}]
    (box,) = found["annotations"]
    assert box["bbox"] == [0.0, 1.0, 4.0, 5.0] and box["category_id"] == 12 and box["iscrowd"] == 1
    assert len(found["categories"]) == 20 and found["categories"][11]["name"] == "dog"


def test_pascal_voc_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no VOC data"):
        pascal_voc.main([str(tmp_path)])
    with pytest.raises(UserError, match=r"000005.xml: an object of class 'unicorn'; name the classes with --classes"):
        pascal_voc.main([str(voc(tmp_path, "unicorn"))])
    assert pascal_voc.main([str(tmp_path), "--classes", "unicorn"]) == 0
    (tmp_path / "VOC2007/Annotations/000005.xml").write_text("<annotation></annotation>")
    with pytest.raises(UserError, match=r"000005.xml: no <size/width>; mend that annotation"):
        pascal_voc.main([str(tmp_path)])


def test_a_folder_of_images(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.jpg", "d.bmp"):
        picture(tmp_path / "photos" / name)
    (tmp_path / "classes.txt").write_text("cat\n\ndog\n")
    assert images2coco.main([str(tmp_path / "photos"), str(tmp_path / "classes.txt"), "x.json", "-e", "bmp"]) == 0
    found = read(tmp_path / "annotations" / "x.json")
    assert [(i["file_name"], i["width"], i["height"]) for i in found["images"]] == [("a/c.jpg", 8, 6), ("b.png", 8, 6)]
    assert [c["name"] for c in found["categories"]] == ["cat", "dog"] and found["annotations"] == []
    with pytest.raises(UserError, match="give a name that ends with .json"):
        images2coco.main([str(tmp_path / "photos"), str(tmp_path / "classes.txt"), "x.txt"])


def test_crowdhuman(tmp_path: Path) -> None:
    picture(tmp_path / "Images" / "7.jpg")
    boxes = [{"tag": "person", "fbox": [1, 2, 3, 4]}, {"tag": "mask", "fbox": [0, 0, 2, 2], "extra": {"ignore": 1}}]
    (tmp_path / "annotation_val.odgt").write_text(json.dumps({"ID": "7", "gtboxes": boxes}) + "\n")
    assert crowdhuman2coco.main(["-i", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    found = read(tmp_path / "out" / "crowdhuman_val.json")
    assert [(b["bbox"], b["iscrowd"]) for b in found["annotations"]] == [
        ([1.0, 2.0, 3.0, 4.0], 0),
        ([0.0, 0.0, 2.0, 2.0], 1),
    ]
    (tmp_path / "annotation_val.odgt").write_text("{}\n")
    with pytest.raises(UserError, match=r"annotation_val.odgt, line 1: not a line of CrowdHuman's"):
        crowdhuman2coco.main(["-i", str(tmp_path), "-o", str(tmp_path / "out")])


def test_cityscapes(tmp_path: Path) -> None:
    picture(tmp_path / "leftImg8bit/val/ulm/ulm_1_leftImg8bit.png")
    pixels = np.zeros((6, 8), np.uint16)
    pixels[1:3, 2:6] = 26001  # a car
    pixels[4:, :2] = 24  # persons that nobody took apart
    pixels[0, 0] = 23  # the sky
    truth = tmp_path / "gtFine/val/ulm/ulm_1_gtFine_instanceIds.png"
    truth.parent.mkdir(parents=True)
    cv2.imwrite(str(truth), pixels)
    assert cityscapes.main([str(tmp_path)]) == 0
    found = read(tmp_path / "annotations" / "instancesonly_filtered_gtFine_val.json")
    assert found["images"][0]["file_name"] == "ulm/ulm_1_leftImg8bit.png"
    boxes = [(b["category_id"], b["bbox"], b["area"], b["iscrowd"]) for b in found["annotations"]]
    assert boxes == [(24, [0, 4, 2, 2], 4, 1), (26, [2, 1, 4, 2], 8, 0)]


def test_a_published_checkpoint(tmp_path: Path) -> None:
    state = {"state_dict": {"a": torch.ones(2)}, "optimizer": {"state": {}}, "metadata": {"classes": ["x"]}, "rng": {}}
    save_checkpoint(tmp_path / "c.pth.tar", state)
    assert publish_model.main([str(tmp_path / "c.pth.tar"), str(tmp_path / "out" / "mine.pth.tar")]) == 0
    (found,) = (tmp_path / "out").iterdir()
    assert found.name == f"mine-{hashlib.sha256(found.read_bytes()).hexdigest()[:8]}.pth.tar"
    loaded = load_checkpoint(found)
    assert set(loaded) == {"state_dict", "metadata"} and torch.equal(loaded["state_dict"]["a"], torch.ones(2))
    with pytest.raises(UserError, match=r"has no 'state_dic'; did you mean 'state_dict'"):
        publish_model.main([str(tmp_path / "c.pth.tar"), str(tmp_path / "o.pth"), "--save-keys", "state_dic"])
