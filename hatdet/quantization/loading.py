"""The converter that loads weights, ours and other toolboxes'."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from hatdet.quantization.detector import QuantizedDetector
from hatdet.quantization.stem import gray_stem
from hatdet.registry import register
from hatdet.utils.checkpoints.archive import newer_unrecorded
from hatdet.utils.checkpoints.checkpoint import load_state
from hatdet.utils.checkpoints.foreign_checkpoint import converted, layout_of, read_foreign, tensors_of
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.errors import UserError

logger = logging.getLogger("hatdet")


@register
class LoadCheckpoint:
    """Loads weights into the model as it stands at this point of the pipeline.

    Args:
        checkpoint_path: a file, or several: the first that exists is read.
        allow_miss: keys of the model may be absent from the file. Then a first convolution of three input channels also
            starts one of a single channel (:func:`~hatdet.quantization.stem.gray_stem`).
        ignore_extra: keys of the file may be absent from the model.
        ignore_tensor_shape: tensors of another shape are left out.
        optional: where there is no file the model stays as it is, with a warning.
        verbose: name every key that was missing, extra or of another shape.
        advice: what to do where there is no file, for the message; None: it names the stage that makes it.

    Raises:
        UserError: no such file (the message says what to do), or keys that do not fit and are not allowed.
    """

    def __init__(
        self,
        *,
        checkpoint_path: str | Sequence[str],
        allow_miss: bool = False,
        ignore_extra: bool = False,
        ignore_tensor_shape: bool = False,
        optional: bool = False,
        verbose: bool = False,
        advice: str | None = None,
    ) -> None:
        self.advice = advice
        self.paths = [checkpoint_path] if isinstance(checkpoint_path, str) else list(checkpoint_path)
        self.allow_miss, self.ignore_extra = allow_miss, ignore_extra
        self.ignore_tensor_shape, self.optional, self.verbose = ignore_tensor_shape, optional, verbose
        self._state: tuple[tuple[str, float], dict[str, Any]] | None = None  # read for its classes, not loaded yet

    def __call__(self, model: nn.Module) -> nn.Module:
        path = self._found()
        if path is None and self.optional:
            absent = f"no {' or '.join(self.paths)}: these weights are left as they are (random, at first)"
            logger.warning("%s", absent if self.advice is None else f"{absent}; {self.advice}")
            return model
        if path is None:
            if self.advice is not None:
                raise UserError(f"no checkpoint {' or '.join(self.paths)}: {self.advice}")
            raise UserError(missing_checkpoint(self.paths))
        state = self._read(path)
        self._state = None
        use_exp_on_reg(model, state)
        if isinstance(model, QuantizedDetector) and callable(adopt := getattr(model.task, "adopt", None)):
            adopt(state.get("metadata") or {})  # a float model has these numbers among its weights
        weights = tensors_of(state)
        if self.allow_miss:  # weights to start from, not a stage's own
            weights = adapted(weights, model)
        weights = with_prefix(weights, model)
        if self.allow_miss:
            weights = gray_stem(model, weights, state)
        if isinstance(model, QuantizedDetector):
            weights = model.follow(state.get("metadata") or {}, weights, path)
        report = load_state(
            model, weights, allow_miss=self.allow_miss, ignore_extra=self.ignore_extra,
            ignore_tensor_shape=self.ignore_tensor_shape, source=path,
        )  # fmt: skip
        logger.info("loaded %s: %s", path, report)
        if isinstance(model, QuantizedDetector):
            settle(model, path, str((state.get("metadata") or {}).get("profile", "")))
        if self.verbose and report.details():
            logger.info("%s", report.details())
        if newer := newer_unrecorded(path, self.paths):
            logger.warning(
                "%s is older than %s: if it was trained before that, train it again, or name a file with --ckpt",
                path,
                " and ".join(newer),
            )
        return model

    @property
    def takes_what_fits(self) -> bool:
        """Whether the model may stay without a part of the file: then its classes need not be the file's."""
        return self.allow_miss or self.ignore_extra or self.ignore_tensor_shape

    def known_classes(self) -> KnownClasses | None:
        """The classes that the file was trained on; None where it is not there or does not say."""
        path = self._found()
        return KnownClasses.of(self._read(path), path) if path is not None else None

    def _found(self) -> str | None:
        return next((p for p in self.paths if os.path.isfile(p)), None)

    def _read(self, path: str) -> dict[str, Any]:
        if self._state is None or self._state[0] != (path, os.path.getmtime(path)):
            self._state = ((path, os.path.getmtime(path)), native(read_foreign(path), path))
        return self._state[1]


def settle(model: QuantizedDetector, path: str, made_for: str) -> None:
    """Let the ranges of a checkpoint suit the model's arithmetic, which need not be the one that it was made for.

    Raises:
        UserError: naming the layer for which no scale suits.
    """
    quantizers = model.quantized.quantizers()
    before = [float(q.scale) for q in quantizers]
    moved = model.quantized.settle_loaded()
    if moved:
        most = max(float(q.scale) / scale - 1.0 for q, scale in zip(quantizers, before, strict=True))
        other = f" of the arithmetic {made_for!r}" if made_for and made_for != model.arithmetic else ""
        logger.warning(
            "%s: %d of %d scales%s were moved by up to %.2g %% to suit %r; train or calibrate again where every number "
            "is to be that of the training",
            path, moved, len(quantizers), other, 100.0 * most, model.quantized.arithmetic_name,
        )  # fmt: skip


def native(state: dict[str, Any], path: str) -> dict[str, Any]:
    """A checkpoint under hatdet's names: one of MMDetection or MMYOLO is renamed."""
    layout = layout_of(state)
    if layout == "hatdet":
        return state
    logger.info("%s is a checkpoint of %s: its names are mapped", path, layout)
    return converted(state, layout)


def with_prefix(weights: Any, model: nn.Module) -> Any:
    """Weights of a bare backbone (a published classifier's file) under ``backbone.``, where only that fits."""
    own = model.state_dict()
    if not isinstance(weights, Mapping) or any(key in own for key in weights):
        return weights
    prefixed = {f"backbone.{str(key).removeprefix('module.')}": value for key, value in weights.items()}
    if not any(key in own for key in prefixed):
        return weights
    logger.info("the file holds a bare backbone: its names are put under 'backbone.'")
    return prefixed


def adapted(weights: Any, model: nn.Module) -> Any:
    """Weights of a backbone alone under the names of ours, where the backbone knows those of its authors (``adapted``).

    They stand under ``backbone.`` in the file (a classifier of MMPreTrain's), or nothing else of it is the model's.
    """
    backbone, start = getattr(model, "backbone", None), "backbone."
    adapt = getattr(backbone, "adapted", None)
    if not callable(adapt) or not isinstance(weights, Mapping):
        return weights
    inside = {str(key).removeprefix(start): v for key, v in weights.items() if str(key).startswith(start)}
    if not inside:
        own = model.state_dict()
        return weights if any(key in own for key in weights) else adapt(weights)
    others = {key: value for key, value in weights.items() if not str(key).startswith(start)}
    return {**others, **{start + key: value for key, value in adapt(inside).items()}}


def use_exp_on_reg(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Decode boxes as the checkpoint was trained: ``exp(raw) * stride`` or ``raw * stride``."""
    metadata = state.get("metadata")
    wanted = metadata.get("exp_on_reg") if isinstance(metadata, Mapping) else None
    owner: Any = model.task if isinstance(model, QuantizedDetector) else model
    if isinstance(wanted, bool) and getattr(owner, "exp_on_reg", wanted) != wanted:
        logger.warning("the checkpoint was trained with exp_on_reg=%s, the config has the opposite: %s", wanted, wanted)
        owner.exp_on_reg = owner.bbox_head.exp_on_reg = wanted


def missing_checkpoint(paths: Sequence[str]) -> str:
    """The message for a checkpoint that is not there: which stage makes it."""
    first = paths[0]
    stage = os.path.basename(first).split("-", 1)[0]
    where = " or ".join(paths)
    if stage in ("float", "calibration", "qat"):
        return f"no checkpoint {where}: run `python tools/train.py --stage {stage} --config CONFIG` first"
    return f"no checkpoint {where}: give the path of an existing file"
