"""Learning rate and weight decay of each parameter, as ``paramwise_cfg`` of MMEngine's configs says them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from hatdet.utils.errors import UserError, did_you_mean

logger = logging.getLogger("hatdet")

MULTIPLIERS = (
    "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "dwconv_decay_mult", "flat_decay_mult", "dcn_offset_lr_mult",
)  # fmt: skip
KEYS = ("custom_keys", *MULTIPLIERS, "bypass_duplicate")
LAYER_DECAY = "LearningRateDecayOptimizerConstructor"
_DECAY_KEYS = ("decay_rate", "num_layers", "decay_type")
_DECAY_TYPES = ("layer_wise", "stage_wise")
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def check_paramwise_cfg(cfg: Mapping[str, Any] | None, constructor: str | None = None) -> None:
    """Refuse unknown keys, and values that are no numbers."""
    if constructor is not None:
        _check_layer_decay(cfg or {}, constructor)
        return
    for key, value in (cfg or {}).items():
        if key not in KEYS:
            near = did_you_mean(key, KEYS)
            raise UserError(f"paramwise_cfg: unknown key {key!r}{near}; it has {', '.join(KEYS)}")
        if key in MULTIPLIERS and (isinstance(value, bool) or not isinstance(value, (int, float, type(None)))):
            raise UserError(f"paramwise_cfg.{key} is a number that multiplies, got {value!r}; write one")
        if key == "custom_keys" and not (
            isinstance(value, Mapping) and all(isinstance(each, Mapping) for each in value.values())
        ):
            example = "{'backbone': dict(lr_mult=0.1)}"
            raise UserError(f"paramwise_cfg.custom_keys is a dict of dicts, got {value!r}; write it like {example}")


def paramwise_settings(
    model: nn.Module, cfg: Mapping[str, Any], optimizer: Mapping[str, Any]
) -> Iterator[tuple[nn.Parameter, dict[str, Any]]]:
    """The trainable parameters, once each (a shared one under its first name), with what differs from the optimizer's.

    ``custom_keys`` are parts of names: the longest that fits decides (of two as long, the first of the alphabet), and
    then nothing else does. Otherwise, in this order and the first that fits: of weight decay ``norm_decay_mult``,
    ``bias_decay_mult``, ``dwconv_decay_mult`` (convolutions with as many groups as channels) and ``flat_decay_mult``
    (all else with one dimension); of the learning rate ``dcn_offset_lr_mult`` (the convolution of the offsets in a
    deformable one, which no rule for biases touches) and ``bias_lr_mult`` (not of normalizations).

    Args:
        model: as it is trained.
        cfg: ``paramwise_cfg``.
        optimizer: the optimizer's arguments: ``lr`` and ``weight_decay`` are what is multiplied.

    Raises:
        UserError: a multiplier of what the optimizer's arguments leave out.
    """
    check_paramwise_cfg(cfg)
    custom: Mapping[str, Mapping[str, Any]] = cfg.get("custom_keys", {})
    by_length, used, seen = sorted(sorted(custom), key=len, reverse=True), set[str](), set[int]()
    in_deformable = {f"{name}.conv_offset" for name, module in model.named_modules() if _is_deformable(module)}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            key = next((key for key in by_length if key in f"{prefix}.{name}"), None)
            if key is None:
                factors, own = _rules(cfg, module, name, parameter, prefix in in_deformable), {}
            else:
                used.add(key)
                own = dict(custom[key])
                factors = {"lr": own.pop("lr_mult", None), "weight_decay": own.pop("decay_mult", None)}
            yield parameter, {**_multiplied(factors, optimizer), **own}
    for key in sorted(custom.keys() - used):
        logger.warning("paramwise_cfg.custom_keys: no parameter has %r in its name", key)


def _rules(
    cfg: Mapping[str, Any], module: nn.Module, name: str, parameter: nn.Parameter, offsets: bool
) -> dict[str, float | None]:
    norm = isinstance(module, _NORMS) or name in getattr(module, "norm_parameters", ())
    depthwise = isinstance(module, nn.Conv2d) and module.in_channels == module.groups
    bias = name == "bias" and not offsets
    decays = [
        (norm, "norm_decay_mult"),
        (bias, "bias_decay_mult"),
        (depthwise, "dwconv_decay_mult"),
        (parameter.ndim == 1 and not offsets, "flat_decay_mult"),
    ]
    rates = [(offsets, "dcn_offset_lr_mult"), (bias and not norm, "bias_lr_mult")]
    return {
        "lr": next((cfg[key] for fits, key in rates if fits and cfg.get(key) is not None), None),
        "weight_decay": next((cfg[key] for fits, key in decays if fits and cfg.get(key) is not None), None),
    }


def _multiplied(factors: Mapping[str, float | None], optimizer: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for name, factor in factors.items():
        if factor is None:
            continue
        if name not in optimizer:
            raise UserError(
                f"paramwise_cfg multiplies {name}, which the optimizer is not given; write {name}=... there"
            )
        found[name] = optimizer[name] * factor
    return found


def _is_deformable(module: nn.Module) -> bool:
    """Whether it is a deformable convolution: its offsets come from a convolution ``conv_offset`` in it."""
    return isinstance(getattr(module, "conv_offset", None), nn.Conv2d)


def _check_layer_decay(cfg: Mapping[str, Any], constructor: str) -> None:
    if constructor != LAYER_DECAY:
        raise UserError(f"optimizer.constructor: {constructor!r} is not here; write {LAYER_DECAY!r} or leave it out")
    wrong = [key for key in cfg if key not in _DECAY_KEYS]
    if wrong or not {"decay_rate", "num_layers"} <= cfg.keys():
        has = ", ".join(map(str, cfg)) or "nothing"
        raise UserError(f"paramwise_cfg with {LAYER_DECAY} has {has}; write decay_rate, num_layers, decay_type")
    if cfg.get("decay_type", "layer_wise") not in _DECAY_TYPES:
        raise UserError(f"paramwise_cfg.decay_type={cfg['decay_type']!r}; write {' or '.join(map(repr, _DECAY_TYPES))}")


def layer_decay_settings(
    model: nn.Module, cfg: Mapping[str, Any], optimizer: Mapping[str, Any]
) -> Iterator[tuple[nn.Parameter, dict[str, Any]]]:
    """The trainable parameters of a detector with a ConvNeXt: the nearer to the picture, the slower they learn.

    The rate at depth d, 0 to ``num_layers`` + 1, is the optimizer's times ``decay_rate`` ** (``num_layers`` + 1 - d).
    Biases, and all else of one dimension, have no weight decay.

    Args:
        model: as it is trained.
        cfg: ``decay_rate``; ``num_layers`` of the backbone (6 or 12); ``decay_type``: depths are counted by layer or by
            stage.
        optimizer: the optimizer's arguments.

    Raises:
        UserError: another backbone, or an optimizer without a learning rate.
    """
    _check_layer_decay(cfg, LAYER_DECAY)
    kind = type(getattr(model, "backbone", model)).__name__
    if "ConvNeXt" not in kind:
        raise UserError(f"{LAYER_DECAY} knows the layers of ConvNeXt, the backbone is {kind}; leave constructor out")
    layers = cfg["num_layers"]
    depth = _layer_of if cfg.get("decay_type", "layer_wise") == "layer_wise" else _stage_of
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factors = {"lr": cfg["decay_rate"] ** (layers + 1 - depth(name, layers))}
            plain = parameter.ndim == 1 or name.endswith(".bias")
            yield parameter, {**_multiplied(factors, optimizer), **({"weight_decay": 0.0} if plain else {})}


def _layer_of(name: str, layers: int) -> int:
    """0: stem; then the stages, of the third every three blocks; ``layers``: the last stage; one more: the rest."""
    _, part, number, block, *_ = f"{name}...".split(".")
    if not name.startswith(("backbone.stages.", "backbone.downsample_layers.")):
        return 0 if name in _TOKENS else layers + 1
    if part == "downsample_layers":
        return (0, 2, 3, layers)[min(int(number), 3)]
    return (1, 2, 3 + int(block) // 3, layers)[min(int(number), 3)]


def _stage_of(name: str, layers: int) -> int:
    """0: stem and what is between stages; then the stages; ``layers`` + 1: the rest."""
    if name.startswith("backbone.stages."):
        return int(name.split(".")[2]) + 1
    return 0 if name.startswith("backbone.downsample_layers.") or name in _TOKENS else layers + 1


_TOKENS = ("backbone.cls_token", "backbone.mask_token", "backbone.pos_embed")
