"""What the pixels of a batch are: said by a data set, expected by a model, compared before anything runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputFormat:
    """Images as a loader gives them (uint8), and what is done to them before the first convolution.

    Attributes:
        color: the channels in order: ``bgr``, ``rgb``, ``yuv444``, or ``gray``, which is one.
        mean: subtracted, one number or one a channel; None: a data set that does not say.
        std: divided by, in the same way.
    """

    color: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def channels(self) -> int:
        """Of an image."""
        return channels_of(self.color)

    def fits(self, other: InputFormat) -> bool:
        """Whether nothing that both say differs; one number stands for three equal ones."""
        pairs = ((self.mean, other.mean), (self.std, other.std))
        return self.color == other.color and all(a is None or b is None or _three(a) == _three(b) for a, b in pairs)

    def __str__(self) -> str:
        if self.mean is None or self.std is None:
            return self.color
        return f"{self.color}, mean {_shown(self.mean)}, std {_shown(self.std)}"


def channels_of(color: str) -> int:
    """Channels of an image: 1 for ``gray``, else 3."""
    return 1 if color == "gray" else 3


def input_order(color: str, bgr_to_rgb: bool) -> str:
    """The channels as the network gets them, for metadata: ``BGR``, ``RGB``, ``YUV444``, ``GRAY``."""
    return "RGB" if bgr_to_rgb and color != "gray" else color.upper()


def input_channels(model: object) -> int:
    """Channels of the images that a detector takes; 3 where it does not say."""
    said = getattr(model, "input_format", None)
    return said.channels if isinstance(said, InputFormat) else 3


def _three(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return numbers * 3 if len(numbers) == 1 else numbers


def _shown(numbers: tuple[float, ...]) -> str:
    unique = dict.fromkeys(numbers)
    return ", ".join(f"{v:g}" for v in (unique if len(unique) == 1 else numbers))
