"""What quantization knows of an operator. To add one, write a file beside those that are there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from hatdet.integer.agreement.together import Together
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.operators.base import ManyInputs, Operator
from hatdet.integer.profile import Profile
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import QuantParams, TensorInfo
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.recorded import Call
from hatdet.quantization.tracing.refusals import no_form

if TYPE_CHECKING:
    from hatdet.quantization.qat.quantized_conv import StepParameters

Made = TypeVar("Made")
Maker = Callable[[Applied], nn.Module]
Arrays = MutableMapping[tuple[Any, ...], NDArray[Any]]
"""Arrays by content: operators with equal ones share them."""


@dataclass(frozen=True)
class Step:
    """One operator of the network: ``kind`` is one of ``OP_TYPES``, ``arguments`` its ``Operator.settings``."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    module: nn.Module | None
    arguments: dict[str, Any]


class Scales(Protocol):
    """The scales of a network's values while they are raised to what kernels can compute with."""

    def of(self, name: str) -> float: ...

    def zero(self, name: str) -> int: ...

    def bits(self, name: str) -> int: ...

    def fixed(self, name: str) -> bool: ...

    def others(self, step: Step) -> list[str]:
        """The inputs whose quantization is not the output's."""
        ...

    def peak(self, step: Step) -> float:
        """The largest weight scale of a step with weights."""
        ...

    @property
    def profile(self) -> Profile:
        """The arithmetic whose kernels these are."""
        ...

    def params(self, name: str) -> QuantParams:
        """The quantization with the present scale."""
        ...

    def lift(self, name: str, least: float) -> None:
        """Set the scale of a value to ``least`` where it is below that and free."""
        ...


@dataclass(frozen=True)
class Run:
    """One operator in one forward pass: centred codes of its inputs, all quantizations, and what observes its range.

    ``tables``: what :meth:`kept` has of earlier passes. ``backward``: in what the products of gradients are computed;
    None: in float32. ``parameters``: of an operator with weights, where the pass has made all at once.
    """

    step: Step
    inputs: list[Tensor]
    x: tuple[QuantParams, ...]
    y: QuantParams
    quantizer: ActivationFakeQuantize
    observing: bool
    tables: dict[str, Any]
    profile: Profile = PROFILES[PROFILE]
    backward: torch.dtype | None = None
    parameters: StepParameters | None = None

    def observe(self, low: float, high: float) -> None:
        """Let the output's range follow real values from ``low`` to ``high``."""
        self.quantizer.activation_post_process.add_range(low, high)

    def kept(self, make: Callable[[], Made]) -> Made:
        """What ``make`` computes from the step and the quantizations alone: anew only where these have changed."""
        used = self.profile, self.x, self.y, self.inputs[0].device
        step, before, made = self.tables.get(self.step.output, (None, None, None))
        if step is not self.step or before != used:
            made = make()
            self.tables[self.step.output] = self.step, used, made
        return cast(Made, made)


class Form(ABC):
    """One operator of :mod:`hatdet.integer.operators` as quantization sees it.

    Class attributes:
        op: the integer operator.
        modules: the modules that stand for it in a canonical network.
        spelled: modules that :meth:`canonical` turns into those.
        of_vectors: which of these take (B, C) alone, not maps.
        subclasses: which of all these also stand for their subclasses.
        functions: the functions of several tensors that stand for it in a canonical network.
        limited: the module that stands for the function and a ReLU or ReLU6 after it, as one operator.
        makers: functions and methods of one tensor, by name -> the module that does the same.
        calls: names of functions and methods of several tensors, see :meth:`rewrite`.
        written: other ways to write it that tracing reads as this operator, for the documentation.
        floats, quantized: of an operator with weights, the float modules and those that take their place in
            calibration and training.
        fixed_output: the one quantization that the kernels demand of its output, whatever is observed; None: any.
        refuses_fixed: it must not read a value whose quantization is fixed so.
    """

    op: ClassVar[type[Operator]]
    modules: ClassVar[tuple[type[nn.Module], ...]] = ()
    spelled: ClassVar[tuple[type[nn.Module], ...]] = ()
    of_vectors: ClassVar[tuple[type[nn.Module], ...]] = ()
    subclasses: ClassVar[tuple[type[nn.Module], ...]] = ()
    functions: ClassVar[tuple[Any, ...]] = ()
    makers: ClassVar[Mapping[str, Maker]] = {}
    calls: ClassVar[frozenset[str]] = frozenset()
    written: ClassVar[tuple[str, ...]] = ()
    limited: ClassVar[Any] = None
    floats: ClassVar[tuple[type[nn.Module], ...]] = ()
    quantized: ClassVar[tuple[type[nn.Module], ...]] = ()

    @property
    def kind(self) -> str:
        return self.op.kind

    # ---- from the float network

    def accepts(self, module: nn.Module) -> bool:
        """Whether a module of these classes is this operator, where several operators have one class."""
        return True

    def check(self, module: nn.Module) -> None:
        """Check that a module with these settings has an integer form.

        Raises:
            NoModule: it has none.
        """

    def check_maps(self, module: nn.Module, sizes: Sequence[tuple[int, int]]) -> None:
        """Check that it has one on maps of these sizes (H, W), of the images that were seen.

        Raises:
            NoModule: it has none.
        """

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        """The modules that do the same one after another, each with a suffix of its name; the last has none."""
        return [("", module)]

    def alone(self, applied: Applied) -> nn.Module | None:
        """The module that does what a call of :attr:`calls` does that has one tensor only; None: it has several.

        Raises:
            NoModule: it has no integer form.
        """
        return None

    def rewrite(self, node: fx.Node, call: Call) -> None:
        """Make the canonical function of a call of several tensors; asked of forms that name :attr:`calls`.

        Raises:
            NoModule: it has no integer form.
        """
        raise no_form(call.op)

    def inputs(self, node: fx.Node) -> tuple[fx.Node, ...]:
        return tuple(node.all_input_nodes)

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        """The operator's settings, of a canonical module or function."""
        return {}

    def parameters(self, module: nn.Module | None) -> tuple[Tensor | None, Tensor | None]:
        """The real weight and bias, before quantization, of an operator that has such."""
        return None, None

    # ---- scales

    def fixed_output(self, module: nn.Module | None) -> QuantParams | None:
        return None

    def refuses_fixed(self, module: nn.Module | None) -> bool:
        return False

    def gate_inside(self, module: nn.Module | None) -> bool:
        """Whether the file has it as a product of its input and a gate of that."""
        return False

    def factors(self, step: Step) -> tuple[str, ...]:
        """The two factors where a step is a product in the file, else (); a gate inside it has the name ''."""
        return ()

    def least_scale(self, step: Step, scales: Scales) -> float:
        """The least scale that the kernels can give the output, by the scales of its inputs; 0: any."""
        return 0.0

    def least_input(self, step: Step, scales: Scales) -> float:
        """The least scale of the first input that the kernels take, by that of the output; 0: any."""
        return 0.0

    def agree(self, step: Step, scales: Scales) -> None:
        """Raise the input's scale to where all runtimes round alike.

        Raises:
            NoScale: there is no such scale nearby.
        """

    def instead(self, step: Step) -> str:
        """What to do where there is no such scale."""
        return "calibrate on more images, or use another operator there"

    def both_agree(self, step: Step, scales: Scales, together: Together) -> bool:
        """Whether two arithmetics give the same codes with these scales; where a step's weights see to that, True."""
        return True

    def both_read(self, step: Step, scales: Scales, together: Together) -> bool:
        """The same, as far as it is up to the input's scale."""
        return True

    def agreeing_scales(self, step: Step, name: str, scales: Scales, together: Together) -> Iterable[float]:
        """Scales of ``name``, the output or an input, from its own up, with which they may."""
        return ()

    # ---- training and integers

    @abstractmethod
    def run(self, run: Run) -> Tensor:
        """Centred codes of the output, the integers that ship; gradients pass straight through the rounding."""

    def lower(
        self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays, profile: Profile
    ) -> Operator:
        """The integer operator of an arithmetic."""
        names: tuple[Any, ...] = tuple(tensor.name for tensor in inputs)
        if issubclass(self.op, ManyInputs):
            names = (names,)
        make: Any = self.op
        own = {name: step.arguments[name] for name in self.op.setting_names}
        made: Operator = make(step.name, *names, output.name, **own)
        return made


def on_device(table: NDArray[np.float64] | NDArray[np.float32], like: Tensor) -> Tensor:
    return torch.from_numpy(table.astype(np.float32)).to(like.device)
