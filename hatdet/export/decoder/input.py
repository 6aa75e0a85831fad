"""What a device must do to a picture before the network, read off the validation transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.utils.errors import UserError

FILL = 114


def default_preprocessing(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Letterbox into the network's input, padded with 114 at the right and the bottom: what hatdet's configs do."""
    return _record(metadata, keep_ratio=True, fill=FILL, channels=_declared(metadata) or "BGR")


def preprocessing(transforms: Sequence[Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The transforms as plain values: ``resize``, ``keep_ratio``, ``interpolation``, ``fill``, ``channels``, ``code``.

    Args:
        transforms: of the validation data set, built: Resize, Pad, ToTensor, Normalize, in this order; all but Resize
            may be missing. Normalize changes nothing here: its numbers are inside the integer model, whose input is
            ``pixel - 128``.
        metadata: the detector's (``bgr_to_rgb``, ``input_color``).

    Raises:
        UserError: a transform that the decoders do not have; it is named.
    """
    from hatdet.data.transforms.geometry import Pad, Resize  # they import OpenCV
    from hatdet.data.transforms.tensor import Normalize, ToTensor

    order = [Resize, Pad, ToTensor, Normalize]
    found: dict[type, Any] = {}
    for transform in transforms:
        if type(transform) not in order:
            raise _refused(f"{type(transform).__name__} is none of Resize, Pad, ToTensor, Normalize")
        if any(order.index(kind) >= order.index(type(transform)) for kind in found):
            raise _refused(f"{type(transform).__name__} stands after {', '.join(kind.__name__ for kind in found)}")
        found[type(transform)] = transform
    if Resize not in found:
        raise _refused("there is no Resize")
    resize, pad, tensor = found[Resize], found.get(Pad), found.get(ToTensor)
    if resize.area:
        raise _refused("Resize(interpolation='area') averages; use interpolation='linear'")
    if resize.either_way and resize.img_scale[0] != resize.img_scale[1]:
        raise _refused("Resize(either_way=True) turns img_scale with the picture; the network's input does not turn")
    if pad is None and resize.keep_ratio:
        raise _refused("Resize(keep_ratio=True) without Pad gives pictures of different sizes")
    size = tuple(pad.size if pad is not None else resize.img_scale)
    if any(side > room for side, room in zip(resize.img_scale, size, strict=True)):
        raise _refused(f"Resize(img_scale={resize.img_scale}) does not fit into Pad(size={size})")
    channels = _name(tensor.color) if tensor is not None else "BGR"
    declared = _declared(metadata)
    if declared is not None and declared != channels:
        raise _refused(f"they make {channels} pictures, the detector's input_color is {metadata['input_color']!r}")
    fill = pad.fill if pad is not None else FILL
    limit = tuple(resize.img_scale)
    return _record(metadata, keep_ratio=resize.keep_ratio, fill=fill, channels=channels, resize=limit, size=size)


def checked_input(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """``preprocessing`` of a model's metadata with the ``height`` and ``width`` of its input.

    Raises:
        UserError: an input that decoders do not make, or metadata of another.
    """
    first = metadata["input"]
    if first["dtype"] != "int8" or first["shape"][3] not in (1, 3):
        raise UserError(
            f"decoders take int8 pictures of 1 or 3 channels, the model {first['dtype']} {first['shape']}; "
            "give it the int8 .tflite"
        )
    height, width = (int(side) for side in first["shape"][1:3])
    known = {**(metadata.get("preprocessing") or default_preprocessing(metadata)), "height": height, "width": width}
    asked = known.pop("size", None)
    if asked is not None and list(asked) != [height, width]:
        raise UserError(
            f"the transforms make pictures of {asked}, the model takes {first['shape'][1:3]} (h, w); "
            "set imgsz to the model's, or export it again"
        )
    if (known["channels"] == "GRAY") != (first["shape"][3] == 1):
        raise UserError(
            f"the model takes {first['shape'][3]} channel(s), its metadata says {known['channels']} pictures: "
            "export it again with tools/export.py"
        )
    known.setdefault("resize", [height, width])
    return known


def _declared(metadata: Mapping[str, Any]) -> str | None:
    """What a detector that says so expects of its data."""
    color = metadata.get("input_color")
    return None if color is None else _name(str(color))


def _name(color: str) -> str:
    """``yuv444`` -> ``YUV``."""
    return color.removesuffix("444").upper()


def _record(
    metadata: Mapping[str, Any],
    *,
    keep_ratio: bool,
    fill: int,
    channels: str,
    resize: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    if metadata.get("bgr_to_rgb"):
        if channels == "YUV":
            raise _refused("ToTensor(to_yuv=True) with a preprocessor of bgr_to_rgb=True gives V, U, Y")
        channels = {"BGR": "RGB", "RGB": "BGR"}.get(channels, channels)
    record = {
        "keep_ratio": keep_ratio,
        "interpolation": "linear",
        "fill": fill,
        "channels": channels,
        "code": "pixel - 128",
    }
    return record if resize is None or size is None else {"resize": list(resize), "size": list(size), **record}


def _refused(why: str) -> UserError:
    return UserError(
        f"a decoder cannot repeat the validation transforms: {why}; "
        "end them with Resize, Pad and ToTensor, or leave --emit-decoder out"
    )
