"""Checkpoint files: written whole or not at all, read without running code, loaded with a report."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
import shlex
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from hatdet.utils.checkpoints.archive import START, damage, is_archive, newest_whole
from hatdet.utils.checkpoints.mismatch import reasons
from hatdet.utils.errors import UserError
from hatdet.utils.finite import refuse_not_finite


def save_checkpoint(path: str | Path, state: Mapping[str, Any], also: Sequence[str | Path] = ()) -> None:
    """Write ``state`` so that ``path`` is, at any moment, the old file or the whole new one.

    Args:
        path: the file. It is replaced last: who finds the new ``path`` finds the new ``also`` too.
        state: tensors, numbers, text and containers of those, so that ``weights_only=True`` reads it.
        also: further names of the same content (hard links where the file system has them).

    Raises:
        UserError: no space left, or another error of the file system.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            _write(state, file)
        for name in also:
            _publish(temporary, Path(name))
        os.replace(temporary, path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _write(state: Mapping[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch hides a full disk behind a RuntimeError about positions
        causes = [error, error.__cause__, error.__context__]
        reason = next((e.strerror for e in causes if isinstance(e, OSError) and e.strerror), None)
        raise UserError(
            f"{file.name} could not be written: {reason or 'is the disk full?'}; "
            "free some space, or write elsewhere (ckpt_dir, --work-dir)"
        ) from error


def _publish(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # no hard links here, or another file system
        shutil.copyfile(source, temporary)
    os.replace(temporary, path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse; the rename itself is still atomic
        pass
    finally:
        os.close(descriptor)


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``: a file from a stranger cannot run code.

    Raises:
        FileNotFoundError: no such file.
        UserError: the file is not a checkpoint, is cut off, or holds other objects than tensors and plain values.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(2, "no such checkpoint", str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the protocol of a stranger's pickle; it is refused anyway
            with Path(path).open("rb") as file:
                if is_archive(file) and (found := damage(file)) is not None:
                    raise UserError(_damaged(Path(path), found))
                file.seek(0)
                state = torch.load(file, map_location=map_location, weights_only=True)
    except (PermissionError, UserError):
        raise
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(f"{path} cannot be read as a checkpoint: {_why_unreadable(Path(path), error)}") from error
    if not isinstance(state, dict):
        raise UserError(
            f"{path} holds a {type(state).__name__}; a checkpoint is a dict, with 'state_dict' among its keys"
        )
    return state


def _damaged(path: Path, found: str) -> str:
    """The message for an archive whose checksums do not hold, with the file to take instead."""
    other = newest_whole(path)
    instead = "take another checkpoint or train again"
    if other is not None:
        instead = f"the newest whole one beside it is {other}: name that, or `cp {shlex.quote(str(other))} "
        instead += f"{shlex.quote(str(path))}`"
    return f"{path} cannot be read as a checkpoint ({found}): the file is damaged or cut off; {instead}"


def _why_unreadable(path: Path, error: Exception) -> str:
    """One line for what torch says in many."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "the file is empty; take another checkpoint or train again"
    found = re.search(r"GLOBAL (\S+)", str(error))  # the unpickler's word for what it would have to call
    if isinstance(error, pickle.UnpicklingError) and found:
        return (
            f"it holds {found[1]}, which is neither a tensor nor a plain value, and loading such a thing can run code; "
            "save tensors, numbers and text only"
        )
    if start == START:
        return "the file is damaged or cut off; take another checkpoint or train again"
    return "it is not a file that torch.save wrote; name a checkpoint (.pth, .pth.tar)"


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What :func:`load_state` did, by key of the state dict."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """in the model, not in the file"""
    extra: tuple[str, ...]
    """in the file, not in the model"""
    reshaped: tuple[str, ...]
    """in both, of different shapes: ``name: (file) in the file, (model) in the model``; not loaded"""

    def __str__(self) -> str:
        others = ((self.missing, "missing"), (self.extra, "extra"), (self.reshaped, "of another shape"))
        counts = [f"{len(names)} {what}" for names, what in others if names]
        taken = f"{len(self.matched)} tensors"
        return ", ".join([taken, *counts]) if counts else f"all {taken}"

    def details(self, limit: int = 8) -> str:
        """Names behind the counts, at most ``limit`` of each kind, one kind a line."""
        lines = []
        for title, names in (("missing", self.missing), ("extra", self.extra), ("other shape", self.reshaped)):
            if names:
                rest = f", ... ({len(names) - limit} more)" if len(names) > limit else ""
                lines.append(f"{title}: {', '.join(names[:limit])}{rest}")
        return "\n".join(lines)


def load_state(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    allow_miss: bool = False,
    ignore_extra: bool = False,
    ignore_tensor_shape: bool = False,
    source: str = "the file",
) -> LoadReport:
    """Load weights into a model, in place, all or nothing.

    A ``module.`` before every key (a file of a wrapped model) is taken off. Modules that resize their buffers on
    loading (observers) load as their own ``load_state_dict`` decides.

    Args:
        allow_miss: keys of the model may be absent.
        ignore_extra: keys that the model does not have are left out.
        ignore_tensor_shape: tensors of another shape are left out.
        source: where the weights come from, for messages.

    Returns:
        what matched and what did not.

    Raises:
        UserError: something did not fit and was not allowed, or is not finite; the model is as it was.
    """
    if not isinstance(state_dict, Mapping):
        raise UserError(f"the weights are a {type(state_dict).__name__}, not a dict of name and tensor")
    given = {str(key): value for key, value in state_dict.items()}
    if given and all(key.startswith("module.") for key in given):
        given = {key.removeprefix("module."): value for key, value in given.items()}
    own = model.state_dict()
    resizable = _resizable(model)
    shared = [key for key in own if key in given]
    different = {
        key: f"{key}: {_shape(given[key])} in the file, {_shape(own[key])} in the model"
        for key in shared
        if _shape(given[key]) != _shape(own[key]) and key not in resizable
    }
    report = LoadReport(
        matched=tuple(key for key in shared if key not in different),
        missing=tuple(key for key in own if key not in given),
        extra=tuple(key for key in given if key not in own),
        reshaped=tuple(different.values()),
    )
    refused = {
        "allow_miss": report.missing and not allow_miss,
        "ignore_extra": report.extra and not ignore_extra,
        "ignore_tensor_shape": report.reshaped and not ignore_tensor_shape,
    }
    flags = ", ".join(f"{name}=True" for name, problem in refused.items() if problem)
    if flags:
        shapes = [(key, _shape(given[key]), _shape(own[key])) for key in different]
        why = "; ".join(reasons(shapes, report.missing, report.extra))
        fits = f"{len(report.matched)} of {len(own)} tensors do"
        raise UserError(
            f"the weights do not fit the model ({fits}): {why}; take the config that {source} "
            f"was trained with, or load what fits with {flags}"
        )
    accepted = OrderedDict((key, given[key]) for key in report.matched)
    cast = {key: _as(value, own[key]) for key, value in accepted.items()}
    advice = "take an earlier checkpoint, or train again"
    refuse_not_finite(cast, f"the weights in {source}", advice)
    for key, value in cast.items():
        if key.endswith("running_var") and value.numel() and float(value.min()) < 0:
            raise UserError(f"{source}: {key} has a variance of {float(value.min()):.4g}, below 0; {advice}")
    metadata = getattr(state_dict, "_metadata", None)
    if metadata is not None:  # versions of the modules' formats: observers load older ones differently
        accepted._metadata = metadata  # type: ignore[attr-defined]
    model.load_state_dict(accepted, strict=False)
    return report


def snapshot(model: nn.Module) -> OrderedDict[str, Tensor]:
    """A copy of the model's state dict that later training steps do not change; shared tensors stay shared."""
    state = model.state_dict()
    copies: dict[tuple[Any, ...], Tensor] = {}
    result = OrderedDict()
    for key, value in state.items():
        same = (value.data_ptr(), value.shape, value.stride(), value.dtype) if value.numel() else (key,)
        if same not in copies:
            copies[same] = value.detach().clone()
        result[key] = copies[same]
    result._metadata = state._metadata  # type: ignore[attr-defined]
    return result


def _as(value: Any, own: Any) -> Any:
    """A tensor in the model's type, in which large numbers of a wider one are infinite."""
    if isinstance(value, Tensor) and isinstance(own, Tensor) and value.is_floating_point():
        return value if not own.is_floating_point() or value.dtype == own.dtype else value.to(own.dtype)
    return value


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _resizable(model: nn.Module) -> set[str]:
    """Keys of modules with their own loading, for which a different shape is not an error."""
    names: set[str] = set()
    for prefix, module in model.named_modules():
        if type(module)._load_from_state_dict is nn.Module._load_from_state_dict:
            continue
        if isinstance(module, nn.modules.batchnorm._NormBase):
            continue
        start = f"{prefix}." if prefix else ""
        names.update(start + name for name, _ in module.named_buffers())
        names.update(start + name for name, _ in module.named_parameters(recurse=False))
    return names
