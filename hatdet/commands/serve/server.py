"""The server of the page: two files and one question, for this machine only.

A page of another site must not use it: requests need a ``Host`` of this server (a foreign name that leads to 127.0.0.1
has another) and, where a browser names the page that asks (``Origin``), it must be this one.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Protocol
from urllib.parse import parse_qs

from hatdet.commands.serve.page import LIMIT, page
from hatdet.data.image_file import bits_of, check_image, decode, decode_deep, may_be_deep
from hatdet.inference.results import Image, Result
from hatdet.utils.errors import UserError

HOST = "127.0.0.1"
LEAST = 0.05
MOST = 300
"""Detections that the page gets: what the slider can show."""
IDLE_S = 30.0
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src blob:; connect-src 'self'; "
        "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Model(Protocol):
    """What is asked: :class:`hatdet.inference.detector.Detector`."""

    path: Any
    kind: str
    runtime: str
    engine: Any

    @property
    def names(self) -> tuple[str, ...]: ...

    def __call__(self, source: Any, *, threshold: float) -> Any: ...


class Server(ThreadingHTTPServer):
    """The page of some models.

    Args:
        models: shown side by side. threshold: where the slider begins. port: 0: one that is free.

    Raises:
        UserError: the port is taken, or not allowed.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, models: Sequence[Model], threshold: float, port: int) -> None:
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise UserError(
                f"--port {port} cannot be used ({error.strerror}); give another one, or --port 0 for one that is free"
            ) from error
        self.models, self.threshold = tuple(models), threshold
        self.turn = threading.Lock()
        """Networks and interpreters take one picture at a time."""

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{HOST}:{self.server_port}/"

    @property
    def names(self) -> set[str]:
        """What a browser may call this server."""
        return {f"{host}:{self.server_port}" for host in (HOST, "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is nothing to tell of."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def detect(self, number: int, data: bytes) -> dict[str, Any]:
        """What a model finds in the file of a picture, for the page.

        Raises:
            UserError: it is no picture.
        """
        model = self.models[number]
        image = picture_of(data, model.engine.bits)
        with self.turn:
            start = time.perf_counter()
            result: Result = model(image, threshold=LEAST)
            seconds = time.perf_counter() - start
        found = [
            {"box": [round(edge, 2) for edge in one.box], "score": one.score, "label": one.label, "name": one.name}
            for one in list(result)[:MOST]
        ]
        return {"height": result.size[0], "width": result.size[1], "ms": 1000 * seconds, "detections": found}


def picture_of(data: bytes, bits: int | None) -> Image:
    """Pixels of a file, 16 bits scaled as in training, or where that had none as the picture needs.

    Raises:
        ImageError: it cannot be decoded.
    """
    header = check_image(data)
    if bits is None and may_be_deep(header, data):
        bits = bits_of(int(decode_deep(data).max()))
    return decode(data, bits=bits or 16)


class Handler(BaseHTTPRequestHandler):
    """``GET /``, ``GET /page.js``, ``POST /detect?model=0`` with the file of a picture."""

    server: Server
    timeout = IDLE_S
    server_version, sys_version = "hatdet", ""

    def do_GET(self) -> None:
        """The page and its script."""
        if not self.is_ours():
            return
        place = self.path.partition("?")[0]
        if place == "/":
            self.answer(HTTPStatus.OK, "text/html", page(self.server.models, self.server.threshold).encode())
        elif place == "/page.js":
            self.answer(HTTPStatus.OK, "text/javascript", script().encode())
        else:
            self.refuse(HTTPStatus.NOT_FOUND, f"there is no {place} here; the page is {self.server.address}")

    def do_POST(self) -> None:
        """A picture for a model."""
        if not self.is_ours():
            return
        place, _, query = self.path.partition("?")
        number = counted(parse_qs(query).get("model", [""])[0])
        if place != "/detect" or number is None or number >= len(self.server.models):
            return self.refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path} here")
        size = counted(self.headers.get("Content-Length", ""))
        if size is None or not 0 < size <= LIMIT:
            self.close_connection = True
            count = "no known number of" if size is None else size
            text = f"the file has {count} bytes; a picture of up to {LIMIT >> 20} MB can be looked at"
            return self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        try:
            found = self.server.detect(number, self.rfile.read(size))
        except UserError as error:
            return self.refuse(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"the model failed: {error}")
            raise
        self.answer(HTTPStatus.OK, "application/json", json.dumps(found).encode())

    def is_ours(self) -> bool:
        """Whether the request comes from this machine's browser and this page; answered where it does not."""
        origin = self.headers.get("Origin")
        names = self.server.names
        if self.headers.get("Host", "") in names and origin in (None, *(f"http://{name}" for name in names)):
            return True
        self.close_connection = True
        self.refuse(HTTPStatus.FORBIDDEN, f"only the page {self.server.address} may ask")
        return False

    def refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer with what is wrong."""
        self.answer(status, "application/json", json.dumps({"error": text}).encode())

    def answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        """Send an answer whole."""
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": f"{kind}; charset=utf-8"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for each picture helps nobody."""


def counted(text: str) -> int | None:
    """The number that a request has; None: none that means anything here."""
    return int(text) if text.isdecimal() and len(text) < 19 else None


def script() -> str:
    """The page's script."""
    return (resources.files("hatdet.commands.serve") / "page.js").read_text(encoding="utf-8")
