"""``hatdet init``: the config that it writes loads, is checked as a whole and says what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hatdet.commands.init import choices, reading, text
from hatdet.commands.init.choices import Choice
from hatdet.commands.init.command import main
from hatdet.config.load import load_config
from hatdet.engine.checks.arithmetic import config_arithmetic
from hatdet.utils.errors import UserError
from tests.helpers.folders import write_voc, write_yolo
from tests.integration.mini_coco import mini_coco


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return mini_coco(tmp_path / "my-data", count=5)


def edit(data: Path, split: str, change: Any) -> None:
    file = data / "annotations" / f"instances_{split}2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_the_config_loads_and_fits_the_data(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["my-data", "--memory", "4", "--target", "ethos-u55-64"]) == 0
    config = load_config("my_data.py")
    assert (config["data_root"], config["num_classes"], config["target"]) == ("my-data", 2, "ethos-u55-64")
    assert (config["epochs"], config["batch_size"], config["scale_ratio"]) == (300, 4, (0.6, 1.4))
    config.validate("float_trainer", "qat_trainer")
    out = capsys.readouterr().out
    assert "my-data: COCO, 5 pictures to train with, 5 to validate, 2 classes\n" in out
    assert "objects in train: square " in out and "below 100 pictures, labelling more is cheaper" in out
    assert "\nwrote my_data.py; next:\n  python tools/train.py --stage float my_data.py\n" in out


def test_counting_gets_fomo_where_it_is_asked_for(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["my-data", "--memory", "4", "--model", "fomo"]) == 0
    config = load_config("my_data.py")
    assert (config["model"]["type"], config["num_classes"], config["monitor"]) == ("FOMO", 2, "F1")
    assert Path("my_data.py").read_text().startswith('"""my-data: FOMO for tflite. Written by')
    config.validate("float_trainer", "qat_trainer")
    assert "of the objects are below 16 px, two cells, there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "target", "arithmetic", "why"),
    [
        ([], "tflite", "tflite_ref", "TensorFlow Lite Micro's, for it may be a microcontroller; for phones and"),
        (["--board", "esp32-s3"], "tflite", "tflite_ref", "TensorFlow Lite Micro's, for it may be a microcontroller"),
        (["--target", "ethos-u55-64"], "ethos-u55-64", "tflite_ref", "ethos-u55-64 is tested by its maker against"),
        (["--target", "litert-xnnpack"], "litert-xnnpack", "xnnpack", "what litert-xnnpack computes, as programs open"),
        (["--board", "rpi"], "litert-xnnpack", "xnnpack", "what litert-xnnpack computes, as programs open LiteRT"),
        (["--board", "rpi", "--target", "tflite"], "tflite", "tflite_ref", "TensorFlow Lite Micro's, for it may be"),
        (["--target", "onnx"], "onnx", "tflite_ref", "onnx takes any; a file for microcontrollers can be made"),
    ],
)
def test_the_arithmetic_is_the_devices_and_says_why(
    data: Path, words: list[str], target: str, arithmetic: str, why: str
) -> None:
    main(["my-data", "--memory", "4", *words])
    config = load_config("my_data.py")
    assert (config["target"], config["arithmetic"]) == (target, arithmetic)
    assert config_arithmetic(config) == arithmetic
    lines = Path("my_data.py").read_text().splitlines()
    assert lines[lines.index(f'arithmetic = "{arithmetic}"') - 1].startswith(f"# {why}")


def test_a_board_is_refused_by_its_name(data: Path) -> None:
    with pytest.raises(UserError, match="unknown board 'raspbery-pi'; did you mean 'raspberry-pi'"):
        main(["my-data", "--board", "raspbery-pi"])
    with pytest.raises(UserError, match="--board coral runs tflite, not --target onnx"):
        main(["my-data", "--board", "coral", "--target", "onnx"])


def test_nothing_is_replaced_unasked(data: Path) -> None:
    Path("my_data.py").write_text("mine")
    with pytest.raises(UserError, match=r"^my_data.py is there already; give --overwrite"):
        main(["my-data"])
    assert main(["my-data", "--dry-run"]) == 0 and Path("my_data.py").read_text() == "mine"
    assert main(["my-data", "--overwrite"]) == 0 and Path("my_data.py").read_text() != "mine"


def test_splits_that_list_different_classes_have_them_named(data: Path) -> None:
    def add(content: dict[str, Any]) -> None:
        content["categories"].append({"id": 9, "name": "tri\"angle"})
        content["annotations"][0]["category_id"] = 9

    edit(data, "val", add)
    main(["my-data", "--model", "tiny"])
    config = load_config("my_data.py")
    assert (config["classes"], config["num_classes"]) == (("square", "disc", 'tri"angle'), 3)
    assert config["deepen_factor"] == 0.167
    found = reading.survey(data)
    assert found.counts[2] == 0
    assert any("no object of tri_angle in train" in line for line in text.findings(found, chosen()))


def chosen() -> dict[str, Choice]:
    values = {"model": "nano", "imgsz": (320, 320), "epochs": 60, "recipe": "small", "batch_size": 8}
    values |= {"arithmetic": "tflite_ref"}
    return {name: Choice(value, "so") for name, value in values.items()}


def test_a_training_of_many_samples_gets_the_other_recipe(data: Path, tmp_path: Path) -> None:
    """As the config of a training that decides itself: 100 000 pictures x 30 epochs are more than the limit."""
    values = {**chosen(), "recipe": choices.recipe(100_000, 30)}
    (tmp_path / "c.py").write_text(text.config_text(reading.survey(data), values, "tflite"))
    written = (tmp_path / "c.py").read_text()
    assert "# 100000 pictures x 30 epochs = 3 000 000 samples, 2 000 000 or more\nrecipe = \"large\"\n" in written
    assert load_config(tmp_path / "c.py")["lr"] == 1e-3
    assert choices.recipe(677, 60).value == "small"


def test_every_format_that_training_reads_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The boxes are those that the folders' writers put down: 16 x 12 of YOLO, 10 x 20 of VOC."""
    monkeypatch.chdir(tmp_path)
    yolo = reading.survey(write_yolo(tmp_path / "yolo"))
    assert (yolo.format, yolo.classes, yolo.counts) == ("YOLO", ("cat", "dog"), (2, 2))
    assert yolo.train == (reading.Picture(64, 48, ((16.0, 12.0),)),) * 4 and len(yolo.val) == 2
    voc = reading.survey(write_voc(tmp_path / "voc"))
    assert (voc.format, voc.counts, voc.train[0].boxes) == ("Pascal VOC", (1, 1), ((10.0, 20.0),))
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    assert main(["yolo/data.yaml"]) == 0
    config = load_config("yolo.py")
    assert (config["data_root"], config["num_classes"]) == ("yolo/data.yaml", 2)
    assert "yolo/data.yaml: YOLO, 4 pictures to train with, 2 to validate, 2 classes\n" in capsys.readouterr().out
    config.validate("float_trainer", "qat_trainer")


def test_a_yolo_set_without_a_validation_split_is_told_to_be_divided(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "yolo", val=0)
    (root / "data.yaml").unlink()
    message = r"\(YOLO\) has no pictures of the split 'val' \(pictures: train 4\); divide it"
    with pytest.raises(UserError, match=message):
        reading.survey(root)


def test_names_from_outside_are_no_code(tmp_path: Path) -> None:
    """A name that would end a comment, or the docstring, stays in it."""
    root = tmp_path / 'x"""\nraise SystemExit(3)\n"""'
    classes = ("a\nraise SystemExit(4)", "b")
    picture = reading.Picture(10, 10, ((1.0, 1.0),))
    found = reading.Survey(root, "COCO", classes, (picture,), (picture,), (1, 0))
    file = tmp_path / "c.py"
    file.write_text(text.config_text(found, chosen(), "tflite"))
    assert load_config(file)["data_root"] == str(root)


def test_sizes_that_the_json_lacks_are_read_from_the_pictures(data: Path) -> None:
    whole = reading.survey(data)
    edit(data, "train", lambda content: [image.pop("width") for image in content["images"]])
    assert reading.survey(data).train == whole.train


def test_crowds_are_no_objects(data: Path) -> None:
    before = reading.survey(data)
    whole = before.train[0].boxes
    edit(data, "train", lambda content: content["annotations"][0].update(iscrowd=1))
    after = reading.survey(data)
    assert len(after.train[0].boxes) == len(whole) - 1 and sum(after.counts) == sum(before.counts) - 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no folder nowhere; name the folder of a data set"),
        (["my-data", "--target", "ethos"], "unknown target 'ethos'"),
        (["my-data", "--memory", "0"], "--memory 0: give the GiB that a training may use"),
        (["my-data", "--memory", "nan"], "--memory nan: give the GiB that a training may use"),
        (["my-data", "--memory", "inf"], "--memory inf: give the GiB that a training may use"),
        (["my-data", "--out", "x.json"], "--out x.json: a config is a Python file; give a name that ends with .py"),
        (["."], "the annotation file annotations/instances_train2017.json does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(data: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        main(words)
    assert str(caught.value).startswith(message)


def test_a_split_without_boxes_is_refused(data: Path) -> None:
    edit(data, "val", lambda content: content["annotations"].clear())
    with pytest.raises(UserError, match="the split 'val' has no box; label some pictures"):
        main(["my-data"])


def test_a_split_of_crowds_alone_is_refused(data: Path) -> None:
    edit(data, "train", lambda content: [one.update(iscrowd=1) for one in content["annotations"]])
    with pytest.raises(UserError, match="the split 'train' has no box"):
        main(["my-data"])
