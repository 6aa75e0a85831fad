"""What every operator of the integer model says of itself. To add one, write a file beside those that are there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.native.kernels import Kernels
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import QuantParams, Shape
from hatdet.utils.errors import UserError

Kernel = Callable[[list[Tensor]], Tensor]
"""Carried codes (B, C, H, W) of the inputs -> those of the output."""
RealFunction = Callable[[list[Tensor], Tensor | None, Tensor | None], Tensor]
"""Real inputs (B, C, H, W), weight and bias (where there are such) -> the real output."""
Settings = Mapping[str, Any]
"""What an operator's real function and output shape depend on besides its inputs: strides, limits, a factor, ..."""

REMEDY = "build the graph with QAT2Int again"


class Machine(Protocol):
    """What a kernel is made for. A tensor is *carried* as centred codes (code - zero point) in float32, or as uint8
    (code + 128) where the machine has int8 kernels; channels last in memory."""

    device: torch.device

    @property
    def profile(self) -> Profile: ...

    @property
    def int8(self) -> bool: ...

    @property
    def native(self) -> Kernels | None:
        """The kernels in C, for uint8; None: they are not used."""
        ...

    def qparams(self, name: str) -> QuantParams: ...

    def offset(self, name: str) -> int:
        """What makes ``carried value + it`` the int8 code."""
        ...

    def table(self, codes: NDArray[np.int8], zero_point: int) -> Tensor:
        """A table of output codes in the form that is carried."""
        ...


class Operator(ABC):
    """An operator; subclasses are frozen dataclasses whose docstring has the formula.

    Class attributes:
        kind: its name in saved graphs.
        shares_scale: inputs and output have one quantization.
        channelwise: it does the same to every channel of its one input, and has no numbers of single channels.
        wide_output: the output may have 16 bits.
        setting_names: the fields that are its :attr:`settings`.
    """

    kind: ClassVar[str]
    shares_scale: ClassVar[bool] = False
    channelwise: ClassVar[bool] = False
    wide_output: ClassVar[bool] = False
    setting_names: ClassVar[tuple[str, ...]] = ()
    name: str
    output: str

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""

    @property
    def settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.setting_names}

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        """The output's shape, by those of the inputs.

        Raises:
            ValueError: the inputs do not go together; ``what`` they are is said without the operator's name.
        """
        return shapes[0]

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        """The real function that the integers approximate.

        Raises:
            KeyError: the operator cannot be kept in float.
        """
        raise KeyError(cls.kind)

    @abstractmethod
    def make_kernel(self, machine: Machine) -> Kernel:
        """The exact integer function."""

    def check(self, shapes: Sequence[Shape]) -> None:
        """Check that the numbers of the operator go together, and with the maps that it reads.

        Raises:
            UserError: naming the operator, the number and what is allowed.
        """

    def reordered(self, channels: Sequence[int]) -> Operator | None:
        """What makes the listed channels of this operator's output from those channels of its input; None: nothing."""
        return self if self.channelwise else None

    def with_outputs(self, channels: Sequence[int]) -> Operator | None:
        """What makes the listed channels of this operator's output from the same input; None: that is unknown."""
        return None

    def with_inputs(self, channels: Sequence[int]) -> Operator | None:
        """What makes this operator's output from maps of which it reads the listed channels, all of them in another
        order; None: that is unknown."""
        return None

    def macs(self, output: Shape) -> int:
        """Multiply-accumulates for one image."""
        return 0

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        """Weights and biases, in the types in which a file has them."""
        return ()

    @property
    def stored_bytes(self) -> tuple[int, ...]:
        """Bytes of each of :attr:`stored`, where codes of fewer than 8 bits are packed."""
        return tuple(array.nbytes for array in self.stored)

    def refusal(self, found: str, allowed: str) -> UserError:
        return UserError(f"operator {self.name!r} ({self.kind}) has {found}; allowed: {allowed}; {REMEDY}")

    def check_numbers(self, what: str, values: Sequence[int], count: int, least: int) -> None:
        """Check that ``values`` are ``count`` whole numbers of ``least`` and more."""
        if len(values) != count or any(not isinstance(v, (int, np.integer)) or v < least for v in values):
            raise self.refusal(f"{what} {tuple(values)}", f"{count} whole numbers of {least} and more")


@dataclass(frozen=True, eq=False)
class OneInput(Operator):
    """An operator that reads ``input``."""

    name: str
    input: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class TwoInputs(Operator):
    """An operator that reads ``input1`` and ``input2``."""

    name: str
    input1: str
    input2: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.input1, self.input2


class ManyInputs(Operator):
    """An operator that reads ``input_names``."""

    input_names: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.input_names
