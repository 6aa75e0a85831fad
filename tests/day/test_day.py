"""The day is lived with a wheel of this checkout, for each format of data sets; its pages are looked at."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from hatdet import Detector
from hatdet.data.folders.dataset import Picture
from hatdet.data.folders.open import read_dataset
from tests.day.living import FORMATS, Day
from tests.helpers.browser import look, needs_browser
from tests.helpers.wheel import build_wheel, environment_beside

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the wheel and this one's other packages."""
    pytest.importorskip("pip", reason="pip is not installed, which builds the wheel")
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    return environment_beside(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module", params=FORMATS)
def day(request: pytest.FixtureRequest, scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """A day that was lived with a data set of this format."""
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    if request.param == "yolo":
        pytest.importorskip("yaml", reason="PyYAML is not installed")
    lived = Day(scripts, tmp_path_factory.mktemp(request.param), request.param)
    lived.live()
    for line, seconds in lived.steps:
        print(f"{seconds:6.1f} s  {line}")
    return lived


def test_the_file_finds_what_infer_wrote(day: Day) -> None:
    """In Python, of the file alone, as ``hatdet infer`` found."""
    content = json.loads((day.place / "found" / "detections.json").read_text())
    first = content["images"][0]
    result = Detector(day.int8, threshold=0.01)(day.place / first["file"])
    assert [row["box"] for row in first["detections"]] == result.boxes.tolist()
    assert result.names == tuple(content["classes"]) and len(result.names) == 4
    coco = json.loads((day.place / "found" / "detections_coco.json").read_text())
    assert len(coco["images"]) == len(content["images"]) > 0
    drawn = cv2.imread(str(day.place / first["picture"]))
    assert drawn.shape == cv2.imread(str(day.place / first["file"])).shape


def test_integers_are_equal_to_the_toolbox_and_measured(day: Day) -> None:
    results = json.loads(next(day.work.rglob("*results*.json")).read_text())
    (record,) = [row for row in results["files"] if row["format"] == "tflite int8"]
    assert record["ok"], record
    with (day.place / "benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 2 and {"float-checkpoint-best.pth.tar", day.int8.name} <= {
        Path(row["model"]).name for row in rows
    }


def test_the_data_were_read_as_rendered(day: Day) -> None:
    """16 and 6 pictures of four classes in each format, and init says which format it saw."""
    config = (day.place / day.config).read_text()
    assert f'data_root = "{day.data}"' in config and "num_classes = 4" in config


def test_the_divided_data_set_has_every_picture_once(day: Day) -> None:
    whole, divided = (read_dataset(day.place / name) for name in (day.data, "divided"))
    assert sorted(map(look_of, whole.pictures)) == sorted(map(look_of, divided.pictures))
    assert divided.format == whole.format and 0 < len(divided.of("val")) < len(divided.of("train"))


def look_of(picture: Picture) -> tuple[bytes, int]:
    """What is the same in a copy: the file's content, and how many boxes there are."""
    return hashlib.sha256(picture.path.read_bytes()).digest(), len(picture.boxes)


@needs_browser
def test_the_pages_can_be_read(day: Day, tmp_path: Path) -> None:
    """The page on the data set and those of the run fit a phone and a desktop."""
    pages = [day.place / "data.html", *sorted(day.work.rglob("*.html"))]
    for page in pages:
        for width in (390, 1280):
            seen = look(page.read_text(encoding="utf-8"), tmp_path, width)
            assert (seen["overflow"], seen["broken"]) == (0, 0), f"{page.name} at {width} pixels: {seen}"


def test_serve_shows_the_runs_models(day: Day) -> None:
    """The command of the wheel: a page, and what both models find in a picture; Ctrl-C ends it with status 0."""
    if day.format != "coco":
        pytest.skip("once is enough: the page does not see the data set's format")
    command = [str(day.scripts / "hatdet"), "serve", str(day.work), "--port", "0"]
    with subprocess.Popen(
        command, cwd=day.place, text=True, stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            address, lines, end = "", "", time.monotonic() + 60
            while not address and time.monotonic() < end:
                line = server.stdout.readline()
                lines += line
                address = found[0] if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)) else ""
            assert lines.count("model: ") == 2, lines
            assert 'data-model="1"' in urllib.request.urlopen(address, timeout=10).read().decode()
            picture = bytes(cv2.imencode(".png", np.full((90, 120, 3), 128, np.uint8))[1])
            for number in (0, 1):
                answer = urllib.request.urlopen(f"{address}detect?model={number}", picture, timeout=30)
                assert json.load(answer)["width"] == 120
        finally:
            server.send_signal(signal.SIGINT)
            try:
                status = server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                raise
        assert status == 0
