"""What torch.ao's FX mode is told of our operators: which fuse, which are quantized, which share a quantization."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.qat.quantized_conv import ACTIVATIONS, ConvAct, QuantizedConv2d
from hatdet.utils.errors import UserError

FLOATS = [module for form in FORMS.values() for module in form.floats]
"""Modules with weights, as the canonical network has them."""


def insert_quantizers(traced: fx.GraphModule, qconfig: Any, example: Tensor) -> fx.GraphModule:
    """torch.ao's fusing and preparing, with our operators.

    Raises:
        UserError: torch.ao fails.
    """
    from torch.ao.quantization import QConfigMapping, quantize_fx
    from torch.ao.quantization.fx.custom_config import PrepareCustomConfig

    custom = PrepareCustomConfig()
    leaves = [module for form in FORMS.values() for module in (*form.modules, *form.floats)]
    custom.set_non_traceable_module_classes([leaf for leaf in leaves if not leaf.__module__.startswith("torch.")])
    ours = [module for module in traced.modules() if type(module) in FLOATS and type(module) is not nn.Conv2d]
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
    for source, act in itertools.product(FLOATS, ACTIVATIONS):
        fused = pattern((source, act)).set_fuser_method(lambda is_qat, conv, act: ConvAct(conv, act))
        config.set_backend_pattern_config(fused.set_fused_module(ConvAct))
    for form in FORMS.values():
        for source in form.floats:
            made = pattern(source).set_observation_type(own).set_root_module(nn.Conv2d)
            made = made.set_qat_module(form.quantized[0]).set_reference_quantized_module(nn.Conv2d)
            config.set_backend_pattern_config(made)
        for quantized in form.quantized:
            config.set_backend_pattern_config(pattern(quantized).set_observation_type(own).set_root_module(nn.Conv2d))
        if not form.floats:
            for what in (*form.modules, *form.functions):
                observation = shared if form.op.shares_scale else own
                config.set_backend_pattern_config(pattern(what).set_observation_type(observation))
    made = pattern(ConvAct).set_observation_type(own).set_root_module(nn.Conv2d).set_qat_module(QuantizedConv2d)
    config.set_backend_pattern_config(made.set_reference_quantized_module(nn.Conv2d))
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
