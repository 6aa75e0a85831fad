"""Do backbone, neck and head fit each other? Asked of what they say of themselves, before anything runs.

What a part is not told, it takes from the part before it (:func:`complete_part`); what it is told is compared
(:func:`check_parts`).
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from torch import nn

from hatdet.models.feature_info import FeatureInfo
from hatdet.models.measuring import backbone_maps, info_of, maps_of
from hatdet.utils.input_format import channels_of
from hatdet.utils.misfit import MisfitError

_T = TypeVar("_T")

COMPLETED = {
    "backbone": ("in_channels",),
    "neck": ("in_channels", "in_strides"),
    "bbox_head": ("in_channels",),
    "head": ("in_channels",),
}
"""Arguments of a detector's parts that follow from the part before; a config may leave them out."""


def complete_part(
    name: str, cfg: Mapping[str, Any], missing: Mapping[str, Any], argument: Callable[[str], Any]
) -> dict[str, Any]:
    """Arguments that a part's config leaves out, taken from the part before it.

    Args:
        name: of the part: ``backbone``, ``neck``, ``bbox_head``, ``head``.
        cfg: what the config says of it.
        missing: the parameters of its constructor that the config does not set, with their defaults.
        argument: gives another (built) argument of the detector by name; None where there is none.

    Raises:
        MisfitError: a neck that is told other channels than the backbone has.
    """
    if name == "backbone":
        wanted = {"in_channels": channels_of(argument("input_color") or "bgr")}
        return {key: value for key, value in wanted.items() if key in missing and missing[key] != value}
    if name == "neck":
        info = backbone_info(argument("backbone"))
        if info is not None:
            _check_neck(argument("backbone"), info, cfg.get)
        maps = {} if info is None else {"in_channels": list(info.channels), "in_strides": list(info.strides)}
        found: dict[str, Any] = dict(maps)
    else:
        channels = set(output_channels(argument("neck")) or ())
        found = {"in_channels": channels.pop()} if len(channels) == 1 else {}
    return {k: v for k, v in found.items() if k in missing and missing[k] in (None, inspect.Parameter.empty)}


def told(value: _T | None, name: str) -> _T:
    """An argument that only a detector's config may leave out.

    Raises:
        ValueError: nobody gave it.
    """
    if value is None:
        raise ValueError(f"{name} is missing, and the part before does not say it (feature_info): write it")
    return value


def doubling(strides: Sequence[int]) -> tuple[int, ...]:
    """``strides`` of maps that are each half the size of the one before.

    Raises:
        MisfitError: they are not.
    """
    if any(b != 2 * a for a, b in itertools.pairwise(strides)):
        raise MisfitError(
            f"the backbone gives maps at strides {list(strides)}, but the neck mixes maps each of which has half the "
            "size of the one before",
            {},
            "choose other stages (the backbone's out_indices)",
        )
    return tuple(strides)


def feature_info(part: object) -> FeatureInfo | None:
    """What a part says of its maps; None where it says nothing."""
    info = getattr(part, "feature_info", None)
    return info if info is not None and hasattr(info, "channels") and hasattr(info, "strides") else None


def backbone_info(backbone: object) -> FeatureInfo | None:
    """What a backbone says of its maps, or how they turn out; None where it cannot be tried."""
    said = feature_info(backbone)
    if said is not None or not isinstance(backbone, nn.Module):
        return said
    maps = backbone_maps(backbone, _input_channels_tried(backbone))
    return None if maps is None else info_of(maps)


def _input_channels_tried(backbone: nn.Module) -> tuple[int, ...]:
    said = _input_channels(backbone)
    return (said,) if said in (1, 3) else (3, 1)


def output_channels(neck: object) -> tuple[int, ...] | None:
    """Channels of the maps that a neck gives, or one number for all of them; None where it does not say."""
    info = feature_info(neck)
    if info is not None:
        return tuple(info.channels)
    channels = getattr(neck, "out_channels", None)
    return (channels,) if isinstance(channels, int) else None


def output_strides(backbone: object, neck: object) -> tuple[int, ...] | None:
    """Strides of the maps that a neck gives; None where the parts do not say.

    Raises:
        MisfitError: strides that do not double from map to map.
    """
    own, given = feature_info(neck), feature_info(backbone)
    if own is not None:
        return tuple(own.strides)
    continued = getattr(neck, "output_strides", None)
    return tuple(continued(given.strides)) if given is not None and callable(continued) else None


def check_parts(
    backbone: nn.Module, neck: nn.Module, head: nn.Module, strides: Sequence[int], head_name: str, strides_name: str
) -> None:
    """Compare the maps that each part gives with those that the next one takes.

    Args:
        strides: of the levels that the head's outputs stand for.
        head_name: the head's argument of the detector.
        strides_name: the option that has ``strides``.

    Raises:
        MisfitError: with both sides and what to set.
    """
    if getattr(backbone, "top", None) is not None:
        raise MisfitError(f"{_named('backbone', backbone)} ends in a classifier", {"backbone.include_top": False})
    given = backbone_info(backbone)
    if given is not None:
        _check_neck(backbone, given, lambda key: getattr(neck, key, None))
    _check_head(neck, head, head_name)
    levels = output_strides(backbone, neck)
    if levels is None or feature_info(backbone) is None or not isinstance(getattr(head, "in_channels", None), int):
        levels = _tried(backbone, neck, head, levels, head_name, len(strides))
    if levels is not None and levels != tuple(strides):
        own = given is not None and tuple(given.strides) == levels
        raise MisfitError(
            f"{strides_name.split('.')[0]} has the strides {tuple(strides)}, but the "
            f"{'backbone' if own else 'neck'}'s maps have the strides {levels}",
            _levels_to_set(backbone, levels, strides, strides_name),
        )


def _tried(
    backbone: nn.Module, neck: nn.Module, head: nn.Module, levels: tuple[int, ...] | None, name: str, count: int
) -> tuple[int, ...] | None:
    """Strides of the levels of parts that do not say them; None where the backbone cannot be tried.

    Raises:
        MisfitError: a part cannot take what the one before gives, with what it said.
    """
    maps = backbone_maps(backbone, _input_channels_tried(backbone))
    if maps is None:
        return levels
    before = "backbone"
    for part, module in (("neck", neck), (name, head)):
        info = info_of(maps)
        if part == name and len(maps) != count:  # a head that counts its levels would take too many in silence
            return info.strides
        try:
            given, maps = maps, maps_of(module, maps)
        except Exception as error:
            raise MisfitError(
                f"{_named(part, module)} does not take the {before}'s {_count(len(maps), 'map')} with the channels "
                f"{list(info.channels)} at strides {list(info.strides)} ({_first_line(error)})",
                {},
                f"make its channels and levels those of the {before}",
            ) from error
        before = part
    return info_of(given).strides if levels is None else levels


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def check_input_channels(backbone: nn.Module, color: str, preprocessor: Any) -> None:
    """Compare the channels of the images with those that preprocessor and backbone take.

    Raises:
        MisfitError: 1 and 3, or 3 and 1.
    """
    takes, gives = _input_channels(backbone), channels_of(color)
    for name in ("mean", "std"):
        count = len(getattr(preprocessor, name, ()))
        if count > gives:
            raise MisfitError(
                f"images have {_count(gives, 'channel')} (input_color={color!r}), but the preprocessor's {name} has "
                f"{count} numbers",
                {},
                f"write one number as {name}",
            )
    said, colors = isinstance(getattr(backbone, "in_channels", None), int), {1: "gray", 3: "bgr"}
    if takes is not None and takes != gives and (said or takes in (1, 3)):
        raise MisfitError(
            f"images have {_count(gives, 'channel')} (input_color={color!r}), but {_named('backbone', backbone)} takes "
            f"{takes}",
            {"backbone.in_channels": gives, **({"input_color": colors[takes]} if takes in colors else {})},
        )


def _input_channels(backbone: nn.Module) -> int | None:
    said = getattr(backbone, "in_channels", None)
    if isinstance(said, int):
        return said
    return next((m.in_channels for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)


def _check_neck(backbone: nn.Module, given: FeatureInfo, neck: Callable[[str], Any]) -> None:
    says = (
        f"{_named('backbone', backbone)} gives {_count(len(given.channels), 'map')} with the channels "
        f"{list(given.channels)} at strides {list(given.strides)}"
    )
    sides = {"in_channels": given.channels, "in_strides": given.strides}
    wanted = {key: list(neck(key)) for key in sides if isinstance(neck(key), (list, tuple))}
    wrong = {key: value for key, value in wanted.items() if value != list(sides[key])}
    if wrong:
        raise MisfitError(
            f"{says}, but neck has {' and '.join(f'{key}={value}' for key, value in wrong.items())}",
            {f"neck.{key}": list(sides[key]) for key in wrong},
            "or leave it out: a neck that is not told takes what the backbone gives",
            every=True,
        )


def _check_head(neck: nn.Module, head: nn.Module, name: str) -> None:
    gives, takes = output_channels(neck), getattr(head, "in_channels", None)
    if gives is None or not isinstance(takes, int):
        return
    if len(set(gives)) > 1:
        raise MisfitError(
            f"{_named('neck', neck)} gives levels of {list(gives)} channels, but {_named(name, head)} takes the same "
            f"number, {takes}, at every level",
            {"neck.fix_out_channel": takes},
        )
    if gives[0] != takes:
        raise MisfitError(
            f"{_named('neck', neck)} gives {_count(gives[0], 'channel')}, but {_named(name, head)} takes "
            f"in_channels={takes}",
            {f"{name}.in_channels": gives[0]},
            "or leave it out: a head that is not told takes what the neck gives",
        )


def _levels_to_set(
    backbone: nn.Module, levels: Sequence[int], strides: Sequence[int], strides_name: str
) -> dict[str, Any]:
    """The stages that have the wanted strides, if the levels are the backbone's own; else the levels' strides."""
    info, chosen = feature_info(backbone), getattr(backbone, "out_indices", None)
    if info is not None and chosen is not None and tuple(info.strides) == tuple(levels):
        stages = dict(zip(info.strides, cast("Sequence[int]", chosen)))
        if all(stride in stages for stride in strides):
            return {"backbone.out_indices": [stages[stride] for stride in strides]}
    return {strides_name: list(levels)}


def _named(part: str, module: nn.Module) -> str:
    return f"the {part.removeprefix('bbox_')} ({type(module).__name__})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
