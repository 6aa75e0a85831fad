"""Pascal VOC's folders as a data set."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from hatdet.building import Builder
from hatdet.config.mmdetection.data.datasets import DatasetTranslator
from hatdet.data.datasets.voc import VOCDataset, as_coco
from hatdet.utils.errors import UserError
from tests.helpers.samples import smooth

XML = """<annotation><filename>{name}.jpg</filename><size><width>60</width><height>40</height></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>31</xmax><ymax>36</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>21</xmax><ymax>21</ymax></bndbox></object>
<object><name>unicorn</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    year = tmp_path / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (year / folder).mkdir(parents=True)
    for i, name in enumerate(("000001", "000002")):
        cv2.imwrite(str(year / "JPEGImages" / f"{name}.jpg"), smooth(40, 60, i))
        (year / "Annotations" / f"{name}.xml").write_text(XML.format(name=name))
    (year / "ImageSets" / "Main" / "train.txt").write_text("000001\n000002\n")
    return tmp_path


def test_boxes_are_mmdetections(devkit: Path) -> None:
    folder = devkit / "VOC2007" / "Annotations"
    content = as_coco(["000001"], folder, "JPEGImages", ("cat", "dog"), least_side=0)
    found = {box["category_id"]: (box["bbox"], box["iscrowd"]) for box in content["annotations"]}
    assert found == {2: ([10, 5, 20, 30], 0), 1: ([0, 0, 20, 20], 1)}  # corners less 1; difficult: ignored
    small = as_coco(["000001"], folder, "JPEGImages", ("dog",), least_side=25)
    assert [box["iscrowd"] for box in small["annotations"]] == [1]
    assert content["images"] == [{"id": 1, "file_name": "JPEGImages/000001.jpg", "width": 60, "height": 40}]


def test_the_data_set(devkit: Path) -> None:
    data = VOCDataset(devkit, "VOC2007/ImageSets/Main/train.txt", "VOC2007", transforms=[], crowds=True)
    assert len(data) == 2 and len(data.classes) == 20
    item = data[1]
    assert item["img"].shape == (3, 40, 60) and item["gt_boxes"].tolist() == [[10, 5, 30, 35]]
    assert data.classes[int(item["gt_labels"][0])] == "dog" and item["gt_ignore"].tolist() == [[0, 0, 20, 20]]
    again = VOCDataset(devkit, "VOC2007/ImageSets/Main/train.txt", "VOC2007", transforms=[], classes=["dog"])
    assert again.classes == ("dog",)
    with pytest.raises(UserError, match=r"no\.txt does not exist"):
        VOCDataset(devkit, "no.txt", "VOC2007", transforms=[])


def test_both_versions_of_its_config(devkit: Path) -> None:
    steps = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
    new = dict(
        type="VOCDataset", data_root=f"{devkit}/", ann_file="VOC2007/ImageSets/Main/train.txt",
        data_prefix=dict(sub_data_root="VOC2007/"), pipeline=steps,
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=25),
    )  # fmt: skip
    old = dict(
        type="VOCDataset", ann_file=[f"{devkit}/VOC2007/ImageSets/Main/train.txt"] * 2,
        img_prefix=[f"{devkit}/VOC2007/"] * 2, pipeline=steps,
    )  # fmt: skip
    first = Builder().build(DatasetTranslator(3, True).translate(new, "data"), "data")
    second = Builder().build(DatasetTranslator(2, True).translate(old, "data"), "data")
    assert len(first) == 2 and len(second) == 4
    assert len(first[0]["gt_ignore"]) == 2 and len(second[0]["gt_ignore"]) == 1  # the dog is 20 px wide
    assert second[3]["gt_boxes"].tolist() == [[10, 5, 30, 35]]
