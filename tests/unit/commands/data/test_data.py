"""tools/data.py as a user runs it: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from hatdet.commands.data.command import TASKS, main
from hatdet.utils.errors import UserError
from tests.helpers.folders import write_voc, write_yolo


def test_check_of_a_good_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_yolo(tmp_path / "set")
    assert main(["check", str(root)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{root}: YOLO, 6 pictures (train 4, val 2), 6 boxes, 2 classes (cat, dog)",
        "no errors, 0 notes",
    ]


def test_check_says_what_is_wrong_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_yolo(tmp_path / "set")
    (root / "labels" / "train" / "0.txt").write_text("7 0.5 0.5 0.5 0.5\r\n0 0.99 0.5 0.2 0.2\r\n")
    (root / "images" / "val" / "5.png").write_bytes((root / "images" / "train" / "1.png").read_bytes())
    assert main(["check", str(root), "--out", str(tmp_path / "out" / "f.json")]) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out[1:-1]] == ["error"] * 4
    assert out[-1] == "4 kinds of errors, 0 notes"
    found = json.loads((tmp_path / "out" / "f.json").read_text())
    assert {finding["what"]: finding["count"] for finding in found} == {
        "class number without a name, box left out": 1,
        "box that reaches out of its picture (clipped)": 1,
        "the same picture in two splits (AP is too high)": 1,
        "the same picture with other boxes": 1,
    }


def test_convert_and_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_voc(tmp_path / "voc")
    assert main(["convert", str(root), str(tmp_path / "yolo"), "--to", "yolo", "--pictures", "link"]) == 0
    assert (tmp_path / "yolo" / "images" / "train" / "a.jpg").is_symlink()
    labels = tmp_path / "yolo" / "labels" / "val" / "c.txt"
    assert labels.read_text() == "1 0.078125 0.229166667 0.15625 0.416666667\n"
    words = ["split", str(tmp_path / "yolo"), str(tmp_path / "again"), "--val", "0.4", "--format", "yolo"]
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-5:] == [
        "             train      val",
        "pictures   2 (67%)  1 (33%)",
        "cat       1 (100%)   0 (0%)",
        "dog        1 (50%)  1 (50%)",
        f"wrote {tmp_path / 'again'}: yolo, 3 pictures, 3 boxes",
    ]
    assert (tmp_path / "again" / "data.yaml").is_file()


def test_convert_into_this_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    main(["convert", str(write_yolo(tmp_path / "set")), ".", "--to", "coco"])
    assert (tmp_path / "out" / "annotations" / "instances_val.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "ROOT/nowhere"], "does not exist; name the folder"),
        (["check", "ROOT", "--out", "x.txt"], "give a name that ends with .json"),
        (["check", "ROOT", "--num-workers", "-1"], "give 0"),
        (["check", "ROOT", "--format", "coco"], "no COCO json"),
        (["split", "ROOT", "OUT", "--val", "1"], "--val 1: give a share"),
        (["split", "ROOT", "OUT", "--likeness", "0"], "--likeness 0: give a correlation"),
        (["split", "ROOT", "OUT", "--seed", "-1"], "--seed -1: give a whole number"),
        (["split", "ROOT", "OUT", "--keep", "test"], "has no such split; it has train, val"),
        (["split", "ROOT", "OUT", "--keep", "train"], "name val or test"),
        (["browse", "ROOT/config.py", "--cell", "100000"], "32 to 2048 pixels"),
        (["convert", "ROOT", "ROOT", "--to", "coco"], "name a new one"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, words: list[str], message: str) -> None:
    root = write_yolo(tmp_path / "set")
    words = [word.replace("ROOT", str(root)).replace("OUT", str(tmp_path / "out")) for word in words]
    with pytest.raises(UserError, match=message):
        main(words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", TASKS)
def test_help_of_each_task(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([task, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert (TASKS[task][0].__doc__ or "").splitlines()[0] in out


def test_an_unknown_task_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["chek", "x"])
    assert "check" in capsys.readouterr().err


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_yolo(tmp_path / "set")
    (root / "labels" / "train" / "0.txt").write_text("")
    (root / "labels" / "train" / "1.txt").write_text("0 0.99 0.5 0.2 0.2\n")
    (root / "images" / "val" / "5.png").write_bytes((root / "images" / "train" / "2.png").read_bytes())
    out = tmp_path / "deep" / "r.html"
    assert main(["report", str(root), "-o", str(out), "--imgsz", "48", "64"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {out}"
    text = out.read_text(encoding="utf-8")
    for part in (
        "Box sizes at 48x64", "under 2 pixels of 0.0%, under 8 pixels of 0.0%, under 16 pixels of 100.0%",
        "train/2.png is val/5.png", "1 of 6 pictures have no box", "1 box outside the picture",
        "The 3 most suspicious pictures",
    ):  # fmt: skip
        assert part in text, part
    assert text.count("data:image/jpeg;base64,") == 3
    with pytest.raises(UserError, match=r"ends with \.html"):
        main(["report", str(root), "-o", str(tmp_path / "r.pdf")])


CONFIG = """
float_trainer = dict(
    data_loader=dict(
        type="build_data_loader", batch_size=2,
        dataset=dict(
            type="CocoDataset", data_root="{root}", ann_file="instances_train.json", img_prefix="train/",
            transforms=[dict(type="Resize", img_scale=(32, 32)), dict(type="RandomFlip", px=1.0)],
            late_transforms=[dict(type="Resize", img_scale=(32, 32))],
        ),
    ),
)
"""


def test_browse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_yolo(tmp_path / "set")
    (tmp_path / "c.py").write_text(CONFIG.format(root=root))
    out = tmp_path / "deep" / "s.png"
    assert main(["browse", str(tmp_path / "c.py"), "-o", str(out), "--number", "3", "--cell", "100"]) == 0
    # Where another test has set the log up, a line before says what was read.
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {out}: 3 samples, file > Resize > RandomFlip"
    image = cv2.imread(str(out))
    assert image.shape == (3 * 118 + 2 * 4 + 22, 3 * 100 + 2 * 4, 3), "rows of captions and pictures, and the legend"
    assert main(["browse", str(tmp_path / "c.py"), "-o", str(out), "--late"]) == 0
    assert capsys.readouterr().out.endswith("4 samples, file > Resize\n")
    for words, message in ((["--number", "0"], "give 1 sample"), (["-o", "s.txt"], r"ends with \.jpg")):
        with pytest.raises(UserError, match=message):
            main(["browse", str(tmp_path / "c.py"), *words])
