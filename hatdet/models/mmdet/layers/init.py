"""First weights as configs describe them (``init_cfg=dict(type="Normal", layer="Conv2d", std=0.01)``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.checkpoints.foreign_checkpoint import harmless_objects, weights_of
from hatdet.utils.errors import RegistryError, did_you_mean

InitCfg = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


def bias_init_with_prob(prior_prob: float) -> float:
    """The bias whose sigmoid is ``prior_prob`` (Focal Loss, arXiv 1708.02002, section 4.1)."""
    return float(-math.log((1 - prior_prob) / prior_prob))


def _fill(module: nn.Module, draw: Callable[[Any], Any], bias: float) -> None:
    if getattr(module, "weight", None) is not None:
        draw(module.weight)
    if getattr(module, "bias", None) is not None:
        nn.init.constant_(module.bias, bias)  # type: ignore[arg-type]


def constant_init(module: nn.Module, val: float, bias: float = 0) -> None:
    """``weight`` and ``bias``, where the module has them, to these numbers."""
    _fill(module, lambda weight: nn.init.constant_(weight, val), bias)


def normal_init(module: nn.Module, mean: float = 0, std: float = 1, bias: float = 0) -> None:
    """``weight`` from a normal distribution, ``bias`` to a number."""
    _fill(module, lambda weight: nn.init.normal_(weight, mean, std), bias)


def trunc_normal_init(
    module: nn.Module, mean: float = 0, std: float = 1, a: float = -2, b: float = 2, bias: float = 0
) -> None:
    """``weight`` from a normal distribution between ``a`` and ``b``, ``bias`` to a number."""
    _fill(module, lambda weight: nn.init.trunc_normal_(weight, mean, std, a, b), bias)


def uniform_init(module: nn.Module, a: float = 0, b: float = 1, bias: float = 0) -> None:
    """``weight`` evenly between ``a`` and ``b``, ``bias`` to a number."""
    _fill(module, lambda weight: nn.init.uniform_(weight, a, b), bias)


def xavier_init(module: nn.Module, gain: float = 1, bias: float = 0, distribution: str = "normal") -> None:
    """Glorot's initialization of ``weight``, ``uniform`` or ``normal``."""
    draw = _distribution(distribution, nn.init.xavier_uniform_, nn.init.xavier_normal_)
    _fill(module, lambda weight: draw(weight, gain=gain), bias)


def kaiming_init(
    module: nn.Module,
    a: float = 0,
    mode: str = "fan_out",
    nonlinearity: str = "relu",
    bias: float = 0,
    distribution: str = "normal",
) -> None:
    """He's initialization of ``weight`` (arXiv 1502.01852), ``uniform`` or ``normal``."""
    draw = _distribution(distribution, nn.init.kaiming_uniform_, nn.init.kaiming_normal_)
    _fill(module, lambda weight: draw(weight, a=a, mode=mode, nonlinearity=nonlinearity), bias)


def caffe2_xavier_init(module: nn.Module, bias: float = 0) -> None:
    """Caffe2's ``XavierFill``: even between -sqrt(3 / fan_in) and +sqrt(3 / fan_in)."""
    kaiming_init(module, a=1, mode="fan_in", nonlinearity="leaky_relu", bias=bias, distribution="uniform")


def _distribution(name: str, uniform: Callable[..., Any], normal: Callable[..., Any]) -> Callable[..., Any]:
    if name not in ("uniform", "normal"):
        raise RegistryError(f"init_cfg distribution={name!r}: write 'uniform' or 'normal'")
    return uniform if name == "uniform" else normal


_INITS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "Constant": (constant_init, ("val",)),
    "Xavier": (xavier_init, ("gain", "distribution")),
    "Normal": (normal_init, ("mean", "std")),
    "TruncNormal": (trunc_normal_init, ("mean", "std", "a", "b")),
    "Uniform": (uniform_init, ("a", "b")),
    "Kaiming": (kaiming_init, ("a", "mode", "nonlinearity", "distribution")),
    "Caffe2Xavier": (caffe2_xavier_init, ()),
}


@dataclass(frozen=True)
class Published:
    """Weights that a config asks for and that are not on this disk: ``torchvision://resnet50``, an address, a file that
    is not there. A model is built without them, too: one that gets all its weights from a checkpoint needs no others.

    Attributes:
        checkpoint: as the config has it.
        prefix: of the names in the file that belong to the module; None: all.
    """

    checkpoint: str
    prefix: str | None = None


def published_of(module: nn.Module) -> Published | None:
    """What an ``init_cfg`` of type Pretrained left to be loaded into ``module``; None: nothing."""
    found = getattr(module, "published", None)
    return found if isinstance(found, Published) else None


def initialize(module: nn.Module, init_cfg: InitCfg) -> None:
    """Fill the weights of ``module`` as ``init_cfg`` says.

    ``layer`` names the classes (their own name or that of a direct parent) whose weights are filled, except inside of
    parts that have to begin in a way of their own (``keeps_init``: as the identity, as a plain convolution).
    ``override`` fills the submodule ``name``, whole, in another way, or in the same where it says no ``type``.
    ``Pretrained`` loads a file on this disk; what is not there is only remembered (:func:`published_of`): nothing is
    downloaded here.

    Raises:
        RegistryError: an unknown type, argument or submodule.
    """
    if init_cfg is None:
        return
    entries = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg)
    entries.sort(key=_is_pretrained)  # loaded weights have the last word
    for entry in entries:
        options = dict(entry)
        overrides = options.pop("override", None)
        _apply(module, options, whole=False)
        if overrides is not None:
            for override in [overrides] if isinstance(overrides, Mapping) else overrides:
                _override(module, dict(override), options)


def zero_offsets(module: nn.Module) -> None:
    """Let every part that says the offsets of taps with a convolution ``conv_offset`` begin without offsets."""
    for part in module.modules():
        conv = getattr(part, "conv_offset", None)
        if isinstance(conv, nn.Module):
            constant_init(conv, 0)


def _is_pretrained(entry: Mapping[str, Any]) -> bool:
    return _kind(entry) == "Pretrained"


def _kind(entry: Mapping[str, Any]) -> str:
    if "type" not in entry:
        raise RegistryError(f"init_cfg needs a type, got dict({', '.join(map(str, entry))}); add it")
    return str(entry["type"]).rpartition(".")[2].removesuffix("Init")


def _override(module: nn.Module, override: dict[str, Any], common: Mapping[str, Any]) -> None:
    name = override.pop("name", None)
    if name is None:
        raise RegistryError("init_cfg override needs the name of a submodule; add name=")
    if not override:
        override = dict(common)
    elif "type" not in override:
        raise RegistryError(f"init_cfg override of {name!r} needs a type next to its arguments; add it")
    part = getattr(module, name, None)
    if not isinstance(part, nn.Module):
        near = did_you_mean(name, [child for child, _ in module.named_children()])
        owner = type(module).__name__
        raise RegistryError(f"init_cfg override: {owner} has no submodule {name!r}{near}; mend the name")
    _apply(part, override, whole=True)


def _apply(module: nn.Module, options: Mapping[str, Any], whole: bool) -> None:
    kind = _kind(options)
    if kind == "Pretrained":
        _pretrained(module, **{key: value for key, value in options.items() if key != "type"})
        return
    if kind not in _INITS:
        near = did_you_mean(kind, [*_INITS, "Pretrained"])
        raise RegistryError(f"unknown init_cfg type {kind!r}{near}; one of {', '.join([*_INITS, 'Pretrained'])}")
    fill, names = _INITS[kind]
    allowed = ("type", "layer", "bias", "bias_prob", *names)
    for key in options:
        if key not in allowed:
            near = did_you_mean(key, allowed)
            raise RegistryError(f"init_cfg {kind} has no argument {key!r}{near}; one of {', '.join(allowed)}")
    layers = options.get("layer") or ()
    wanted = {layers} if isinstance(layers, str) else set(layers)
    arguments = {key: options[key] for key in (*names, "bias") if key in options}
    if options.get("bias_prob") is not None:
        arguments["bias"] = bias_init_with_prob(options["bias_prob"])
    for part in _reached(module, set()):
        classes = {type(part).__name__, *(base.__name__ for base in type(part).__bases__)}
        if whole or classes & wanted:
            fill(part, **arguments)


def _reached(module: nn.Module, seen: set[int]) -> Iterator[nn.Module]:
    """``module`` and what is in it, but for the inside of parts that know their first weights (``keeps_init``)."""
    if id(module) not in seen:
        seen.add(id(module))
        yield module
        for child in module.children() if not getattr(module, "keeps_init", False) else ():
            yield from _reached(child, seen)


def _pretrained(
    module: nn.Module, checkpoint: str | None = None, prefix: str | None = None, map_location: str | None = None
) -> None:
    """Load a file by name, names that fit; ``map_location`` has no meaning before the module is on a device."""
    if checkpoint is None:
        return
    if "://" in checkpoint or not Path(checkpoint).is_file():
        object.__setattr__(module, "published", Published(checkpoint, prefix))
        return
    with harmless_objects():
        weights = weights_of(load_checkpoint(checkpoint))
    weights = type(weights)((name.removeprefix("module."), value) for name, value in weights.items())
    if prefix:
        start = f"{prefix.rstrip('.')}."
        weights = type(weights)((k.removeprefix(start), v) for k, v in weights.items() if k.startswith(start))
    adapt = getattr(module, "adapted", None)  # a part whose authors' files have other names and shapes
    if callable(adapt):
        weights = adapt(weights)
    own = module.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        what = f"no weight of {checkpoint!r} has a name and shape of this part's"
        raise RegistryError(f"init_cfg Pretrained: {what}; mend prefix=, or name a file made for it")
    module.load_state_dict(fitting, strict=False)
