"""The formats of ``tools/export.py``: what each is called, which module writes it, and what a writer is given.

A format is a module of this package with ``export(job) -> list[FileRecord]``: it writes its files with
:meth:`ExportJob.path`, each with a metadata sidecar, checks them against the model and says what it found; and with
``require(job)``, which refuses, before any format writes, what cannot be done here: a package that is not installed, an
option out of range. To add one, write the module and add its row to :data:`FORMATS`.

File names, for the checkpoint ``epoch_150.pth``: ``epoch_150.onnx``, ``epoch_150_int8_qdq.onnx``,
``epoch_150_int8_exact.onnx``, ``epoch_150_float32.tflite``, ``epoch_150_float16.tflite``, ``epoch_150_int8.tflite``,
``epoch_150_vela.tflite``, ``epoch_150.torchscript``, ``epoch_150_saved_model/``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from hatdet.export.delivery import file_record
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Format:
    """A row of the table: ``options`` are the command's flags that mean something to this format alone."""

    name: str
    module: str
    help: str
    aliases: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


FORMATS = (
    Format("tflite", "hatdet.export.formats.tflite", "int8, and of float weights float32 and float16 too"),
    Format(
        "onnx",
        "hatdet.export.formats.onnx",
        "float; int8 as QDQ and as exact integers",
        (),
        ("opset", "simplify", "preprocess"),
    ),
    Format("vela", "hatdet.export.formats.vela", "the int8 .tflite compiled for Arm Ethos-U", (), ("target",)),
    Format("torchscript", "hatdet.export.formats.torchscript", "float, for libtorch"),
    Format("savedmodel", "hatdet.export.formats.savedmodel", "float, through tensorflow", ("savemodel", "saved_model")),
)
REFUSED = {
    "hailo": "its compiler is not public; the float .onnx (--format onnx) is what Hailo's own tools start from",
    "pb": "frozen graphs are a format of TensorFlow 1; use --format savedmodel",
}


def choose_formats(names: Sequence[str]) -> list[Format]:
    """The rows with these names or aliases, each once, in the order given.

    Raises:
        UserError: a name that is none; it has the available ones and the nearest.
    """
    by_name = {name: row for row in FORMATS for name in (row.name, *row.aliases)}
    chosen: list[Format] = []
    for name in names:
        lowered = name.lower()
        if lowered in REFUSED:
            raise UserError(f"--format {name} is not available: {REFUSED[lowered]}")
        if lowered not in by_name:
            available = ", ".join(row.name for row in FORMATS)
            raise UserError(f"--format {name} is not available; available: {available}{did_you_mean(name, by_name)}")
        if by_name[lowered] not in chosen:
            chosen.append(by_name[lowered])
    return chosen


@dataclass(frozen=True)
class ExportOptions:
    """What the command line adds.

    Attributes:
        decode: put sigmoid and box decoding into the float files (raw maps otherwise).
        opset, simplify: of ONNX; None: the writer's own choice.
        preprocess: the float ONNX file takes pixels and normalizes them itself.
        target: name of the hardware, for ``vela``; None: the writer's own choice.
        weights_as: how the int8 ``.tflite`` has 4-bit weights, ``int4`` or ``int8``; None: as the kernels take them.
        padding_as: how it pads, by an ``operator`` or in the ``kernel``; None: by operators.
        verify: so many images are compared; 0: none.
        intermediates: compare every tensor of the int8 file.
    """

    decode: bool = False
    opset: int | None = None
    simplify: bool = False
    preprocess: bool = False
    target: str | None = None
    weights_as: str | None = None
    padding_as: str | None = None
    verify: int = 16
    intermediates: bool = False


@dataclass(frozen=True)
class FileRecord:
    """A written file: its path (a folder for SavedModel), its format, and what was checked.

    Attributes:
        ok: False where a check failed: the command then ends with status 1.
        text: lines for the user.
        checks: plain values for the results file.
    """

    path: Path
    format: str
    ok: bool = True
    text: str = ""
    checks: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Plain values: name, bytes, SHA-256, format, verdict, checks."""
        return {**file_record(self.path), "format": self.format, "ok": self.ok, **self.checks}


class ExportJob:
    """One model on its way into files. Parts are made when a format asks for them, once.

    Args:
        stem: folder and name without suffix: what the files are named after.
        image_size: (h, w) of the input.
        options: see :class:`ExportOptions`.
        make_detector: gives the float detector with its weights, in eval mode on the CPU; None: the weights are
            quantized, there is no float model.
        make_graph: gives the integer model for ``image_size``; its metadata has the classes.
        make_pixels: gives n images as the data has them, uint8 (n, 3, h, w), on the CPU; fewer where there are no more.
        make_codes: pixels -> the integer model's input codes, int8 (n, 3, h, w).
        facts: metadata of the float detector, with the classes of the data; of an integer model see ``graph.metadata``
            (folding may have changed its mean and std).
        source: what the weights are, for messages: ``float``, ``calibration``, ``qat`` or ``int_infer``.
    """

    def __init__(
        self,
        *,
        stem: Path,
        image_size: tuple[int, int],
        options: ExportOptions,
        make_detector: Callable[[], Any] | None,
        make_graph: Callable[[], IntGraph],
        make_pixels: Callable[[int], Tensor],
        make_codes: Callable[[Tensor], Tensor],
        facts: dict[str, Any],
        source: str,
    ) -> None:
        self.stem, self.image_size, self.options = stem, image_size, options
        self._make_detector, self._make_graph = make_detector, make_graph
        self._make_pixels, self._make_codes = make_pixels, make_codes
        self.facts, self.source = facts, source

    def path(self, suffix: str) -> Path:
        """``stem`` with a suffix, e.g. ``_int8.tflite``."""
        return self.stem.with_name(self.stem.name + suffix)

    @property
    def has_float(self) -> bool:
        """Whether there is a float model to write."""
        return self._make_detector is not None

    @cached_property
    def detector(self) -> Any:
        """The float detector (docs/contracts.md, section 4). Others read it too: copy it before folding or tracing.

        Raises:
            UserError: the weights are quantized.
        """
        if self._make_detector is None:
            raise UserError(
                f"the weights are those of {self.source}, which only integer files carry: export the float checkpoint, "
                "or use --format tflite"
            )
        return self._make_detector()

    @cached_property
    def graph(self) -> IntGraph:
        """The integer model; float weights are calibrated for it.

        Raises:
            UserError: there are no images to calibrate on, or the model has no integer form.
        """
        return self._make_graph()

    @cached_property
    def pixels(self) -> Tensor:
        """Real images for checks, ``options.verify`` of them (at least one): uint8 (n, 3, h, w)."""
        return self._make_pixels(max(1, self.options.verify))

    def images(self) -> Tensor:
        """The same, normalized for the float detector: float32 (n, 3, h, w), channels_last."""
        images: Tensor = self.detector.preprocess(self.pixels)
        return images

    def codes(self) -> Tensor:
        """The same, as the integer model's input codes: int8 (n, 3, h, w)."""
        return self._make_codes(self.pixels).contiguous()

    def sample_codes(self, count: int) -> Tensor:
        """Input codes of the first ``count`` images (fewer where there are no more): int8 (n, 3, h, w)."""
        return self._make_codes(self._make_pixels(count)).contiguous()


class FormatModule(Protocol):
    """What the module of a format has."""

    def require(self, job: ExportJob) -> None:
        """Raise a UserError for what cannot be done here; nothing is written."""

    def export(self, job: ExportJob) -> list[FileRecord]:
        """Write the files and check them."""


def export_all(job: ExportJob, formats: Sequence[Format]) -> Iterator[FileRecord]:
    """Write every format, in order; a record is given as soon as its format is written.

    Raises:
        UserError: a format needs a package that is not installed (said before any is written), or cannot carry the
            model.
    """
    modules = [module_of(row) for row in formats]
    for module in modules:
        module.require(job)
    for module in modules:
        yield from module.export(job)


def module_of(row: Format) -> FormatModule:
    """A format's module.

    Raises:
        UserError: this version has no such module.
    """
    try:
        module: Any = importlib.import_module(row.module)
    except ModuleNotFoundError as error:
        if error.name != row.module:
            raise
        raise UserError(f"--format {row.name} is not part of this version of hatdet; leave it out") from error
    writer: FormatModule = module
    return writer
