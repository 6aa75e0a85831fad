"""How long a row takes on one GPU, reckoned from what was measured (benchmarks/README.md); nobody has run it yet.

Measured: RTMDet-nano at 320 x 320 on one NVIDIA H200, and pictures of 512 x 384 prepared by one CPU core. Other
networks and sizes are taken to cost as many times more as they have multiply-accumulates, and pictures as many times
more as they have pixels. The first is too much for small networks, which keep such a GPU waiting, the second for both.
"""

from __future__ import annotations

from hatdet.commands.coco_table.rows import QAT, Plan, Row

TRAIN_IMAGES, VAL_IMAGES = 118_287, 5_000
GMACS = {"nano": 3.70, "tiny": 8.036, "s": 14.761}
"""At 640 x 640, as the configs state them."""
NANO_320 = 0.925
TRAINING, INTEGER_EVALUATION = 3553.0, 773.0
"""Images a second with 256 at a time: training in mixed precision, the integer executor."""
QAT_IMAGES_A_SECOND = {64: 231.0, 256: 385.0}
"""By pictures a step. A line through the two gives what a step costs whatever is in it, and what each picture adds."""
PREPARED = 1 / 3.09e-3
"""Images a second and core: read, Mosaic and MixUp at 320 x 320, without the cache of decoded pictures."""
REFERENCE = 1 / 0.25
"""Images a second and core through the int8 file in LiteRT's reference kernels, on a 2-core x86-64 machine."""


def hours(plan: Plan, row: Row, cores: int = 16) -> dict[str, float]:
    """Hours by step: ``float`` (0 where weights are given), ``qat`` (calibration and its evaluations too), ``file``."""
    work = GMACS[row.model] * (row.size / 640) ** 2 / NANO_320
    pixels = (row.size / 320) ** 2
    prepared = pixels / (PREPARED * cores)
    seen = TRAIN_IMAGES * (plan.epochs if row.weights is None else 0)
    evaluations = (plan.qat_epochs + 3) * VAL_IMAGES * work / INTEGER_EVALUATION  # before and after each epoch, the end
    qat = plan.qat_epochs * TRAIN_IMAGES * max(qat_seconds(work), prepared) + evaluations
    seconds = {
        "float": seen * max(work / TRAINING, prepared),
        "qat": qat,
        "file": VAL_IMAGES * work / (REFERENCE * cores),
    }
    return {step: value / 3600 for step, value in seconds.items()}


def qat_seconds(work: float) -> float:
    """Of a picture of QAT, in a network that computes ``work`` times as much as nano at 320 x 320."""
    (few, at_few), (many, at_many) = ((count, count / rate) for count, rate in QAT_IMAGES_A_SECOND.items())
    each = (at_many - at_few) / (many - few)
    step = QAT["batch_size"]
    return float((at_few - few * each) / step + each * work)


def shown(value: float) -> str:
    """Hours for the eye: ``40 min``, ``2.8 h``."""
    return f"{60 * value:.0f} min" if value < 1 else f"{value:.1f} h"
