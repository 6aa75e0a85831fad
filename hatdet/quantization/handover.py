"""What QAT takes over from a calibration: ranges, bits of weights, weights and scales that it adjusted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from hatdet.quantization.detector import QuantizedDetector
from hatdet.quantization.ptq.refine import Refinement
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize, WeightFakeQuantize, bits_of
from hatdet.quantization.qat.learned_steps import step_of
from hatdet.quantization.qat.weight_bits import KEY
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.finite import refuse_not_finite

logger = logging.getLogger("hatdet")


def begin_where_calibrated(model: QuantizedDetector, path: str) -> None:
    """Take everything over from a calibration's checkpoint of the same network.

    Raises:
        UserError: the file cannot be read, has values that are not finite, or is of a network with other layers.
    """
    calibrated = load_checkpoint(path)
    metadata, state = calibrated.get("metadata") or {}, calibrated["state_dict"]
    if model.quantized.undecided:
        model.follow_bits(metadata, path)
    logger.info("took %d activation ranges over from %s", seed_ranges(model, state), path)
    if made := metadata.get("refinement"):
        model.refinement = Refinement.of(made)
        seed_weights(model, state)
        seed_scales(model, calibrated)
        logger.info("and the weights, adjusted by %s", ", ".join(f"{k}={v}" for k, v in made.items()))


@torch.no_grad()
def seed_weights(model: QuantizedDetector, state: Mapping[str, torch.Tensor]) -> None:
    """Copy the weights and biases of a calibrated model of the same network; scales that are learned begin there."""
    own = {name: parameter for name, parameter in model.named_parameters() if name in state}
    values = {name: state[name] for name in own}
    refuse_not_finite(values, "the weights of the calibration", "run the calibration stage again")
    for name, parameter in own.items():
        parameter.copy_(values[name])
    model.quantized.begin_scales()


@torch.no_grad()
def seed_ranges(model: QuantizedDetector, state: Mapping[str, torch.Tensor]) -> int:
    """Copy the activation quantizers' buffers (scale, zero point, range) of a calibrated model of the same network; its
    arithmetic may be another one.

    Returns:
        How many quantizers were set.
    """
    own, state = dict(model.named_buffers()), model.quantized.fitted(state, "quantized.")
    names = [
        name
        for name in own
        if name in state and "activation_post_process" in name and not name.endswith(("_enabled", "eps"))
    ]
    ranges = {name: state[name] for name in names}
    refuse_not_finite(ranges, "the activation ranges of the calibration", "run the calibration stage again")
    for name in names:
        own[name].copy_(state[name])
    for path, quantizer in model.named_modules():
        if isinstance(quantizer, ActivationFakeQuantize) and bits_of(state, f"{path}.") not in (None, quantizer.bits):
            quantizer.refresh()  # calibrated for other bits (int16_output): the range holds, the scale does not
    model.quantized.settle_loaded()
    return sum(name.endswith(".scale") for name in names)


@torch.no_grad()
def seed_scales(model: QuantizedDetector, calibrated: Mapping[str, Any]) -> None:
    """Let learned scales of weights begin where a calibration left them, for whose scales it adjusted the weights;
    unless it had others of 4 bits."""
    state, metadata = calibrated["state_dict"], calibrated.get("metadata") or {}
    if set(metadata.get(KEY) or ()) != set(model.quantized.four_bit_layers):
        return
    for path, quantizer in model.named_modules(remove_duplicate=False):
        if isinstance(quantizer, WeightFakeQuantize) and quantizer.step is not None:
            quantizer.step.copy_(step_of(state[f"{path}.scale"], quantizer.quant_max))
