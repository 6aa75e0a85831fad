"""Whether weights are those of a backbone: every tensor of it in its shape, and no more blocks than it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from hatdet.utils.checkpoints.mismatch import reasons

_COUNTER = "num_batches_tracked"
"""How many batches a norm has seen: nothing reads it, and older files lack it."""


def unfit(backbone: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Why ``weights`` are not those of the backbone; empty where every tensor of it is there, in its shape."""
    own = {key: value for key, value in backbone.state_dict().items() if isinstance(value, Tensor)}
    missing = [key for key in own if key not in weights and not key.endswith(_COUNTER)]
    shapes = [
        (key, tuple(weights[key].shape), tuple(value.shape))
        for key, value in own.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if missing or shapes:
        fit = sum(key in weights and weights[key].shape == value.shape for key, value in own.items())
        return f"{fit} of {len(own)} tensors do: {'; '.join(reasons(shapes, missing, []))}"
    deeper = modules_of(key for key in weights if key not in own and _deeper(backbone, key))
    return f"the file has more blocks, such as {deeper[0]}" if deeper else ""


def _deeper(backbone: nn.Module, key: str) -> bool:
    """Whether ``key`` is of one more element of a list of blocks inside a stage of the backbone."""
    stages: Sequence[Sequence[str]] = getattr(backbone, "stages", ())  # type: ignore[assignment]
    if not any(key.startswith(f"{name}.") for stage in stages for name in stage):
        return False
    module: nn.Module = backbone
    for word in key.split(".")[:-1]:
        inside = dict(module.named_children())
        if word not in inside:
            return isinstance(module, (nn.Sequential, nn.ModuleList)) and word.isdigit()
        module = inside[word]
    return False


def modules_of(keys: Iterable[str]) -> list[str]:
    """The modules that tensors belong to, once each."""
    return list(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))
