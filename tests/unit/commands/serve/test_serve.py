"""``hatdet serve``: what is answered, to whom, and what the page does in a real browser."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from hatdet.commands.serve.command import main
from hatdet.commands.serve.models import model_paths
from hatdet.commands.serve.page import page
from hatdet.commands.serve.server import LIMIT, Handler, Server
from hatdet.inference.results import Result
from hatdet.utils.errors import UserError
from tests.helpers.browser import _FLAGS, BROWSER, check_readable, needs_browser

SCORES = (0.9, 0.5, 0.2)


class Fake:
    """A detector that finds three boxes in any picture: two cats, one <dog>."""

    def __init__(self, name: str) -> None:
        self.path, self.kind, self.runtime = Path(f"somewhere/{name}"), "tflite", "LiteRT"
        self.names, self.engine = ("cat", "<dog>"), SimpleNamespace(bits=None)
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, source: Any, *, threshold: float) -> Result:
        self.sizes.append(source.shape)
        boxes = np.array([[1, 2, 11, 22], [5, 5, 9, 9], [0, 0, 4, 4]], np.float32)
        found = Result(boxes, np.array(SCORES, np.float32), np.array([0, 0, 1]), self.names, source.shape[:2])
        return found.keep(threshold)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server([Fake("float.pth"), Fake("<b>int8.tflite")], 0.3, 0)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join(5)


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """(status, answer) of a request; ``headers`` replace the usual ones."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else text


def picture(suffix: str = ".png", width: int = 40, height: int = 30) -> bytes:
    return bytes(cv2.imencode(suffix, np.full((height, width, 3), 200, np.uint8))[1])


def test_each_model_is_asked_for_what_it_finds(server: Server) -> None:
    for number in (0, 1):
        status, found = ask(server, "POST", f"/detect?model={number}", picture())
        assert (status, found["width"], found["height"]) == (200, 40, 30)
        first = found["detections"][0]
        assert (first["box"], first["name"], len(found["detections"])) == ([1.0, 2.0, 11.0, 22.0], "cat", 3)
    assert [model.sizes for model in server.models] == [[(30, 40, 3)]] * 2  # type: ignore[attr-defined]


def test_names_are_escaped_and_the_slider_begins_where_asked(server: Server) -> None:
    status, text = ask(server, "GET", "/")
    assert status == 200 and "&lt;b&gt;int8.tflite" in text and "<b>int8" not in text
    assert 'value="0.3"' in text and '<script src="/page.js">' in text
    status, text = ask(server, "GET", "/page.js")
    assert status == 200 and '"use strict"' in text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:{port}"}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
    ],
)
def test_only_its_own_page_may_ask(server: Server, headers: dict[str, str], status: int) -> None:
    """Names that lead to this machine, and pages of other sites, are refused for pictures as for the page."""
    sent = {key: value.format(port=server.server_port) for key, value in headers.items()}
    assert ask(server, "GET", "/", **sent)[0] == status
    assert ask(server, "POST", "/detect?model=0", picture(), **sent)[0] == status
    assert len(server.models[0].sizes) == (status == 200)  # type: ignore[attr-defined]


def test_it_listens_to_this_machine_only(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/detect?model=0", b"no picture", 400, "neither"),
        ("/detect?model=0", picture(".jpg")[:300], 400, ""),
        ("/detect?model=2", picture(), 404, "there is no /detect?model=2"),
        ("/detect?model=-1", picture(), 404, ""),
        ("/detect?model=" + "9" * 5000, picture(), 404, "there is no"),
        ("/detect", picture(), 404, ""),
        ("/other?model=0", picture(), 404, ""),
        ("/detect?model=0", b"", 413, "the file has 0 bytes"),
    ],
)
def test_what_cannot_be_answered_is_said(server: Server, path: str, body: bytes, status: int, text: str) -> None:
    found, answer = ask(server, "POST", path, body)
    assert found == status and "\n" not in answer["error"]
    if text != "neither":
        assert text in answer["error"]
    assert ask(server, "POST", "/detect?model=0", picture())[0] == 200


def test_a_file_that_is_too_large_is_not_read(server: Server) -> None:
    status, answer = ask(server, "POST", "/detect?model=0", b"x", **{"Content-Length": str(LIMIT + 1)})
    assert status == 413 and "up to 64 MB" in answer["error"]


def test_a_length_that_is_no_number_of_bytes_is_said(server: Server) -> None:
    for length in ("9" * 5000, "many"):
        status, answer = ask(server, "POST", "/detect?model=0", b"x", **{"Content-Length": length})
        assert status == 413 and "no known number of bytes" in answer["error"]


def test_sixteen_bits_are_looked_at_as_the_picture_needs(server: Server) -> None:
    deep = bytes(cv2.imencode(".png", np.full((8, 9), 4095, np.uint16))[1])
    status, found = ask(server, "POST", "/detect?model=0", deep)
    assert (status, found["width"]) == (200, 9)


def test_a_taken_port_is_said(server: Server) -> None:
    with pytest.raises(UserError, match=rf"^--port {server.server_port} cannot be used \(.*\); give another one"):
        Server([], 0.3, server.server_port)


def test_the_folder_of_a_run_is_its_float_and_its_integer_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        model_paths([str(tmp_path)])
    for name in ("float-checkpoint-last.pth.tar", "float-checkpoint-best.pth.tar", "int_infer-graph.pth.tar"):
        (tmp_path / name).touch()
    (tmp_path / "qat").mkdir()
    (tmp_path / "qat" / "qat_model_int8.tflite").touch()
    names = [path.name for path in model_paths([str(tmp_path), "other.onnx"])]
    assert names == ["float-checkpoint-best.pth.tar", "qat_model_int8.tflite", "other.onnx"]
    (tmp_path / "qat" / "qat_model_int8.tflite").unlink()
    assert model_paths([str(tmp_path)])[1].name == "int_infer-graph.pth.tar"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m.tflite", "--port", "70000"], "--port 70000: give a number"),
        (["m.tflite", "--score-thr", "2"], "--score-thr is between 0 and 1, got 2"),
        (["nowhere.tflite"], "no such"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises((UserError, FileNotFoundError)) as caught:
        main(words)
    assert message in str(caught.value) or isinstance(caught.value, FileNotFoundError)


@needs_browser
@pytest.mark.slow
def test_the_page_can_be_read(tmp_path: Path) -> None:
    text = page([Fake("float.pth"), Fake("a_name_that_does_not_end_" * 6)], 0.3)
    # Of three columns the third is empty, and has no width.
    check_readable(text.replace('<img alt="">', ""), tmp_path, {390: 1, 1280: 3}, pictures=0)


DRIVER = """<!DOCTYPE html><iframe src="/" style="width:1200px;height:900px"></iframe><p id="said"></p>
<script src="/driver.js"></script>"""
DRIVER_JS = """
const frame = document.querySelector("iframe"), steps = [], wait = ms => new Promise(done => setTimeout(done, ms));
frame.onload = async () => {
  const inside = frame.contentDocument, view = frame.contentWindow;
  const panels = [...inside.querySelectorAll("section.model")];
  const state = () => panels.map(panel => ({
    shown: [...panel.querySelectorAll("rect")].filter(r => view.getComputedStyle(r).display !== "none").length,
    listed: [...panel.querySelectorAll("li")].filter(l => view.getComputedStyle(l).display !== "none").length,
    count: panel.querySelector(".count").textContent.replace(/[0-9]+ ms/, "N ms"),
    ratio: (v => v.hidden ? 0 : v.clientWidth / v.clientHeight)(panel.querySelector(".view")),
    loaded: panel.querySelector("img").naturalWidth,
  }));
  const settled = async () => {
    const busy = () => panels.some(p => p.querySelector(".count").textContent === "looking ...");
    for (let i = 0; i < 100 && (i < 2 || busy()); i++) await wait(50);
    await wait(50);
  };
  const drop = async (bytes, name) => {
    const data = new view.DataTransfer();
    data.items.add(new view.File([bytes], name));
    inside.dispatchEvent(new view.DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    await settled();
  };
  const said = () => inside.getElementById("said").textContent;
  const picture = await (await fetch("/picture.png")).arrayBuffer();
  await drop(picture, "<i>street.png");
  steps.push([said(), state()]);
  const slider = inside.getElementById("least");
  slider.value = 0.6;
  slider.dispatchEvent(new view.Event("input"));
  steps.push([inside.querySelector("output").textContent, state()]);
  await drop(new Uint8Array([1, 2, 3]), "broken.png");
  steps.push([said(), state()]);
  inside.querySelector("input").dataset.limit = 2;
  await drop(new Uint8Array([1, 2, 3]), "large.png");
  steps.push(said());
  document.getElementById("said").textContent = "JSON" + JSON.stringify(steps) + "END";
};
"""


class Driven(Handler):
    """The server with a page that uses the page: its answers come from the same place, so it may look inside."""

    def do_GET(self) -> None:
        own = {"/driver": ("text/html", DRIVER.encode()), "/driver.js": ("text/javascript", DRIVER_JS.encode()),
               "/picture.png": ("image/png", picture(width=80, height=40))}  # fmt: skip
        if self.path not in own:
            return super().do_GET()
        kind, body = own[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@needs_browser
@pytest.mark.slow
def test_a_dropped_picture_is_shown_with_the_boxes_above_the_slider(server: Server, tmp_path: Path) -> None:
    """In Chromium: two of three boxes above 0.3, one above 0.6; a file that is no picture is said and shows none."""
    server.RequestHandlerClass = Driven
    command = [BROWSER, *_FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}", f"{server.address}driver"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'<p id="said">JSON(.*?)END</p>', done.stdout, re.DOTALL)
    assert found, done.stdout[-800:]
    dropped, slid, broken, large = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    two = {"shown": 2, "listed": 2, "count": "2 cat (N ms)", "ratio": pytest.approx(2, abs=0.02), "loaded": 80}
    assert dropped == ["<i>street.png", [two, two]]
    assert slid == ["0.60", [{**two, "shown": 1, "listed": 1, "count": "1 cat (N ms)"}] * 2]
    assert broken[0].startswith("not an image in a known format"), broken
    assert [panel["shown"] for panel in broken[1]] == [0, 0]
    assert [panel["ratio"] for panel in broken[1]] == [0, 0]
    assert large.startswith("the file has 3 bytes; a picture of up to "), "it is not sent, so the page says it itself"
