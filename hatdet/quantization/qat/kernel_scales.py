"""Scales that every runtime's kernels can compute with, and with which all of them round alike.

Observed ranges know nothing of kernels. An output that hardly differs from 0 on all calibration images (a ReLU that is
never passed, a sum that cancels) gets a scale so small for its inputs that fixed point overflows or a kernel refuses
it; and some products and activations are rounded in two ways. Such scales are raised: by as much as the kernels need
in the first case, by some units in 2**24 in the second. Where a second arithmetic is to give the same codes
(:class:`~hatdet.integer.agreement.together.Together`), scales are raised by an eighth at most, mostly by less than a
hundredth; then the weights' scales are moved too (:mod:`hatdet.quantization.qat.agreeing_weights`).
"""

from __future__ import annotations

import numpy as np
import torch

from hatdet.integer.agreement.together import WINDOW, Arithmetic
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.profile import NoScale, Profile
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Step
from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize
from hatdet.quantization.qat.fx_adapter import Plan, QuantizedConv2d
from hatdet.utils.errors import UserError

_ROUNDS = 16
_ROUNDS_FOR_SECOND = 4
"""Rounds in which a second arithmetic has a say; where two of its wishes exclude each other, they end."""
_CANDIDATES = 128
"""Scales that are tried for one value and a second arithmetic's sake."""


@torch.no_grad()
def suit_kernels(plan: Plan, arithmetic: Arithmetic) -> None:
    """Raise scales to what the kernels can compute with (:func:`bound_scales`), and outputs of products and inputs of
    activations to where every runtime rounds alike.

    Raises:
        UserError: there is no such scale for a layer.
    """
    _Scales(plan, arithmetic).settle(bound=True, agree=True)


@torch.no_grad()
def bound_scales(plan: Plan, arithmetic: Arithmetic) -> None:
    """Raise the scales of outputs that are too small for their inputs; those that are not stay as they are."""
    _Scales(plan, arithmetic).settle(bound=True, agree=False)


@torch.no_grad()
def agree_again(plan: Plan, arithmetic: Arithmetic) -> int:
    """Move scales that were loaded, of another arithmetic perhaps, to where this one's runtimes round alike.

    Those of the same arithmetic stay as they are. Returns how many moved.

    Raises:
        UserError: there is no such scale for a layer.
    """
    return _Scales(plan, arithmetic).settle(bound=False, agree=True)


class _Scales:
    """The scales of a plan's quantizers while they are raised; a quantizer may belong to many values."""

    def __init__(self, plan: Plan, arithmetic: Arithmetic) -> None:
        self.profile, self.second, self.together = arithmetic.promised, arithmetic.second, arithmetic.together
        self.steps, self.quantizers = plan.steps, plan.quantizers
        unique = {id(q): q for q in plan.quantizers.values()}
        self.unique: dict[int, ActivationFakeQuantize] = unique
        self.scale = {key: float(q.scale) for key, q in unique.items()}
        self.zeros = {key: int(q.zero_point) for key, q in unique.items()}
        convs = [step for step in self.steps if isinstance(step.module, QuantizedConv2d)]
        peaks = [s.module.integer_scale().max() for s in convs if isinstance(s.module, QuantizedConv2d)]
        values = torch.stack(peaks).tolist() if peaks else []
        self.peaks: dict[str, float] = {s.output: v for s, v in zip(convs, values, strict=True)}
        self.products: dict[int, list[Step]] = {}
        for step in self.steps:
            if _factors(step) and not self.quantizers[step.output].fixed:
                self.products.setdefault(self._key(step.output), []).append(step)

    def settle(self, bound: bool, agree: bool) -> int:
        """Raise until nothing moves (an output may be another's input), then write back what moved."""
        start = dict(self.scale)
        for number in range(_ROUNDS + _ROUNDS_FOR_SECOND):
            before = dict(self.scale)
            two = self.second is not None and number < _ROUNDS_FOR_SECOND  # then what is promised alone
            if self.second is not None and two:
                self._follow(self.second, bound, agree)
            self._follow(self.profile, bound, agree)
            if agree and two:
                self._agree_with_second()
            if self.scale == before:
                break
        for key, quantizer in self.unique.items():
            if self.scale[key] != start[key]:
                quantizer.scale.fill_(self.scale[key])
                if quantizer.bits == 16:  # the recorded range too: it tells the bits (``fake_quant.bits_of``)
                    quantizer.activation_post_process.max_val.fill_(self.scale[key] * 32767.0)
        return sum(self.scale[key] != value for key, value in start.items())

    def _key(self, name: str) -> int:
        return id(self.quantizers[name])

    def of(self, name: str) -> float:
        return self.scale[self._key(name)] if name else UNIT_INTERVAL.scale

    def zero(self, name: str) -> int:
        return self.zeros[self._key(name)]

    def bits(self, name: str) -> int:
        return self.quantizers[name].bits

    def fixed(self, name: str) -> bool:
        return self.quantizers[name].fixed

    def params(self, name: str) -> QuantParams:
        return QuantParams(self.of(name), self.zero(name), self.bits(name))

    def others(self, step: Step) -> list[str]:
        return [name for name in step.inputs if self._key(name) != self._key(step.output)]

    def peak(self, step: Step) -> float:
        return self.peaks[step.output]

    def lift(self, name: str, least: float) -> None:
        """Set the scale of a value to ``least``, a float32, where it is below that and free."""
        if not self.fixed(name):
            self.scale[self._key(name)] = max(self.of(name), float(np.float32(least)))

    def _follow(self, profile: Profile, bound: bool, agree: bool) -> None:
        """One round of a profile's own rules."""
        promised, self.profile = self.profile, profile
        try:
            if bound:
                for step in self.steps:
                    self.lift(step.output, FORMS[step.kind].least_scale(step, self))
                    if least := FORMS[step.kind].least_input(step, self):
                        self.lift(step.inputs[0], least)
            if agree:
                self._agree(strict=profile is promised)
        finally:
            self.profile = promised

    def _agree(self, strict: bool) -> None:
        """Not ``strict``: where there is no scale, it stays as it is."""
        for step in self.steps:
            try:
                FORMS[step.kind].agree(step, self)
            except NoScale as error:
                if strict:
                    raise self._refusal(step, error) from error
        for key, members in self.products.items():
            inputs = [(self.of(a), self.of(b)) for a, b in map(_factors, members)]
            try:
                self.scale[key] = self.profile.product_scale(inputs, self.scale[key])
            except NoScale as error:
                if strict:
                    raise self._refusal(members[0], error) from error

    def _refusal(self, step: Step, error: NoScale) -> UserError:
        what = step.arguments.get("function", step.kind)
        return UserError(
            f"layer {step.name!r} ({what}) has no quantization in the arithmetic {self.profile.name!r}: {error}; "
            f"{FORMS[step.kind].instead(step)}"
        )

    def _agree_with_second(self) -> None:
        """Raise scales to the next with which all that make a value, and the activations that read it, have the same
        codes in both arithmetics: its own, or where no single one suits them all, their inputs'; else all stay."""
        made, read = self._made(), self._read()
        for key, steps in made.items():
            if self._settled(steps, read.get(key, [])):
                continue
            if self._raise(key, steps, read.get(key, [])):
                continue
            for step in steps:
                if not self._settled([step], []):
                    keys = {self._key(name): name for name in self.others(step)}
                    any(self._raise(k, [*made.get(k, []), step], read.get(k, [])) for k in keys)

    def _made(self) -> dict[int, list[Step]]:
        """By value: the steps that make it."""
        found: dict[int, list[Step]] = {}
        for step in self.steps:
            found.setdefault(self._key(step.output), []).append(step)
        return found

    def _read(self) -> dict[int, list[Step]]:
        """By value: the activations that read it."""
        found: dict[int, list[Step]] = {}
        for step in self.steps:
            if step.kind == "activation":
                found.setdefault(self._key(step.inputs[0]), []).append(step)
        return found

    def _settled(self, made: list[Step], read: list[Step]) -> bool:
        assert self.together is not None
        return all(FORMS[step.kind].both_agree(step, self, self.together) for step in made) and all(
            FORMS[step.kind].both_read(step, self, self.together) for step in read
        )

    def _raise(self, key: int, made: list[Step], read: list[Step]) -> bool:
        """Raise one scale until these steps are settled; False: it stays."""
        assert self.together is not None
        if self.unique[key].fixed:
            return False
        start = self.scale[key]
        found: set[float] = set()
        for step in made:
            names = [name for name in dict.fromkeys((step.output, *step.inputs)) if self._key(name) == key]
            found.update(*(FORMS[step.kind].agreeing_scales(step, name, self, self.together) for name in names))
        found = found or set(self.together.next_scales(start))
        for scale in sorted(s for s in found if start < s <= start * (1.0 + WINDOW))[:_CANDIDATES]:
            self.scale[key] = scale
            if self._settled(made, read):
                return True
        self.scale[key] = start
        return False


def _factors(step: Step) -> tuple[str, ...]:
    return FORMS[step.kind].factors(step)
