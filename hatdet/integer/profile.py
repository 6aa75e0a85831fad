"""An arithmetic as a value: what a runtime's kernels compute, operator by operator.

:class:`Profile` owns kernels, limits, scale rules and checks. Its subclasses stand in :mod:`hatdet.integer.profiles`,
one a file; the integer graph names the one that it is made for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.arithmetic import conv_multiplier
from hatdet.integer.tensors import QuantParams

Quantization = Callable[[str], QuantParams]
"""The quantization of a tensor, by its name."""
Table = NDArray[np.int8]
"""Output codes: (256,) by the input's code + 128, or (256, 256) by those of two inputs."""


class NoScale(ValueError):
    """No scale near the given one suits the kernels: what was looked for, in one line."""


def next_scale(scale: float, suits: Callable[[float], bool], purpose: str) -> float:
    """The next float32 at or above ``scale`` that suits, of 4096.

    Raises:
        NoScale: none does, for this ``purpose``.
    """
    tried = np.float32(scale)
    for _ in range(4096):
        if suits(float(tried)):
            return float(tried)
        tried = np.nextafter(tried, np.float32(np.inf))
    raise NoScale(f"no output scale near {scale} suits {purpose}")


@dataclass(frozen=True)
class WeightedSums:
    """What tells how the accumulators of a convolution, or of its kin, become codes.

    Attributes:
        x_scale, weight_scale, y: of the input, of the weights (C,), and of the output.
        bound: (C,) the largest magnitudes that accumulators reach.
        device: where they are.
    """

    x_scale: float
    weight_scale: NDArray[np.float32]
    y: QuantParams
    bound: NDArray[np.float64]
    device: torch.device | str = "cpu"

    @property
    def multiplier(self) -> NDArray[np.float64]:
        """(C,) Sx * Sw_c / Sy."""
        return conv_multiplier(self.x_scale, self.weight_scale, self.y.scale)


class Requantizer(Protocol):
    """Accumulators (B, C, H, W) to output codes; ``lo`` and ``hi`` are limits relative to the output's zero point.

    One that the kernels in C compute too says how as ``fused`` (``native.requantization.Fused``, or None); without it
    its layers run in torch.
    """

    scale: Tensor  # (C,) the real multipliers

    def centred(self, acc: Tensor, lo: int, hi: int) -> Tensor:
        """Centred codes as float32, channels_last; a float32 ``acc`` may be overwritten."""
        ...

    def codes(self, acc: Tensor, lo: int, hi: int, zero: int) -> Tensor:
        """Centred codes + ``zero`` as uint8, channels_last (CPU); a float32 ``acc`` may be overwritten."""
        ...


class Profile(ABC):
    """One arithmetic.

    Class attributes:
        name: as configs, graphs and files say it.
        kernels: what computes so, in a few words.
        litert: the kernels of LiteRT that compute so, ``reference`` or ``default``; None: none of them.
        bilinear_up: bilinear enlargement rounds ties up; else away from zero, as seen by codes.
        runtimes: names of the runtimes that must equal the torch executor (``export.runtimes.integer``); none: no
            package has one, and a file cannot be compared where it is written.
        proof: what a user can do to prove a file where there are no runtimes.
        micro: what TFLite Micro must be built with (definitions of the compiler) to compute so; None: it cannot.
    """

    name: ClassVar[str]
    kernels: ClassVar[str]
    litert: ClassVar[str | None]
    bilinear_up: ClassVar[bool]
    runtimes: ClassVar[tuple[str, ...]]
    proof: ClassVar[str] = ""
    micro: ClassVar[tuple[str, ...] | None] = None

    @property
    def unproven(self) -> str:
        """Why a file cannot be compared with any runtime here, and what to do; empty where it can."""
        if self.runtimes:
            return ""
        return f"not verified against a runtime here: no package has {self.kernels} ({self.name}); {self.proof}"

    # ---- kernels

    @abstractmethod
    def sums(self, of: WeightedSums) -> Requantizer:
        """For accumulators of weighted sums."""

    @abstractmethod
    def products(
        self, scale1: float, scale2: float, y_scale: float, channels: int, device: torch.device | str = "cpu"
    ) -> Requantizer:
        """For products of two centred codes."""

    @abstractmethod
    def limits(self, activation: str, y: QuantParams) -> tuple[int, int]:
        """The codes that a fused activation leaves (``arithmetic.limits_of``)."""

    @abstractmethod
    def add(self, q1: QuantParams, q2: QuantParams, y: QuantParams, lo: int, hi: int, sign: int = 1) -> Table:
        """All sums, or with ``sign`` -1 differences: (256, 256)."""

    @abstractmethod
    def mul(self, q1: QuantParams, q2: QuantParams, y: QuantParams) -> Table:
        """All products: (256, 256)."""

    @abstractmethod
    def requantize(self, x: QuantParams, y: QuantParams) -> Table:
        """A change of quantization: (256,)."""

    @abstractmethod
    def activation(self, function: str, x: QuantParams, y: QuantParams) -> Table:
        """One of ``activation_codes.FUNCTIONS``: (256,)."""

    @abstractmethod
    def gate_input(self, x: QuantParams, function: str) -> QuantParams:
        """The quantization of what the kernel of a sigmoid or tanh reads: that of ``x``, or another one to which ``x``
        is requantized first."""

    @abstractmethod
    def leaky_relu(self, x: QuantParams, y: QuantParams, slope: float) -> Table:
        """(256,)."""

    @abstractmethod
    def prelu(self, x: QuantParams, y: QuantParams, alpha: NDArray[Any], alpha_scale: float) -> Table:
        """For every slope: (slopes, 256)."""

    @abstractmethod
    def bilinear(self, x: Tensor, factor: int, zero: int) -> Tensor:
        """Bilinear enlargement of codes (half-pixel centres) by 2, 4 or 8, for which weights and sums are exact; ``x``
        and the result hold ``code - zero``."""

    # ---- scales

    @abstractmethod
    def ratios(self, kind: str) -> tuple[float, float]:
        """The least and the largest ratio of the input's scale to the output's that the kernel of this kind takes; a
        least of 0: any is large enough."""

    @abstractmethod
    def product_scale(self, inputs: Collection[tuple[float, float]], y_scale: float) -> float:
        """The next float32 at or above ``y_scale`` with which all products of these pairs of input scales are the same
        in every implementation of the profile.

        Raises:
            NoScale: there is none nearby.
        """

    def square_scale(self, x_scale: float, y_scale: float) -> float:
        """The same for the output of a map times itself, which a runtime may take for another operator.

        Raises:
            NoScale: there is none nearby.
        """
        return y_scale

    @abstractmethod
    def activation_scale(self, function: str, x: QuantParams, y: QuantParams) -> float:
        """The least scale at or little above that of ``x`` with which all implementations agree on an activation.

        Raises:
            NoScale: there is none nearby.
        """

    @abstractmethod
    def leaky_relu_scale(self, x_scale: float, y_scale: float, slope: float, shared: bool) -> float:
        """The same for the output of a leaky ReLU; ``shared``: it is the input's too.

        Raises:
            NoScale: there is none nearby.
        """

    @abstractmethod
    def prelu_scale(self, x_scale: float, alpha_scale: float, y_scale: float, shared: bool) -> float:
        """The same for the output of a PReLU whose slopes have the scale ``alpha_scale``.

        Raises:
            NoScale: there is none nearby.
        """

    # ---- checks

    @abstractmethod
    def check(self, op: Any, qparams: Quantization) -> None:
        """Check that the kernels compute an operator with its scales as this profile says.

        Raises:
            UserError: naming the operator, what was found and what is allowed.
        """
