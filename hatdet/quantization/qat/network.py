"""The quantized network: the same convolutions run as float (calibration), fake-quantized, or in the integers that
ship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from hatdet.integer.agreement.together import Arithmetic, arithmetic_named
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Run, Step
from hatdet.quantization.operators.pointwise.requantize import Requantize
from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.qat.agreeing_weights import follow_activations, suit_weights
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize, QuantizedWeight, WeightFakeQuantize
from hatdet.quantization.qat.finite_activations import refuse_activations
from hatdet.quantization.qat.fx_adapter import GATED, Plan, QuantizedConv2d, plan
from hatdet.quantization.qat.islands import QuantizeReal, island_quantizers, resolve_islands, run_float
from hatdet.quantization.qat.kernel_scales import agree_again, suit_kernels
from hatdet.quantization.qat.learned_steps import step_of
from hatdet.quantization.qat.quantized_conv import StepParameters, step_parameters
from hatdet.quantization.qat.weight_bits import (
    AUTO,
    four_bit_layers,
    narrow_names,
    quantizer_of,
    set_weight_bits,
    weighted_steps,
)
from hatdet.utils.errors import UserError

QAT_FORWARDS = ("integer", "fake_quant")


@dataclass(frozen=True)
class _Pass:
    """What the operators of one forward pass share."""

    params: dict[str, QuantParams]
    backward: torch.dtype | None
    parameters: dict[str, StepParameters]


def quant_params(quantizer: ActivationFakeQuantize) -> QuantParams:
    """The exact quantization that simulation, integer forward, lowering and export share."""
    return QuantParams(float(quantizer.scale), int(quantizer.zero_point), quantizer.bits)


class QuantizedNetwork(nn.Module):
    """Maps a normalized image batch (B, C, H, W) to the tuple of raw maps, through quantized operators.

    Args:
        trunk: what ``fx_adapter.prepare`` returned.
        qat_forward: ``integer`` (the arithmetic that ships) or ``fake_quant`` (torch.ao's, for comparison).
        input_params: the fixed quantization of the input.
        keep_float: names of layers that run in float (``islands.resolve_islands``); normally none.
        arithmetic: name of the profile of :mod:`hatdet.integer.profiles` that the integers follow, or two
            (:func:`~hatdet.integer.agreement.together.arithmetic_named`).
        weight_bits: which weights have 4 bits (:mod:`hatdet.quantization.qat.weight_bits`).
        qat_scales: of weights: one of ``weight_bits.QAT_SCALES``.
    """

    def __init__(
        self,
        *,
        trunk: fx.GraphModule,
        qat_forward: str,
        input_params: QuantParams,
        keep_float: Sequence[str] = (),
        arithmetic: str = PROFILE,
        weight_bits: int | str | Sequence[str] = 8,
        qat_scales: str = "observed",
    ) -> None:
        super().__init__()
        if qat_forward not in QAT_FORWARDS:
            raise ValueError(f"qat_forward is {qat_forward!r}; use one of {', '.join(QAT_FORWARDS)}")
        self.trunk = trunk
        self.qat_forward = qat_forward
        self.arithmetic_name = arithmetic
        two = self.arithmetic.second is not None
        self.quantizing = False
        self._plan: tuple[int, Plan] | None = None
        self._tables: dict[str, Any] = {}
        self._observed: set[int] = set()  # quantizers that learn, of a loaded state in which they did not
        self.plan.quantizers[self.plan.input].fix(input_params.scale, input_params.zero_point)
        self.islands = resolve_islands(self.plan, keep_float)
        self.qat_scales, self.undecided = qat_scales, weight_bits == AUTO
        set_weight_bits(self.plan, narrow_names(self.plan, weight_bits))
        if two:
            suit_weights(self.plan)

    @property
    def arithmetic(self) -> Arithmetic:
        return arithmetic_named(self.arithmetic_name)

    @property
    def profile(self) -> Profile:
        """The arithmetic of the forward pass, and of what is lowered."""
        return self.arithmetic.promised

    @property
    def plan(self) -> Plan:
        if self._plan is None or self._plan[0] != id(self.trunk):
            self._plan = (id(self.trunk), plan(self.trunk))
        return self._plan[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plan": None, "_tables": {}}

    def quantizers(self) -> list[ActivationFakeQuantize]:
        """Every activation quantizer once."""
        return list({id(q): q for q in self.plan.quantizers.values()}.values())

    def convolutions(self) -> list[QuantizedConv2d]:
        return [s.module for s in self.plan.steps if isinstance(s.module, QuantizedConv2d)]

    def quantized_weights(self) -> list[QuantizedWeight]:
        return [s.module for s in self.plan.steps if isinstance(s.module, QuantizedWeight)]

    @property
    def four_bit_layers(self) -> list[str]:
        """Names of the layers whose weights have 4 bits."""
        return four_bit_layers(self.plan)

    def decide(self, four: Sequence[str]) -> None:
        """Give the layers of these names weights of 4 bits, all others 8, with scales as at the beginning."""
        set_weight_bits(self.plan, four)
        self.undecided = False
        self.begin_scales()

    def begin_scales(self) -> None:
        """Take the weights' scales from what they are now; those to be learned begin there."""
        for step in weighted_steps(self.plan):
            quantizer = quantizer_of(step)
            quantizer.forget()
            observing = bool(quantizer.observer_enabled[0])
            quantizer.enable_observer(True)
            step.module.observe_weight()  # type: ignore[union-attr, operator]
            quantizer.enable_observer(observing)
        for step in weighted_steps(self.plan):
            learned = self.qat_scales == "learned" or (self.qat_scales == "auto" and quantizer_of(step).bits == 4)
            if learned and step.output not in self.islands:
                quantizer_of(step).learn()

    def set_observing(self, on: bool) -> None:
        """Let ranges follow the data (activations) and the weights, or freeze them."""
        if not on:
            self._follow_activations()
        for module in [*self.quantizers(), *(m.weight_fake_quant for m in self.quantized_weights())]:
            module.enable_observer(on)

    def set_quantizing(self, on: bool) -> None:
        """Quantize in the forward pass, or run in float (as calibration does)."""
        self.quantizing = on
        for module in [*self.quantizers(), *(m.weight_fake_quant for m in self.quantized_weights())]:
            module.enable_fake_quant(on)
        for module in island_quantizers(self.plan, self.islands):
            module.enable_fake_quant(False)
        if on:
            self._follow_activations()

    def _follow_activations(self) -> None:
        """Weight scales that were taken before the ranges were known suit no second arithmetic yet."""
        if self.arithmetic.second is not None and self.calibrated:
            follow_activations(self.plan)

    @property
    def calibrated(self) -> bool:
        return all(q.calibrated for q in self.quantizers())

    def refuse_undecided(self) -> None:
        """Before anything depends on which weights have 4 bits.

        Raises:
            UserError: calibration has still to choose them.
        """
        if self.undecided:
            raise UserError(
                "weight_bits='auto' is decided by the calibration, and nothing was taken from one: give Float2QAT its "
                "calibration_checkpoint, or name the layers in weight_bits"
            )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.quantizing:
            self.refuse_undecided()
        if self.quantizing and not self.calibrated:
            self._initialize(x)
        if self.quantizing and self.qat_forward == "integer":
            backward = _backward_dtype(x.device.type)
            with torch.autocast(x.device.type, enabled=False):  # a convolution in 16 bits would not be that of integers
                maps = self._integer_forward(x.float(), backward)
        else:
            maps = tuple(self.trunk(x))
        if self.training or not self.quantizing:
            self._commit(None if self.quantizing else x)
        return maps

    def _commit(self, seen: Tensor | None = None) -> None:
        """Let a step's ranges count. With ``seen``, the images, a value that is not finite is refused by its layer."""
        if seen is not None and any(q.activation_post_process.not_finite for q in self.quantizers()):
            refuse_activations(self.trunk, seen, {step.output: step.name for step in self.plan.steps})
        for quantizer in self.quantizers():
            quantizer.commit()
        if any(quantizer.observing for quantizer in self.quantizers()):
            suit_kernels(self.plan, self.arithmetic)

    def copy_ranges(self, other: QuantizedNetwork) -> None:
        """Take the activations' quantization over from a network of the same operators."""
        pairs = [(self.plan.input, other.plan.input)]
        for ours, theirs in zip(self.plan.steps, other.plan.steps, strict=True):
            assert ours.kind == theirs.kind, (ours.name, theirs.name)
            pairs.append((ours.output, theirs.output))
        for mine, its in pairs:
            self.plan.quantizers[mine].copy_quantization(other.plan.quantizers[its])
        suit_kernels(self.plan, self.arithmetic)
        self._follow_activations()

    def settle_loaded(self) -> int:
        """Let scales that were loaded suit the arithmetic, which may not be the one that they were made for.

        Returns:
            How many moved.

        Raises:
            UserError: there is none for a layer.
        """
        for step in weighted_steps(self.plan):
            if id(quantizer_of(step)) in self._observed and bool(quantizer_of(step).observer_enabled[0]):
                quantizer_of(step).forget()
                step.module.observe_weight()  # type: ignore[union-attr, operator]
                quantizer_of(step).learn()
        self._observed.clear()
        if not self.calibrated:
            return 0
        moved = agree_again(self.plan, self.arithmetic)
        self._follow_activations()
        return moved

    def fitted(self, state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """A state of this network in any arithmetic, as this one has it: not each changes the quantization of what is
        multiplied by a gate. What it lacks of that is as what is changed; what it has too much of is left out.

        Weight scales that the state has learned are so from now on; learned ones begin where the state has others."""
        paths = {id(module): f"{prefix}{path}." for path, module in self.named_modules()}
        gated = [s for s in self.plan.steps if isinstance(s.module, Requantize) and s.module.gated]
        new = {paths[id(self.plan.quantizers[s.output])]: paths[id(self.plan.quantizers[s.inputs[0]])] for s in gated}
        extra = f"{prefix}trunk.{GATED}"
        made = {k: v for k, v in state.items() if not k.startswith(extra) or k.startswith(tuple(new))}
        for path, source in new.items():
            for name in [name for name in state if name.startswith(source)]:
                made.setdefault(path + name[len(source) :], state[name])
        for path, module in self.named_modules(remove_duplicate=False):
            if isinstance(module, WeightFakeQuantize) and f"{prefix}{path}.scale" in made:
                learned, scale = f"{prefix}{path}.step", made[f"{prefix}{path}.scale"]
                if learned in made and module.step is None:
                    module.learn()
                if module.step is not None and learned not in made:
                    made[learned] = step_of(scale, module.quant_max)
                    self._observed.add(id(module))
        return made

    @torch.no_grad()
    def _initialize(self, x: Tensor) -> None:
        """First ranges of an uncalibrated network: one float pass over this batch."""
        self.set_quantizing(False)
        self.trunk(x)
        self._commit(x)
        self.set_quantizing(True)

    def _integer_forward(self, x: Tensor, backward: torch.dtype | None) -> tuple[Tensor, ...]:
        steps, quantizers = self.plan.steps, self.plan.quantizers
        unique = {id(q): quant_params(q) for q in self.quantizers()}
        params = {name: unique[id(q)] for name, q in quantizers.items()}
        values = {self.plan.input: quantize(x, params[self.plan.input])}
        of = _Pass(params, backward, self._step_parameters(params))
        if self.islands:
            return self._mixed_forward(values, of)
        for step in steps:
            values[step.output] = self._run(step, [values[name] for name in step.inputs], of)
        return tuple(values[name] * params[name].scale for name in self.plan.outputs)

    def _step_parameters(self, params: dict[str, QuantParams]) -> dict[str, StepParameters]:
        """The exact parameters of all convolutions that run in integers, by output."""
        steps = [s for s in self.plan.steps if isinstance(s.module, QuantizedConv2d) and s.output not in self.islands]
        if not steps:
            return {}
        convs = [cast(QuantizedConv2d, step.module) for step in steps]
        made = step_parameters(convs, [params[step.inputs[0]].scale for step in steps])
        return {step.output: one for step, one in zip(steps, made, strict=True)}

    def _mixed_forward(self, codes: dict[str, Tensor], of: _Pass) -> tuple[Tensor, ...]:
        """As :meth:`_integer_forward`, with islands: values that are real stay so until an integer step reads them."""
        real: dict[str, Tensor] = {}
        params = of.params

        def as_real(name: str) -> Tensor:
            return real[name] if name in real else codes[name] * params[name].scale

        for step in self.plan.steps:
            if step.output in self.islands:
                real[step.output] = run_float(step, [as_real(name) for name in step.inputs])
                if self._observing(self.plan.quantizers[step.output]):
                    self.plan.quantizers[step.output].activation_post_process(real[step.output])
                continue
            for name in step.inputs:
                if name not in codes:
                    codes[name] = QuantizeReal.apply(real[name], params[name])
            codes[step.output] = self._run(step, [codes[name] for name in step.inputs], of)
        return tuple(as_real(name) for name in self.plan.outputs)

    def _run(self, step: Step, inputs: list[Tensor], of: _Pass) -> Tensor:
        quantizer = self.plan.quantizers[step.output]
        run = Run(
            step, inputs, tuple(of.params[name] for name in step.inputs), of.params[step.output], quantizer,
            self._observing(quantizer), self._tables, self.profile, of.backward, of.parameters.get(step.output),
        )  # fmt: skip
        return FORMS[step.kind].run(run)

    def _observing(self, quantizer: ActivationFakeQuantize) -> bool:
        return self.training and quantizer.observing


def _backward_dtype(device_type: str) -> torch.dtype | None:
    """bfloat16 where the step runs in it: it holds every centred code. float16 has too little range for their sums."""
    mixed = torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) == torch.bfloat16
    return torch.bfloat16 if mixed else None


def quantize(x: Tensor, params: QuantParams) -> Tensor:
    """Real values to centred codes: clamp(round(x / S) + Z, -128, 127) - Z, as float32."""
    codes = torch.round(x.detach() / params.scale)
    return codes.clamp_(-128 - params.zero_point, 127 - params.zero_point)
