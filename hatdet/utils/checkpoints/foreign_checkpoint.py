"""RTMDet checkpoints of MMDetection and MMYOLO: read without running their code, renamed to hatdet's names and back.

hatdet's parameter names are MMDetection's. MMYOLO's differ in the neck (one list with Identity entries where
MMDetection has two lists) and in the head (``bbox_head.head_module.``). Facts: MMYOLO's public converter
rtmdet_to_mmyolo renames in the other direction.
"""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hatdet.utils.errors import UserError, did_you_mean

LAYOUTS = ("hatdet", "mmdet", "mmyolo")
_MMYOLO_NAMES = (
    (r"^bbox_head\.head_module\.", "bbox_head."),
    (r"^neck\.reduce_layers\.2\.", "neck.reduce_layers.0."),
    (r"^neck\.top_down_layers\.0\.0\.", "neck.top_down_blocks.0."),
    (r"^neck\.top_down_layers\.0\.1\.", "neck.reduce_layers.1."),
    (r"^neck\.top_down_layers\.1\.", "neck.top_down_blocks.1."),
    (r"^neck\.downsample_layers\.", "neck.downsamples."),
    (r"^neck\.bottom_up_layers\.", "neck.bottom_up_blocks."),
    (r"^neck\.out_layers\.", "neck.out_convs."),
)
_OLDER_NAMES = ((r"^rpn_head\.", "bbox_head."),)
"""The head of a network of proposals alone, in files of MMDetection 2.x; in two-stage files it has a ``roi_head``."""
_DROPPED = ("data_preprocessor.",)
_HARMLESS = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.config.config.ConfigDict",
    "mmengine.config.config.Config",
    "addict.addict.Dict",
)
"""Classes whose objects official files carry beside the weights. They become empty shells; nothing of theirs runs."""


class Opaque(dict[Any, Any]):
    """What stands in for an object that is not needed: takes any construction and any state, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Opaque:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Ignore it."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore it."""


_NUMPY = ("_reconstruct", "scalar")
_HARMLESS_NUMPY = (
    *(f"{package}.{name}" for package in ("numpy.core.multiarray", "numpy._core.multiarray") for name in _NUMPY),
    *("numpy.ndarray", "numpy.dtype", "_codecs.encode"),
)
"""What rebuilds the numbers of a logged history."""


@contextlib.contextmanager
def harmless_objects() -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` pass the extra objects of official files, each as an :class:`Opaque`."""
    with torch.serialization.safe_globals([(Opaque, name) for name in (*_HARMLESS, *_HARMLESS_NUMPY)]):
        yield


def layout_of(state: Mapping[str, Any]) -> str:
    """``mmyolo``, ``mmdet`` or ``hatdet``: what wrote a checkpoint, by its keys."""
    weights = state.get("state_dict", state)
    if any(str(key).startswith("bbox_head.head_module.") for key in weights):
        return "mmyolo"
    meta = state.get("meta")
    if isinstance(meta, Mapping) or any(str(key).startswith(_DROPPED) for key in weights):
        return "mmdet"
    return "hatdet"


def tensors_of(state: Mapping[str, Any]) -> Any:
    """Where the weights of a checkpoint lie: under ``state_dict``, under ``model`` (in files of many classifiers), or
    directly."""
    found = state.get("state_dict", state)
    inside = found.get("model") if isinstance(found, Mapping) else None
    return inside if isinstance(inside, Mapping) else found


def weights_of(state: Mapping[str, Any], which: str = "ema") -> OrderedDict[str, Tensor]:
    """The weights of a checkpoint of MMEngine or of hatdet (``state_dict`` and ``raw_state_dict``).

    MMEngine's EMA hook swaps before it saves: ``state_dict`` then holds the averaged weights (what was validated) and
    ``ema_state_dict`` the raw ones, under ``module.``.

    Args:
        which: ``ema``: the averaged ones where there are any; ``raw``: those that the optimizer had.

    Raises:
        UserError: no weights, or no raw ones.
    """
    if which not in ("ema", "raw"):
        raise UserError(f"weights={which!r}: write 'ema' or 'raw'")
    weights = tensors_of(state)
    if which == "raw" and isinstance(state.get("raw_state_dict"), Mapping):
        weights = state["raw_state_dict"]
    elif which == "raw":
        other = state.get("ema_state_dict")
        if not isinstance(other, Mapping):
            raise UserError(
                "the checkpoint has no second set of weights (raw_state_dict, ema_state_dict): it was saved without "
                "EMA; leave --weights out"
            )
        raw = {k.removeprefix("module."): v for k, v in other.items() if k.startswith("module.")}
        weights = {k: raw.get(k, v) for k, v in weights.items()}
    found = OrderedDict((str(k), v) for k, v in weights.items() if isinstance(v, Tensor))
    if not found:
        raise UserError(
            "the checkpoint holds no weights: there is no tensor in its state_dict; "
            "name a file with weights"
        )
    return found


def to_hatdet(weights: Mapping[str, Tensor], layout: str) -> OrderedDict[str, Tensor]:
    """Weights under hatdet's names; the preprocessor's constants are dropped (the config has them).

    Raises:
        UserError: an unknown layout.
    """
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout {layout!r}{did_you_mean(layout, LAYOUTS)}; one of {', '.join(LAYOUTS)}")
    patterns = _MMYOLO_NAMES if layout == "mmyolo" else ()
    if not any(key.startswith(("bbox_head.", "roi_head.")) for key in weights):
        patterns = (*patterns, *_OLDER_NAMES)
    renamed: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in weights.items():
        if key.startswith(_DROPPED):
            continue
        for pattern, name in patterns:
            key, count = re.subn(pattern, name, key)
            if count:
                break
        renamed[key] = value
    return renamed


def exp_on_reg_of(state: Mapping[str, Any], layout: str) -> bool | None:
    """Whether boxes are ``exp(raw) * stride``: MMYOLO never, MMDetection as the config in the file says.

    None: a file of MMDetection that carries no config (m, l and x have it, tiny and s do not).
    """
    metadata = state.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(metadata.get("exp_on_reg"), bool):
        return bool(metadata["exp_on_reg"])
    if layout == "mmyolo":
        return False
    meta = state.get("meta")
    for key in ("cfg", "config"):
        text = meta.get(key) if isinstance(meta, Mapping) else None
        if isinstance(text, str) and "bbox_head" in text:
            return bool(re.search(r"exp_on_reg['\"]?\s*[=:]\s*True", text))
    return None


def read_foreign(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of MMDetection, MMYOLO or hatdet with ``weights_only=True``.

    Raises:
        FileNotFoundError, UserError: as :func:`~hatdet.utils.checkpoints.checkpoint.load_checkpoint`.
    """
    from hatdet.utils.checkpoints.checkpoint import load_checkpoint

    with harmless_objects():
        return load_checkpoint(path)


def converted(state: Mapping[str, Any], layout: str, which: str = "ema") -> dict[str, Any]:
    """A foreign checkpoint as hatdet writes them: ``state_dict``, ``metadata``.

    ``metadata`` has ``source``, ``exp_on_reg`` where it is known, and ``classes`` where the file names them.
    """
    metadata: dict[str, Any] = {"source": layout}
    exp_on_reg = exp_on_reg_of(state, layout)
    if exp_on_reg is not None:
        metadata["exp_on_reg"] = exp_on_reg
    meta = state.get("meta")
    if isinstance(meta, Mapping):
        info = meta.get("dataset_meta") or {}
        classes = next((info[k] for k in ("classes", "CLASSES") if k in info), None) or meta.get("CLASSES")
        if isinstance(classes, (list, tuple)) and all(isinstance(c, str) for c in classes):
            metadata["classes"] = list(classes)
    return {"state_dict": to_hatdet(weights_of(state, which), layout), "metadata": metadata}


def to_mmdet(state: Mapping[str, Any]) -> dict[str, Any]:
    """A float checkpoint of hatdet as MMDetection reads it: ``meta`` and ``state_dict`` with its names.

    Raises:
        UserError: quantized weights, which MMDetection has no place for.
    """
    weights = weights_of(state)
    if any("activation_post_process" in key for key in weights):
        raise UserError(
            "these are quantized weights (calibration or QAT); MMDetection takes float weights only; "
            "name the float stage's checkpoint"
        )
    metadata = state.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    meta: dict[str, Any] = {"dataset_meta": {"classes": list(metadata.get("classes", []))}}
    if "exp_on_reg" in metadata:
        meta["hatdet_exp_on_reg"] = bool(metadata["exp_on_reg"])
    return {"meta": meta, "state_dict": weights}
