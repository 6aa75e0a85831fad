"""What is measured: three networks at two sizes, and the settings of their trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatdet.utils.errors import UserError, did_you_mean

CONFIGS = {
    "nano": "hatdet:rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py",
    "tiny": "hatdet:rtmdet/rtmdet_tiny_8xb32_300e_coco.py",
    "s": "hatdet:rtmdet/rtmdet_s_8xb32_300e_coco.py",
}
SIZES = (320, 640)
TRAINED = ("nano",)
"""Of these there are no published weights: without a file they are trained first."""
FLOAT: Mapping[str, Any] = {
    "batch_size": 256, "base_batch_size": 256, "lr": 0.004, "warmup_steps": 1000, "ema_momentum": 0.0002,
    "ema_gamma": 2000, "amp": True,
}  # fmt: skip
"""RTMDet's own schedule (256 pictures a step, 0.004), on one device instead of eight."""
QAT: Mapping[str, Any] = {"batch_size": 64, "base_batch_size": 64, "qat_lr": 5e-5}
"""The rate of the shipped configs, for steps of 64 pictures."""
FLOAT_EPOCHS, QAT_EPOCHS = 300, 3


@dataclass(frozen=True)
class Row:
    """One network at one size of input.

    Attributes:
        weights: its float weights; None: they are trained.
    """

    model: str
    size: int
    weights: Path | None

    @property
    def name(self) -> str:
        """Of its folder, and in messages."""
        return f"{self.model}_{self.size}"


@dataclass(frozen=True)
class Plan:
    """All that is to be measured, and how.

    Attributes:
        data: COCO's folder. folder: where everything goes. options: the user's, above those of the table.
    """

    data: str
    folder: Path
    rows: tuple[Row, ...]
    epochs: int = FLOAT_EPOCHS
    qat_epochs: int = QAT_EPOCHS
    options: Mapping[str, Any] | None = None

    def settings(self, row: Row, stage: str) -> dict[str, Any]:
        """The options of a row's float training (``float``) or of what follows it (``qat``)."""
        own = {**FLOAT, "epochs": self.epochs} if stage == "float" else {**QAT, "qat_epochs": self.qat_epochs}
        where = {"data_root": self.data, "imgsz": (row.size, row.size), "work_dir": str(self.folder / row.name)}
        return {**own, **where, **(self.options or {})}


def rows_of(models: Sequence[str], sizes: Sequence[int], weights: Mapping[str, Path]) -> tuple[Row, ...]:
    """The rows: what has weights first, then what has to be trained; small inputs before large ones.

    Raises:
        UserError: an unknown network, one without weights, or a size that is no multiple of 32.
    """
    for name in (*models, *weights):
        if name not in CONFIGS:
            raise UserError(f"no model {name!r}{did_you_mean(name, CONFIGS)}; there are {', '.join(CONFIGS)}")
    for size in sizes:
        if size < 32 or size % 32:
            raise UserError(f"--sizes {size}: give multiples of 32, the coarsest stride of the network")
    for name, file in weights.items():
        if not file.is_file():
            raise UserError(f"no file {file} (--weights {name}=...); name one that is there")
    for name in models:
        if name not in weights and name not in TRAINED:
            raise UserError(
                f"{name} has no weights: give MMDetection's with --weights {name}=FILE.pth (docs/coco.md names them), "
                f"or leave it out with --models"
            )
    order = sorted(dict.fromkeys(models), key=lambda name: (name not in weights, list(CONFIGS).index(name)))
    by_size = sorted(dict.fromkeys(sizes))
    given = [Row(name, size, weights[name]) for size in by_size for name in order if name in weights]
    return (*given, *(Row(name, size, None) for size in by_size for name in order if name not in weights))


def parse_weights(words: Sequence[str]) -> dict[str, Path]:
    """``["tiny=FILE.pth"]`` as paths by model.

    Raises:
        UserError: a word of another form.
    """
    found = {}
    for word in words:
        name, equals, file = word.partition("=")
        if not equals or not name or not file:
            raise UserError(f"--weights {word}: write MODEL=FILE, tiny=rtmdet_tiny.pth")
        found[name] = Path(file).expanduser()
    return found
