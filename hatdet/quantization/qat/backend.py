"""What torch.ao's FX mode is told of our operators: which fuse, which are quantized, which share a quantization."""

from __future__ import annotations

import itertools
import operator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from hatdet.quantization.qat.live_bn import BnConv2d
from hatdet.quantization.qat.quantized_conv import (
    ACTIVATIONS,
    ConvAct,
    QuantizedBnConv2d,
    QuantizedConv2d,
    QuantizedSharedConv2d,
)
from hatdet.quantization.qat.shared_conv import SharedConv2d
from hatdet.quantization.tracing.trace import LIMITS, OWN_ACTIVATIONS, AddActivation, Requantize
from hatdet.utils.errors import UserError

SHARING_MODULES: dict[type[nn.Module], str] = {
    nn.MaxPool2d: "max_pool",
    nn.AvgPool2d: "average_pool",
    nn.AdaptiveAvgPool2d: "global_average_pool",
    nn.Upsample: "resize_nearest",
    nn.ZeroPad2d: "pad",
}


def insert_quantizers(traced: fx.GraphModule, qconfig: Any, example: Tensor) -> fx.GraphModule:
    """torch.ao's fusing and preparing, with our operators.

    Raises:
        UserError: torch.ao fails.
    """
    from torch.ao.quantization import QConfigMapping, quantize_fx
    from torch.ao.quantization.fx.custom_config import PrepareCustomConfig

    custom = PrepareCustomConfig()
    custom.set_non_traceable_module_classes([AddActivation, Requantize, SharedConv2d, BnConv2d])
    ours = [module for module in traced.modules() if isinstance(module, (SharedConv2d, BnConv2d))]
    for module in ours:
        module.qconfig = qconfig  # torch.ao gives none to the classes above, and without one replaces none alone
    with warnings.catch_warnings(), without_stack_traces():
        warnings.simplefilter("ignore")  # torch.ao announces its own move to torchao; nothing a user can act on
        try:
            return quantize_fx.prepare_qat_fx(
                traced, QConfigMapping().set_global(qconfig), (example,), custom, backend_config()
            )
        except Exception as error:  # torch.ao's own: nothing of it is meant for users
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"torch.ao cannot prepare this network for quantization: {text}; write its forward with plain modules"
            ) from error
        finally:
            for module in ours:
                del module.qconfig


def backend_config() -> Any:
    from torch.ao.quantization.backend_config import BackendConfig, BackendPatternConfig, DTypeConfig, ObservationType

    dtypes = DTypeConfig(torch.qint8, torch.qint8, torch.qint8, torch.float)
    own, shared = (
        ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT,
        ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT,
    )

    def pattern(what: Any) -> BackendPatternConfig:
        return BackendPatternConfig(what).set_dtype_configs([dtypes])

    config = BackendConfig("hatdet")
    floats: tuple[type[nn.Module], ...] = (nn.Conv2d, SharedConv2d, BnConv2d)
    for source, act in itertools.product(floats, ACTIVATIONS):
        fused = pattern((source, act)).set_fuser_method(lambda is_qat, conv, act: ConvAct(conv, act))
        config.set_backend_pattern_config(fused.set_fused_module(ConvAct))
    for conv in (ConvAct, *floats):
        made = pattern(conv).set_observation_type(own).set_root_module(nn.Conv2d).set_qat_module(QuantizedConv2d)
        config.set_backend_pattern_config(made.set_reference_quantized_module(nn.Conv2d))
    for quantized in (QuantizedConv2d, QuantizedSharedConv2d, QuantizedBnConv2d):
        config.set_backend_pattern_config(pattern(quantized).set_observation_type(own).set_root_module(nn.Conv2d))
    for what in (operator.add, operator.mul, AddActivation, Requantize, *OWN_ACTIVATIONS):
        config.set_backend_pattern_config(pattern(what).set_observation_type(own))
    for what in (torch.cat, *SHARING_MODULES, *LIMITS):
        config.set_backend_pattern_config(pattern(what).set_observation_type(shared))
    return config


@contextmanager
def without_stack_traces() -> Iterator[None]:
    """torch.ao notes where each traced operator was called, for which torch loads its compiler: seconds of imports."""
    from torch.fx import config  # type: ignore[attr-defined]

    before = getattr(config, "do_not_emit_stack_traces", False)
    config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        config.do_not_emit_stack_traces = before
