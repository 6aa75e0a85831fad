"""What a config's data_root finds: as named, as the packer finds it, packed, or a message on its contents."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from hatdet.commands.mscoco_packer import main
from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.packers.formats import READ_HERE, recognise
from hatdet.data.packers.layouts import find_source, locate
from hatdet.data.packers.places import split_of
from hatdet.utils.errors import UserError
from tests.helpers.folders import write_voc, write_yolo

TRAIN: dict[str, Any] = {"ann_file": "annotations/instances_train2017.json", "img_prefix": "train2017/"}
VAL: dict[str, Any] = {"ann_file": "annotations/instances_val2017.json", "img_prefix": "val2017/"}


def dataset(root: Path, split: dict[str, Any] = TRAIN, **options: Any) -> CocoDataset:
    return CocoDataset(**{"data_root": root, "transforms": [], **split, **options})


@pytest.fixture
def roboflow(coco_root: Path, tmp_path: Path) -> Path:
    root = tmp_path / "roboflow"
    for split, name in (("train", "train"), ("train", "valid")):
        shutil.copytree(coco_root / split, root / name)
        shutil.copy(coco_root / "annotations" / "instances_train.json", root / name / "_annotations.coco.json")
    return root


def test_the_defaults_of_a_config_find_a_roboflow_folder(roboflow: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hatdet"):
        train, val = dataset(roboflow), dataset(roboflow, VAL)
    assert (train.ann_file, train.img_dir) == (roboflow / "train" / "_annotations.coco.json", roboflow / "train")
    assert (val.ann_file, val.img_dir) == (roboflow / "valid" / "_annotations.coco.json", roboflow / "valid")
    assert len(train) == len(val) == 8
    missing = roboflow / "annotations"
    assert caplog.messages == [
        f"{missing}/instances_train2017.json does not exist: the split 'train' is taken from {train.ann_file}",
        f"{missing}/instances_val2017.json does not exist: the split 'val' is taken from {val.ann_file}",
    ]


def test_the_defaults_find_names_without_the_year(coco_root: Path) -> None:
    assert dataset(coco_root).ann_file.name == "instances_train.json"
    assert dataset(coco_root, ann_file="annotations/instances_train.json").img_dir == coco_root / "train"
    (coco_root / "images").mkdir()
    (coco_root / "train").rename(coco_root / "images" / "train2017")
    assert dataset(coco_root).img_dir == coco_root / "images" / "train2017"


def test_a_folder_packed_beforehand_is_trained_from(roboflow: Path, tmp_path: Path) -> None:
    """The README's own command, then data_root=packed."""
    for split in ("train", "val"):
        main(["--src-data-dir", str(roboflow), "--target-data-dir", str(tmp_path / "packed"), "--split-name", split])
    shutil.rmtree(roboflow)
    train, val = dataset(tmp_path / "packed"), dataset(tmp_path / "packed", VAL)
    assert train.data_path == tmp_path / "packed" / "train_lmdb" and val.data_path.name == "val_lmdb"
    assert train.classes == ("bar", "dot", "box") and len(train) == 8
    with pytest.raises(UserError, match=r"was packed with --max-side None, the config says max_side=40"):
        dataset(tmp_path / "packed", max_side=40)
    shutil.rmtree(tmp_path / "packed" / "val_lmdb")
    with pytest.raises(UserError, match=r"packed holds train_lmdb: pack val too \(tools/mscoco_packer\.py --split"):
        dataset(tmp_path / "packed", VAL)
    with pytest.raises(UserError, match="train_lmdb is one packed split: name the folder that holds train_lmdb and"):
        dataset(tmp_path / "packed" / "train_lmdb")


def test_a_packed_folder_older_than_its_json_is_said(
    roboflow: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    main(["--src-data-dir", str(roboflow), "--target-data-dir", str(tmp_path / "packed"), "--split-name", "train"])
    dataset(tmp_path / "packed")
    assert "has changed since" not in caplog.text
    file = roboflow / "train" / "_annotations.coco.json"
    file.write_text(file.read_text() + "\n")
    dataset(tmp_path / "packed")
    assert f"train_lmdb was packed from {file}, which has changed since: pack it again" in caplog.text


def test_packed_beside_its_source_the_source_counts(roboflow: Path) -> None:
    main(["--src-data-dir", str(roboflow), "--target-data-dir", str(roboflow), "--split-name", "train"])
    assert dataset(roboflow).ann_file == roboflow / "train" / "_annotations.coco.json"


def test_a_config_that_wants_packed_data_says_how_to_pack_it(roboflow: Path) -> None:
    command = f"tools/mscoco_packer.py --src-data-dir {roboflow} --target-data-dir {roboflow} --split-name train"
    with pytest.raises(UserError, match=f"train_lmdb does not exist; make it with {command} "):
        CocoFromLMDB(data_path=roboflow / "train_lmdb", transforms=[])


@pytest.mark.parametrize("write", [write_yolo, write_voc])
def test_folders_of_other_formats_are_packed_as_they_are(tmp_path: Path, write: Any) -> None:
    """What is trained from the packed folder is what is trained from the folder itself."""
    root = write(tmp_path / "set")
    main(["--src-data-dir", str(root), "--target-data-dir", str(tmp_path / "out"), "--split-name", "train"])
    packed = CocoFromLMDB(data_path=tmp_path / "out" / "train_lmdb", transforms=[])
    plain = dataset(root)
    assert packed.classes == plain.classes == ("cat", "dog") and len(packed) == len(plain) > 0
    for one, other in zip(packed, plain, strict=True):
        assert one["gt_boxes"].tolist() == other["gt_boxes"].tolist()
        assert one["gt_labels"].tolist() == other["gt_labels"].tolist()
        assert one["img"].equal(other["img"])
    with pytest.raises(UserError, match="has no pictures of the split 'test'"):
        main(["--src-data-dir", str(root), "--target-data-dir", str(tmp_path / "out"), "--split-name", "test"])


def test_two_that_can_be_meant_are_named(roboflow: Path, coco_root: Path) -> None:
    (roboflow / "annotations").mkdir()
    shutil.copy(coco_root / "annotations" / "instances_train.json", roboflow / "annotations")
    message = (
        r"2017\.json does not exist, and more than one can be meant: .*/annotations/instances_train\.json"
        r", .*/train/_annotations\.coco\.json; name one \(ann_file and img_prefix\)"
    )
    with pytest.raises(UserError, match=message):
        dataset(roboflow)


def test_the_packer_says_which_of_two_it_takes(
    roboflow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(roboflow / "train" / "_annotations.coco.json", roboflow / "instances_train.json")
    main(["--src-data-dir", str(roboflow), "--target-data-dir", str(tmp_path / "p"), "--split-name", "train"])
    other = roboflow / "train" / "_annotations.coco.json"
    line = f"warning: {roboflow}/instances_train.json is packed; there is {other} too: name one with --ann-file"
    assert line in capsys.readouterr().err


def test_a_name_of_the_users_own_is_never_replaced(coco_root: Path) -> None:
    with pytest.raises(UserError, match=r"annotation file .*/annotations/mine\.json does not exist; name one \("):
        dataset(coco_root, ann_file="annotations/mine.json")
    with pytest.raises(UserError, match="image folder .*/pictures does not exist"):
        dataset(coco_root, ann_file="annotations/instances_train.json", img_prefix="pictures")


def test_a_folder_too_high_or_too_low_is_named(roboflow: Path) -> None:
    for near in (roboflow.parent, roboflow / "train", roboflow / "valid"):
        with pytest.raises(UserError, match=rf"; did you mean the folder {roboflow}\?"):
            locate(near, **TRAIN)
    with pytest.raises(UserError, match=r"does not exist: .*/nothing is not there; name one \(ann_file, data_root\)$"):
        locate(roboflow / "nothing", **TRAIN)


def test_the_folder_of_the_jsons_is_no_data_set(coco_root: Path) -> None:
    with pytest.raises(UserError, match=rf"no other of the split 'train' .*; did you mean the folder {coco_root}\?"):
        dataset(coco_root / "annotations")
    for picture in (coco_root / "train").iterdir():
        shutil.copy(picture, coco_root / "annotations")
    assert len(dataset(coco_root / "annotations")) == 8


def test_coco_files_under_other_names_are_named(coco_root: Path) -> None:
    file = coco_root / "annotations" / "instances_train.json"
    file.rename(coco_root / "annotations" / "all.json")
    message = r"under other names \(annotations/all\.json\): name one with train_ann_file, its pictures with train_img"
    with pytest.raises(UserError, match=message):
        dataset(coco_root)
    with pytest.raises(UserError, match=r"other names \(annotations/all\.json\): name one with --ann-file"):
        find_source(coco_root, "train", None, None)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("/data/annotations/instances_val2014.json", "val"),
        ("instances_valid.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("test/_annotations.coco.json", "test"),
        ("annotations/instances_default.json", None),
        ("annotations/mine_train.json", None),
        ("_annotations.coco.json", None),
    ],
)
def test_split_of(name: str, split: str | None) -> None:
    assert split_of(name) == split


# -------------------------------------------------------------------------------------------- other formats
FILES: dict[str, dict[str, str]] = {
    "YOLO": {"data.yaml": "names: [a, b]\n", "labels/train/1.txt": "0 0.5 0.5 0.1 0.2\n", "images/train/1.jpg": ""},
    "YOLO ": {"1.jpg": "", "1.txt": "12 0.25 0.5 1e-1 .25 \n", "classes.txt": "a\n"},
    "Pascal VOC": {"VOC2012/Annotations/1.xml": "<annotation>\n<object/></annotation>", "VOC2012/JPEGImages/1.jpg": ""},
    "CVAT": {"annotations.xml": "<?xml version='1.0'?>\n<annotations><version>1.1</version></annotations>"},
    "LabelMe": {"1.json": '{"version": "5.0", "flags": {}, "shapes": [], "imagePath": "1.jpg"}', "1.jpg": ""},
    "CreateML": {"_annotations.createml.json": '[{"image": "1.jpg", "annotations": []}]', "1.jpg": ""},
    "VIA": {"via.json": '{"1.jpg": {"regions": [{"region_attributes": {}}]}}'},
    "Supervisely": {"ds/ann/1.json": '{"size": {}, "objects": [{"classTitle": "a"}]}'},
    "Label Studio": {"x.json": '[{"annotations": [{"result": [{"from_name": "label"}]}]}]'},
    "TFRecord": {"train/a.tfrecord": "x"},
    "CSV": {"train/_annotations.csv": "filename,width,height,class,xmin\n"},
}


@pytest.mark.parametrize("name", FILES)
def test_other_formats_are_recognised_by_name(tmp_path: Path, name: str) -> None:
    for file, text in FILES[name].items():
        (tmp_path / "set" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / file).write_text(text)
    for call in (lambda: locate(tmp_path / "set", **TRAIN), lambda: find_source(tmp_path / "set", "train", None, None)):
        with pytest.raises(UserError) as error:
            call()
        text = str(error.value)
        assert f"set holds a data set in {name.strip()} format (" in text and "\n" not in text
        here = name.strip() in READ_HERE
        assert ("tools/data.py convert" if here else "hatdet reads COCO json: convert it, e.g. with") in text


def test_contents_that_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert recognise(tmp_path / "empty") == f"{tmp_path}/empty is empty"
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.jpg").touch()
    assert recognise(tmp_path / "pictures") == f"{tmp_path}/pictures holds pictures (1.jpg) and no annotations"
    for name in ("cat", "dog"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        (tmp_path / "classes" / name / "1.jpg").touch()
    assert "folders for classes are packed with tools/image_folder_packer.py" in recognise(tmp_path / "classes")
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / "set.zip").touch()
    assert recognise(tmp_path / "zipped").endswith("holds archives (set.zip): unpack them first")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "setup.json").write_text(json.dumps({"images": 1}))
    assert "no data set that is known here" in recognise(tmp_path / "odd")


def test_absolute_names_need_no_data_root(coco_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the packed copy goes where that of read-only data goes, and no folder is made up for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HATDET_CACHE", raising=False)
    names = {"ann_file": coco_root / "annotations" / "instances_train.json", "img_prefix": coco_root / "train"}
    data = dataset(tmp_path / "nothing", names)
    assert len(data) == 8 and data.data_path.parent == tmp_path / "home" / "hatdet"
    assert not (tmp_path / "nothing").exists()
