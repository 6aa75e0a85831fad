"""What a config should say for a data set and a device, and why: pure functions of numbers.

The advice is that of docs/recipes.md; a constant that was measured says where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hatdet.commands.init.reading import Picture
from hatdet.commands.models.fitting import Limits, named
from hatdet.commands.models.rows import Row
from hatdet.engine.processes.recipe import counted, suiting

BASE_SIZE = 320
SIZES = (192, 224, 256, 288, 320, 384, 448, 512, 640)
TINY_SIZES = (96, 128, 160)
"""What a network with a finest map of stride 4 takes besides, where a device has no room for more."""
SMALL = 16.0
"""Pixels at the network's input: two cells of the finest map (stride 8). Much of what is smaller is missed."""
LARGE = 48.0
"""Six cells: pictures whose objects are all larger lose little by a smaller input."""
STEP_MIB = {"pico-03m": 71, "pico-06m": 71, "nano": 71, "tiny": 98, "s": 139}
"""Measured: peak of forward and backward pass for each picture of 320 x 320 in float32, batches of 8, on a CPU. Of the
picos and of FOMO: nano's, which is more than they need."""
HEADROOM = 2.0
"""Losses, the optimizer, the other pictures of Mosaic, and other programs need memory too."""
MIN_STEPS = 1000
NETWORKS: dict[str, dict[str, object]] = {
    "pico-03m": {"strides": (4, 8, 16), "head_channels": 48, "use_depthwise": True},
    "pico-06m": {"strides": (4, 8, 16), "widen_factor": 0.375, "head_channels": 64, "use_depthwise": True},
    "nano": {},
    "tiny": {"deepen_factor": 0.167, "widen_factor": 0.375},
    "s": {"deepen_factor": 0.33, "widen_factor": 0.5},
}
"""Networks by their names, the smallest first; nano is what the base config says."""
POINTS = "fomo"
"""A network of another kind, which finds points: taken where it is asked for, never proposed."""
POINT_SIZES = (96, 128, 160, 192, 224, 256)
CELL = 8.0
"""Pixels of its cells: of two objects of a class whose middles lie in neighbouring cells it finds one."""
MEASURED_AS = {"pico-03m": "rtmdet_pico_03m", "pico-06m": "rtmdet_pico_06m", "nano": "rtmdet_nano_ncadc_relu6",
               POINTS: "fomo_mobilenetv2_035"}  # fmt: skip
"""Their names in the table of measured models."""


@dataclass(frozen=True)
class Choice:
    """A value for a name of the config, and the reason in a few words."""

    value: object
    why: str


def model(target: str, images: int) -> Choice:
    """The network: what the device carries, and no larger than the pictures can teach."""
    if target.startswith("ethos-u55"):
        return Choice("nano", f"{target} stands beside a microcontroller: 2.4 MB of weights are much already")
    if target == "tflite":
        return Choice("nano", "the smallest: target 'tflite' may be a microcontroller (--model takes a larger one)")
    if images < 3000:
        return Choice("nano", f"a larger one learns {images} pictures by heart")
    name = "tiny" if images < 10000 or target.startswith("ethos-u65") else "s"
    return Choice(name, f"{images} pictures can teach more than nano holds, and {target} carries it")


def fitted(
    network: Choice, size: Choice, limits: Limits, rows: Sequence[Row], asked: bool = False
) -> tuple[Choice, Choice]:
    """The network and the input, smaller where a device's memory asks for it.

    Flash goes by the file of the measured models, RAM by their arenas (an NPU's: SRAM), which grow with the picture's
    area. Where nothing measured fits, or nothing was measured of the network, the choice stays: :func:`misfit` says so.

    Args:
        asked: the user named the network; the input alone may be smaller.
    """
    names = [str(network.value)]
    if not asked:
        names = list(NETWORKS)[: list(NETWORKS).index(names[0]) + 1][::-1]
    first = ""
    for name in names:
        row = _measured(name, rows)
        if row is None:
            continue
        if limits.flash is not None and limits.flash_of(row) > limits.flash:
            first = first or f"{name}'s file of {limits.flash_of(row) / 1024:.0f} KiB does not fit the flash"
            continue
        sizes = [side for side in _sizes(name)[::-1] if side <= max(size.value)]  # type: ignore[call-overload]
        for side in sizes:
            needed = _ram(row, side, limits)
            if limits.ram is None or needed <= limits.ram:
                return _smaller(network, name, first), _cut(size, side, limits.ram, needed)
        first = first or f"{name} does not fit the RAM even at {sizes[-1]} px"
    return network, size


def misfit(network: Choice, size: Choice, limits: Limits, rows: Sequence[Row]) -> str:
    """What a device lacks for the chosen network, and what was measured that fits; "" where it fits, or nothing was
    measured of it."""
    row = _measured(str(network.value), rows)
    if row is None:
        return ""
    flash, ram = limits.flash_of(row), _ram(row, max(size.value), limits)  # type: ignore[call-overload]
    needs = ((flash, limits.flash, "flash"), (ram, limits.ram, "RAM"))
    lacks = [f"about {need / 1024:.0f} KiB of {what} of {there / 1024:.0f}"
             for need, there, what in needs if there is not None and need > there]  # fmt: skip
    if not lacks:
        return ""
    known = named(limits, rows) or "no measured model fits"
    return f"{network.value} does not fit: it needs {' and '.join(lacks)}; {known}"


def _measured(name: str, rows: Sequence[Row]) -> Row | None:
    """The row of a network as it ships, at the largest input."""
    known = [row for row in rows if row.model == MEASURED_AS.get(name) and not row.options]
    return max(known, key=lambda row: row.size, default=None)


def _ram(row: Row, side: int, limits: Limits) -> float:
    return limits.ram_of(row) * side**2 / (row.size[0] * row.size[1])


def _sizes(name: str) -> tuple[int, ...]:
    if name == POINTS:
        return POINT_SIZES
    return (*TINY_SIZES, *SIZES) if "strides" in NETWORKS[name] else SIZES


def _smaller(network: Choice, name: str, why: str) -> Choice:
    return network if name == network.value else Choice(name, f"{why}; this is the largest measured one that does")


def _cut(size: Choice, side: int, ram: float | None, needed: float) -> Choice:
    if ram is None or side == max(size.value):  # type: ignore[call-overload]
        return size
    return Choice((side, side), f"about {needed / 1024:.0f} KiB of RAM of {ram / 1024:.0f}; more does not fit")


def arithmetic(target: str, computes: str) -> Choice:
    """Whose kernels the integers follow.

    Args:
        computes: the arithmetic of the target; "": it takes any.
    """
    if computes == "xnnpack":
        return Choice(computes, f"what {target} computes, as programs open LiteRT: the evaluated numbers")
    if computes:
        return Choice(computes, f"{target} is tested by its maker against these kernels")
    if target == "tflite":
        why = "TensorFlow Lite Micro's, for it may be a microcontroller; for phones and Linux boards: litert-xnnpack"
        return Choice("tflite_ref", why)
    return Choice("tflite_ref", f"{target} takes any; a file for microcontrollers can be made of the same training")


def largest_size(target: str) -> int:
    """The largest input that is proposed for a target; what is larger is for the user to ask for."""
    return {"tflite": 416, "onnx": 640}.get(target, 320 if target.startswith("ethos-u55") else 512)


def box_sides(pictures: Sequence[Picture], size: int) -> list[float]:
    """Side of each object, the root of its area, when its picture is fitted into ``size`` x ``size``; ascending."""
    found = []
    for picture in pictures:
        scale = min(size / picture.width, size / picture.height)
        found += [scale * math.sqrt(width * height) for width, height in picture.boxes]
    return sorted(found)


def share_below(sides: Sequence[float], limit: float) -> float:
    """Which part of the sides is below the limit."""
    return sum(side < limit for side in sides) / max(1, len(sides))


def imgsz(pictures: Sequence[Picture], target: str) -> Choice:
    """The input: larger where too many objects would be small, smaller where even the small ones are large."""
    limit = largest_size(target)
    small = {size: share_below(box_sides(pictures, size), SMALL) for size in SIZES}
    below = {size: share_below(box_sides(pictures, size), LARGE) for size in SIZES}
    smaller = [size for size in SIZES if size < BASE_SIZE and below[size] <= 0.05]
    if smaller:
        size = smaller[0]
        return Choice(
            (size, size),
            f"{100 - 100 * below[size]:.0f} % of the objects are at least {LARGE:.0f} px there; {BASE_SIZE} would cost"
            f" {(BASE_SIZE / size) ** 2:.1f} times as much",
        )
    enough = [size for size in SIZES if size >= BASE_SIZE and small[size] <= 0.1]
    wanted = enough[0] if enough else SIZES[-1]
    size = max(s for s in SIZES if s <= min(wanted, limit))
    reason = f"{100 * small[size]:.0f} % of the objects are below {SMALL:.0f} px there"
    if size > BASE_SIZE:
        reason += f", at {BASE_SIZE} it would be {100 * small[BASE_SIZE]:.0f} %"
    if wanted > size:
        more = (wanted / size) ** 2
        reason += f"; {wanted} ({100 * small[wanted]:.0f} %) costs {more:.1f} times as much: if {target} carries it"
    return Choice((size, size), reason)


def points_imgsz(pictures: Sequence[Picture]) -> Choice:
    """The input of a network that finds points: nine of ten objects are at least two cells wide, so that the middles of
    neighbours fall into different cells that do not touch."""
    below = {size: share_below(box_sides(pictures, size), 2 * CELL) for size in POINT_SIZES}
    size = next((size for size in POINT_SIZES if below[size] <= 0.1), POINT_SIZES[-1])
    share = f"{100 * below[size]:.0f} % of the objects"
    return Choice((size, size), f"{share} are below {2 * CELL:.0f} px, two cells, there")


def narrow(pictures: Sequence[Picture], size: int) -> tuple[int, int] | None:
    """(height, width) that shows objects as large as ``size`` x ``size`` but costs less, where nearly all pictures have
    one shape; None: they have not, or there is nothing to save."""
    ratios = sorted(picture.height / picture.width for picture in pictures)
    low, middle, high = (ratios[int(q * (len(ratios) - 1))] for q in (0.05, 0.5, 0.95))
    if high > 1.1 * low:
        return None
    short = 32 * math.ceil(size * min(middle, 1 / middle) / 32 - 0.01)
    if short >= size:
        return None
    return (short, size) if middle < 1 else (size, short)


def epochs(images: int) -> Choice:
    """200 for 100 pictures, half as many for ten times the pictures (docs/recipes.md)."""
    plain = 200 * 0.5 ** math.log10(max(images, 1) / 100)
    value = int(min(300, max(30, 10 * round(plain / 10))))
    return Choice(value, "200 for 100 pictures, half as many for ten times the pictures")


def recipe(images: int, epochs: int) -> Choice:
    """As a training decides where a config leaves it open."""
    return Choice(suiting(images, epochs), counted(images, epochs))


def batch_size(images: int, epochs: int, network: str, size: int, memory: float) -> Choice:
    """Pictures a step: 8, 16 for ten thousand, less where the memory (MiB) or the number of steps asks for it."""
    each = HEADROOM * STEP_MIB.get(network, STEP_MIB["nano"]) * (size / BASE_SIZE) ** 2
    fits = max(1, int(memory / each))
    value, why = (16, "usual for ten thousand pictures or more") if images >= 10000 else (8, "what the recipe is for")
    if images * epochs / value < MIN_STEPS:
        value, why = 4, f"with 8 the training would have fewer than {MIN_STEPS} steps"
    if fits < value:
        value = 2 ** int(math.log2(fits))
        why = f"what fits into {memory / 1024:.1f} GiB: about {each:.0f} MiB a picture"
    return Choice(value, why + "; lr follows")
