"""What calibration does beside finding ranges, as a config says it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hatdet.quantization.ptq.adaround import can_be_learned, learn_rounding
from hatdet.quantization.ptq.bias_correction import correct_bias
from hatdet.quantization.ptq.equalization import equalize
from hatdet.quantization.ptq.walk import images_that_fit, walk
from hatdet.quantization.qat.fx_adapter import resting
from hatdet.quantization.qat.network import QuantizedNetwork
from hatdet.quantization.tracing.comparison import compare_runs, refuse, run
from hatdet.quantization.tracing.two_sizes import noise_for
from hatdet.utils.errors import UserError, did_you_mean
from hatdet.utils.logging import live_line

logger = logging.getLogger("hatdet")

ROUNDINGS = ("nearest", "adaround")
IMAGES = 64
"""At most so many of the calibration images are walked with."""
VALUES = 1 << 25
"""One map of all of them has at most so many values (128 MiB)."""
_SAY_EVERY = 15.0
"""Seconds between two lines where the output is no terminal."""


@dataclass(frozen=True)
class Refinement:
    """The options of a calibration that change weights and biases; see ``ModelConvertPipeline``."""

    equalize: bool = False
    bias_correction: bool = False
    weight_rounding: str = "nearest"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Refinement:
        """From ``qconfig_params``.

        Raises:
            UserError: a value that is none.
        """
        for name in ("equalize", "bias_correction"):
            if settings[name] not in (True, False):
                raise UserError(f"{name} is {settings[name]!r}; use True or False")
        rounding = settings["weight_rounding"]
        if rounding not in ROUNDINGS:
            meant = did_you_mean(str(rounding), ROUNDINGS)
            raise UserError(f"weight_rounding is {rounding!r}; use one of {', '.join(ROUNDINGS)}{meant}")
        return cls(bool(settings["equalize"]), bool(settings["bias_correction"]), rounding)

    @property
    def walks(self) -> bool:
        """Whether there is something to do once ranges are known."""
        return self.bias_correction or self.weight_rounding != "nearest"

    @property
    def changes_weights(self) -> bool:
        return self.walks or self.equalize

    def described(self) -> dict[str, Any]:
        """For a checkpoint's metadata; empty where nothing is on."""
        return asdict(self) if self.changes_weights else {}


def equalize_network(network: QuantizedNetwork) -> None:
    """Equalize a prepared network before anything is observed.

    Raises:
        UserError: it would not be the same network any more.
    """
    noise = noise_for(network.trunk, network.trunk.meta["input_shape"])
    with resting(network.trunk):
        before = run(network.trunk, noise)
        count = equalize(network.plan)
        refuse(compare_runs(before, network.trunk, noise), "equalization")
    network.set_observing(True)
    for conv in network.convolutions():
        conv.observe_weight()
    if count:
        logger.info("equalized %d pairs of layers", count)
    else:
        logger.warning("equalize=True changes nothing here: no two convolutions with ReLU or nothing between them")


@torch.no_grad()
def refine(network: QuantizedNetwork, batches: Callable[[], Iterable[Tensor]], options: Refinement) -> None:
    """Learn the rounding of weights and correct biases, layer after layer, in place.

    Weights become values that are on their grid, biases what is added, so that all that is made of the network later
    (its checkpoint, the integer model, a training that starts here) has them.

    Args:
        network: calibrated, observers off, quantization on.
        batches: gives normalized images (b, C, H, W), those that were calibrated on.
    """
    begin, images = time.perf_counter(), _images(network, batches())
    total, seen = len(network.convolutions()), sum(len(x) for x in images)
    logger.info("adjusting weights and biases of %d layers to %d images: %s", total, seen, _named(options))
    learned: list[float] = []
    said = begin
    with live_line() as show:
        for number, visit in enumerate(walk(network, images), start=1):
            if show is not None:
                show(f"layer {number} of {total}: {visit.step.name}")
            elif time.perf_counter() - said > _SAY_EVERY:
                said = time.perf_counter()
                logger.info("layer %d of %d", number, total)
            if options.weight_rounding == "adaround" and can_be_learned(visit):
                learned.append(learn_rounding(visit, centred=options.bias_correction))
            if options.bias_correction and visit.own_bias:
                correct_bias(visit)
    if learned:
        left = sum(learned) / len(learned)
        logger.info("adaround: %d of %d layers; error of sums %.0f %% of before", len(learned), total, 100 * left)
    logger.info("adjusted in %.0f s", time.perf_counter() - begin)


def _named(options: Refinement) -> str:
    parts = ["bias correction"] if options.bias_correction else []
    return ", ".join(parts + ([options.weight_rounding] if options.weight_rounding != "nearest" else []))


def _images(network: QuantizedNetwork, batches: Iterable[Tensor]) -> list[Tensor]:
    """As many as fit, in chunks as they came."""
    kept: list[Tensor] = []
    left = 0
    for batch in batches:
        if not kept:
            left = images_that_fit(network, batch[:1], IMAGES, VALUES)
        kept.append(batch[:left])
        left -= len(kept[-1])
        if left <= 0:
            break
    return kept
