"""An integer model straight from float weights: post-training quantization on a few images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from hatdet.quantization.converters import Float2Calibration, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector
from hatdet.utils.errors import UserError


def is_quantized_state(state_dict: Mapping[str, Any]) -> bool:
    """Whether weights are those of a calibrated or QAT-trained model (they hold ranges), not a float model's."""
    return any("activation_post_process" in key for key in state_dict)


@torch.no_grad()
def calibrate(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    max_images: int,
    observer: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[QuantizedDetector, int]:
    """Fold batch normalization, record the ranges of activations, switch to integers, and adjust the weights to them as
    the settings say.

    Args:
        model: a float detector with its weights.
        batches: images as validation preprocesses them.
        max_images: stop after so many.
        observer: see :class:`~hatdet.quantization.converters.Float2Calibration`.
        settings: ``qconfig_params`` of :class:`~hatdet.quantization.converters.ModelConvertPipeline`.

    Returns:
        The quantized detector, and how many images it saw.

    Raises:
        UserError: there were none.
    """
    converters = [Float2Calibration(observer=observer)]
    quantized = ModelConvertPipeline(converters=converters, qconfig_params=settings)(model.eval())
    assert isinstance(quantized, QuantizedDetector)
    quantized.eval()
    seen = 0
    kept: list[dict[str, Any]] = []
    for batch in batches:
        pixels = batch["img"][: max_images - seen]
        quantized.run_network(quantized.preprocess(pixels))
        deciding = quantized.undecided and seen < quantized.decides_by
        kept += [{"img": pixels}] if quantized.refinement.walks or deciding else []
        seen += len(pixels)
        if seen >= max_images:
            break
    if not seen:
        raise UserError("calibration needs at least one image; name a data set or a folder that has some")
    quantized.set_observing(False)
    quantized.set_quantizing(True)
    if quantized.undecided:
        quantized.decide(batch["img"] for batch in kept)
    quantized.refine(lambda: kept)
    return quantized, seen
