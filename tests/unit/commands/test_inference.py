"""tools/infer.py: the boxes that evaluation finds, drawn and listed; what is refused, and with which words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hatdet.commands.infer.plan import parse_inputs
from hatdet.commands.infer.run import class_names
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

Tool = Callable[[str], Callable[[list[str]], int | None]]
Infer = Callable[..., tuple[int | None, dict[str, Any]]]
GRAPH = "graph.pth.tar"  # an integer model: nothing to convert, so it is there at once


@pytest.fixture
def infer(files: Files, tool: Tool, tmp_path: Path) -> Infer:
    """``infer(inputs, "--stage", "float")``: exit status and detections.json."""

    def call(
        inputs: Path, *words: str, save: Path | None = None, checkpoint: str | None = GRAPH
    ) -> tuple[int | None, dict[str, Any]]:
        target = save if save is not None else tmp_path / "out"
        arguments = ["--config", files.config_path, "--model-inputs", f"imgs:{inputs}", "--save-path", str(target)]
        if checkpoint is not None:
            arguments += ["--ckpt", str(files.root / checkpoint)]
        status = tool("infer")([*arguments, *words, *files.words(work_dir=str(tmp_path / "wd"))])
        folder = target.parent if target.suffix else target
        return status, json.loads((folder / "detections.json").read_text())

    return call


def test_a_folder_gives_the_boxes_of_the_evaluation(
    files: Files, infer: Infer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hatdet.commands.shared.evaluation import evaluate_model

    pictures = files.root / "data" / "val2017"
    expected = evaluate_model(files.config(), files.root / GRAPH).predictor.val_metrics.detection_boxes()
    capsys.readouterr()
    middle = float(np.median(expected.scores))
    status, content = infer(pictures, "--score-thr", repr(middle))
    assert status == 0 and content["stage"] == "int_infer" and content["classes"] == ["square", "disc"]
    total = 0
    for number, record in enumerate(content["images"]):
        theirs = expected.of_image(number + 1)
        kept = theirs.scores >= middle
        found = record["detections"]
        assert np.array_equal([d["box"] for d in found] or np.zeros((0, 4)), theirs.boxes[kept])
        assert [d["score"] for d in found] == theirs.scores[kept].tolist()
        assert [d["label"] for d in found] == theirs.labels[kept].tolist()
        assert all(d["class"] == ["square", "disc"][d["label"]] for d in found)
        picture = cv2.imread(str(pictures / f"{number}.png"))
        drawn = cv2.imread(str(tmp_path / "out" / f"{number}.png"))
        assert drawn.shape == picture.shape == (record["height"], record["width"], 3)
        assert (drawn != picture).any() == bool(found)
        total += len(found)
    assert total > 20
    text = capsys.readouterr().out
    assert text.count(".png: ") == 5 and "written: 5 pictures and " in text


def test_one_picture_by_its_name_or_into_a_folder(files: Files, infer: Infer, tmp_path: Path) -> None:
    picture = files.root / "data" / "val2017" / "0.png"
    status, content = infer(picture, "--score-thr", "0", save=tmp_path / "new" / "drawn.jpg")
    assert status == 0 and cv2.imread(str(tmp_path / "new" / "drawn.jpg")) is not None
    (record,) = content["images"]
    assert record["picture"].endswith("drawn.jpg") and len(record["detections"]) > 20
    infer(picture, "--score-thr", "0.999")
    assert (tmp_path / "out" / "0.png").is_file()
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "0.png")), cv2.imread(str(picture))), "nothing to draw"


def test_float_weights_by_stage_or_by_what_the_file_holds(files: Files, infer: Infer, tmp_path: Path) -> None:
    picture = files.root / "data" / "val2017" / "1.png"
    content = infer(picture, checkpoint="epoch_150.pth")[1]
    assert content["stage"] == "float" and content["checkpoint"].endswith("epoch_150.pth")
    assert content == infer(picture, "--stage", "float", checkpoint="epoch_150.pth")[1]


def test_infer_cfg_of_the_config(files: Files, tool: Tool, tmp_path: Path) -> None:
    config = tmp_path / "mine.py"
    config.write_text(
        f"_base_ = {files.config_path!r}\n"
        "infer_cfg = dict(score_thr=0.99, transforms=[dict(type='Resize', img_scale=(64, 64)), "
        "dict(type='Pad', size=(64, 64), fill=0)])\n"
    )
    arguments = [str(config), "--ckpt", str(files.root / GRAPH), "--save-path", str(tmp_path / "out")]
    picture = files.root / "data" / "val2017" / "0.png"
    assert tool("infer")([*arguments, "--model-inputs", f"imgs:{picture}", *files.words()]) == 0
    assert json.loads((tmp_path / "out" / "detections.json").read_text())["score_thr"] == 0.99


def test_the_pictures_need_no_data_set(files: Files, tool: Tool, tmp_path: Path) -> None:
    picture = files.root / "data" / "val2017" / "0.png"
    arguments = [files.config_path, "--ckpt", str(files.root / GRAPH), "--save-path", str(tmp_path / "out")]
    options = files.words(data_root="/does/not/exist")
    assert tool("infer")([*arguments, "--model-inputs", f"imgs:{picture}", *options]) == 0
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert len(content["images"]) == 1 and content["classes"] == ["0", "1"]


def test_classes_without_names_are_numbers(files: Files) -> None:
    class Model:
        def metadata(self) -> dict[str, Any]:
            return {"num_classes": 3, "classes": []}

    config = files.config(data_root="/does/not/exist")
    assert class_names(config, Model(), None) == ["0", "1", "2"]


def test_unreadable_pictures(files: Files, infer: Infer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(files.root / "data" / "val2017" / "0.png", folder / "sub" / "good.png")
    (folder / "bad.jpg").write_bytes(b"no picture")
    status, content = infer(folder)
    assert status == 1 and [Path(r["picture"]).parts[-2:] for r in content["images"]] == [("sub", "good.png")]
    assert "bad.jpg not an image in a known format" in content["unread"][0]
    with pytest.raises(UserError, match=r"no picture could be read: .*bad\.jpg not an image"):
        infer(folder / "bad.jpg")


def test_inputs() -> None:
    for text, message in (
        ("a.jpg", r"takes imgs:PATH, got 'a.jpg'; write --model-inputs imgs:a.jpg"),
        ("img:a.jpg", r"got 'img:a.jpg'; did you mean 'imgs'\?; write --model-inputs imgs:a.jpg"),
        ("imgs:", "got 'imgs:'; write --model-inputs imgs:PATH"),
        ("imgs:absent.jpg", "there is no file or folder absent.jpg"),
    ):
        with pytest.raises(UserError, match=message):
            parse_inputs(text)


def test_refusals(files: Files, infer: Infer, tool: Tool, tmp_path: Path) -> None:
    pictures = files.root / "data" / "val2017"
    for inputs, words, options, message in (
        (pictures, ["--score-thr", "2"], {}, "--score-thr is between 0 and 1, got 2"),
        (pictures, [], {"save": pictures}, "0.png would be drawn over itself"),
        (pictures / "0.png", [], {"save": pictures / "0.png"}, "0.png would be drawn over itself"),
        (pictures, [], {"save": tmp_path / "a.png"}, "is the name of one picture, but .* is a folder"),
        (pictures.parent / "annotations", [], {}, r"no image \(.jpg"),
        (next((pictures.parent / "annotations").iterdir()), [], {}, "is no picture: its name ends with none of"),
        (pictures, [], {"checkpoint": "absent.pth"}, "no such checkpoint"),
        (pictures, [], {"checkpoint": None}, "run `python tools/train.py --stage"),
        (pictures, ["--stage", "qat"], {"checkpoint": "epoch_150.pth"}, "holds float weights, not those of stage qat"),
        (pictures, ["--stage", "float"], {}, "holds a quantized model, not float weights"),
    ):
        with pytest.raises(UserError, match=message):
            infer(inputs, *words, **options)
    with pytest.raises(UserError, match="--save-path is missing"):
        tool("infer")([files.config_path, "--model-inputs", f"imgs:{pictures}"])


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Path:
    """Three frames, each the first validation picture."""
    path = tmp_path_factory.mktemp("video") / "walk.avi"
    picture = cv2.imread(str(files.root / "data" / "val2017" / "0.png"))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5.0, picture.shape[1::-1])
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for _ in range(3):
        writer.write(picture)
    writer.release()
    return path


def test_a_model_file_and_all_that_can_be_written(files: Files, tool: Tool, infer: Infer, tmp_path: Path) -> None:
    pictures, out = files.root / "data" / "val2017", tmp_path / "all"
    expected = infer(pictures, "--score-thr", "0.01", "--classes", "disc")[1]
    words = [str(pictures), "--save-path", str(out), "--score-thr", "0.01", "--classes", "disc"]
    words += ["--write", "json", "coco", "yolo", "csv"]
    arguments = ["--config", files.config_path, str(files.root / "model_int8.tflite"), *words, *files.words()]
    assert tool("infer")(arguments) == 0
    content = json.loads((out / "detections.json").read_text())
    assert content["stage"] == "tflite" and content["checkpoint"].endswith("model_int8.tflite")
    rows = [record["detections"] for record in content["images"]]
    assert rows == [record["detections"] for record in expected["images"]] and sum(map(len, rows)) > 20
    assert {row["class"] for found in rows for row in found} == {"disc"}
    coco = json.loads((out / "detections_coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"{n}.png" for n in range(5)]
    assert len(coco["annotations"]) == sum(map(len, rows)) and coco["categories"][1] == {"id": 2, "name": "disc"}
    first = rows[0][0]
    assert coco["annotations"][0]["bbox"][:2] == first["box"][:2] and coco["annotations"][0]["score"] == first["score"]
    assert len((out / "labels" / "0.txt").read_text().splitlines()) == len(rows[0])
    lines = (out / "detections.csv").read_text().splitlines()
    assert lines[0] == "file,frame,seconds,class,label,score,x1,y1,x2,y2,track"
    assert len(lines) == 1 + sum(map(len, rows))
    assert not list(out.glob("*.png")), "no pictures were asked for"


def test_a_video_frame_by_frame(files: Files, tool: Tool, video: Path, tmp_path: Path) -> None:
    common = ["--config", files.config_path, str(files.root / "model_int8.tflite"), str(video), "--score-thr", "0.02"]
    assert tool("infer")([*common, "--save-path", str(tmp_path), "--max-frames", "2", *files.words()]) == 0
    content = json.loads((tmp_path / "detections.json").read_text())
    assert [(r["frame"], r["seconds"], r["picture"]) for r in content["images"]] == [(0, 0.0, None), (1, 0.2, None)]
    assert content["images"][0]["detections"] == content["images"][1]["detections"] != []
    (written,) = tmp_path.glob("walk.*")
    capture = cv2.VideoCapture(str(written))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2 and capture.get(cv2.CAP_PROP_FPS) == 5
    frames = tmp_path / "frames"
    words = ["--save-path", str(frames), "--write", "pictures", "--batch", "2"]
    assert tool("infer")([*common, *words, *files.words()]) == 0
    assert sorted(path.name for path in (frames / "walk").iterdir()) == [f"{n:06d}.jpg" for n in range(3)]


def test_videos_of_a_pattern_beside_pictures(files: Files, tool: Tool, video: Path, tmp_path: Path) -> None:
    """Each is drawn as what it is, and one that cannot be read keeps none of the others back."""
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    shutil.copy(video, films / f"good{video.suffix}")
    (films / f"bad{video.suffix}").write_bytes(b"no video")
    common = ["--config", files.config_path, str(files.root / "model_int8.tflite"), f"{films}/*{video.suffix}"]
    picture = str(files.root / "data" / "val2017" / "0.png")
    assert tool("infer")([*common, picture, "--save-path", str(out), *files.words()]) == 1
    assert {path.stem for path in out.iterdir()} == {"good", "0", "detections"}
    content = json.loads((out / "detections.json").read_text())
    assert [r["picture"] is None for r in content["images"]] == [True] * 3 + [False]
    assert "bad" in content["unread"][0] and "cannot be opened" in content["unread"][0]


def test_objects_of_a_video_are_followed(
    files: Files, tool: Tool, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture stands still, so all that is followed has one number in all frames."""
    from hatdet.commands.infer import process

    pytest.importorskip("supervision", reason="supervision is not installed")
    detect = process.detect

    def sure(*args: Any) -> Any:
        """What the untrained network finds, as a trained one would be sure of it."""
        return (replace(found, scores=found.scores * 0 + np.float32(0.9)) for found in detect(*args))

    monkeypatch.setattr(process, "detect", sure)
    model = str(files.root / "model_int8.tflite")
    common = ["--config", files.config_path, model, "--score-thr", "0.5", "--save-path", str(tmp_path), "--track"]
    assert tool("infer")([*common, str(video), "--write", "json", "csv", *files.words()]) == 0
    content = json.loads((tmp_path / "detections.json").read_text())
    ids = [[row["track"] for row in record["detections"]] for record in content["images"]]
    assert len(ids[0]) > 1 and ids[0] == ids[1] == ids[2] and len(set(ids[0])) == len(ids[0])
    rows = (tmp_path / "detections.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[-1]) for row in rows] == [number for found in ids for number in found]
    picture = str(files.root / "data" / "val2017" / "0.png")
    with pytest.raises(UserError, match="--track follows objects through frames, but the sources are pictures"):
        tool("infer")([*common, picture, *files.words()])


def test_a_camera_ends_with_ctrl_c_and_whole_files(
    files: Files, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hatdet.inference.sources import Frame

    picture = cv2.imread(str(files.root / "data" / "val2017" / "0.png"))

    def frames(source: str) -> Any:
        assert source == "0"
        yield Frame(picture, Path("0"), 0, 0.0)
        raise KeyboardInterrupt

    monkeypatch.setattr("hatdet.commands.infer.process.video_frames", frames)
    words = [str(files.root / "model_int8.tflite"), "0", "--save-path", str(tmp_path), "--write", "json", "csv"]
    assert tool("infer")(["--config", files.config_path, *words, *files.words()]) == 0
    assert "stopped after 1 frames" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "detections.json").read_text())["images"]) == 1


def test_what_does_not_go_together(files: Files, tool: Tool, tmp_path: Path) -> None:
    model, picture = str(files.root / "model_int8.tflite"), str(files.root / "data" / "val2017" / "0.png")
    save = ["--save-path", str(tmp_path)]
    for words, message in (
        ([model, picture], "--save-path is missing"),
        ([model, *save], "--model-inputs is missing"),
        ([model, picture, *save, "--stage", "qat"], "is the model; leave --stage and --ckpt out, or the model"),
        ([model, picture, *save, "--cfg-options", "a=1"], "--cfg-options are for a config; name it with --config"),
        ([model, picture, *save, "--batch", "0"], "--batch is a number of frames, got 0: give 1 or more"),
        ([model, picture, "v.mp4", "--save-path", "a.png"], "a.png is the name of one picture, but v.mp4 is a video"),
        ([model, picture, picture, "--save-path", "a.png"], "a.png is the name of one picture, but there are 2"),
        ([model, picture, *save], "does not say what its detector is made of"),
    ):
        with pytest.raises(UserError, match=message):
            tool("infer")(words)


def test_how_much_there_is_to_do(video: Path, tmp_path: Path) -> None:
    from hatdet.commands.infer.plan import Step
    from hatdet.commands.infer.process import expected

    picture, film, camera = Step("a.png", tmp_path, False), Step(str(video), tmp_path, True), Step("0", tmp_path, True)
    assert expected([picture, film], None) == 4 and expected([picture, film], 2) == 3
    assert expected([film, camera], None) == 0, "nobody knows when a camera ends"
