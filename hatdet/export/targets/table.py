"""Targets by name: what a model is made for, what it may hold, and the settings of the compiler.

``tflite`` is the int8 file for whichever kernels its arithmetic names, those of TensorFlow Lite Micro by default;
``litert-xnnpack`` the same for LiteRT as programs open it, on phones and Linux boards; ``ethos-u55-N`` and
``ethos-u65-N`` are Arm's NPUs with N multiply-accumulates a cycle, fed by Vela; ``onnx`` is ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hatdet.export.targets.limits import ETHOS_U_COSTS, ETHOS_U_LIMITS, ETHOS_U_OPERATORS, Limit, parts_of_tables
from hatdet.export.targets.litert import LITERT_LIMITS, LITERT_NOTES, LITERT_OPERATORS
from hatdet.export.tflite.file_operators import FileModel
from hatdet.export.tflite.flatbuffer import OPERATOR_VERSIONS
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.profile import Profile
from hatdet.utils.errors import UserError, did_you_mean

DEFAULT_TARGET = "tflite"
DEFAULT_NPU = "ethos-u55-128"


@dataclass(frozen=True)
class Violation:
    """An operator that a target does not take (or, in :meth:`Target.costs`, runs slowly)."""

    path: str
    code: str
    message: str


@dataclass(frozen=True)
class Target:
    """A preset.

    Attributes:
        name: how configs and commands call it. file: what is handed over. runs: where it runs.
        operators: TensorFlow Lite operators that it takes; None: all that hatdet writes.
        arithmetic: name of the profile in which it computes; "": in whichever a file names.
        limits: what these operators must keep to. cost_rules: what makes them slow. notes: what is worth knowing.
        int16_outputs: outputs may have 16 bits. decode_in_graph: sigmoid and decoding of boxes may be part of the
            file (they are float operators).
        weights_as: how 4-bit weights are stored for it, ``int4`` or ``int8``; None: as the kernels of the arithmetic
            take them.
        macs_per_cycle: of the NPU; 0 without one. system_config, memory_mode: Vela's, from its ``Arm/vela.ini``.
    """

    name: str
    file: str
    runs: str
    arithmetic: str = ""
    operators: tuple[str, ...] | None = None
    limits: tuple[Limit, ...] = ()
    cost_rules: tuple[Limit, ...] = ()
    notes: tuple[Limit, ...] = ()
    int16_outputs: bool = True
    decode_in_graph: bool = False
    weights_as: str | None = None
    macs_per_cycle: int = 0
    system_config: str = ""
    memory_mode: str = ""

    @property
    def npu(self) -> bool:
        return self.macs_per_cycle > 0

    def other_arithmetic(self, profile: Profile, second: Profile | None = None) -> str:
        """What to say of a model that is made for a profile which the target does not compute in; "" where it does.

        Args:
            second: another that the model is made for too, without the promise.
        """
        if self.arithmetic in ("", profile.name):
            return ""
        if second is not None and self.arithmetic == second.name and not self.npu:
            return (
                f"{self.name} computes in the second arithmetic, {second.name!r}: the codes are the evaluated ones "
                "wherever scales can see to it, and an export counts the others"
            )
        return (
            f"{self.name} computes in the arithmetic {self.arithmetic!r}, and this model is made for {profile.name!r} "
            f"({profile.kernels}): set arithmetic={self.arithmetic!r}, or take another target"
        )

    @property
    def takes_tflite(self) -> bool:
        """Whether it runs the int8 ``.tflite``, as it is or compiled by Vela."""
        return self.file.startswith("int8 .tflite")

    def violations(self, model: FileModel) -> list[Violation]:
        """Every operator that the target does not take, in the file's order. A table and what leads to it are one."""
        found, parts = [], parts_of_tables(model)
        for op in model.operators:
            if op.name in parts:
                continue
            messages = [message for limit in self.limits if (message := limit.message(op))]
            if self.operators is not None and op.code not in self.operators and not messages:
                messages = [f"{op.code} does not run on {self.name}; it takes {', '.join(self.operators)}"]
            found += [Violation(op.path, op.code, message) for message in messages]
        return found

    def costs(self, model: FileModel) -> list[Violation]:
        """Operators that the target runs, but slowly."""
        return _said(self.cost_rules, model)

    def remarks(self, model: FileModel) -> list[Violation]:
        """Operators of which something is worth knowing."""
        return _said(self.notes, model)

    def check(self, model: FileModel) -> None:
        """Refuse a file with operators that the target does not take.

        Raises:
            UserError: naming all of them.
        """
        found = self.violations(model)
        if found:
            lines = "".join(f"\n  {v.path}: {v.message}" for v in found)
            count = "1 operator does" if len(found) == 1 else f"{len(found)} operators do"
            raise UserError(f"{count} not run on {self.name}:{lines}")


def _said(rules: Sequence[Limit], model: FileModel) -> list[Violation]:
    messages = [(op, rule.message(op)) for op in model.operators for rule in rules]
    return [Violation(op.path, op.code, message) for op, message in messages if message]


def _ethos(family: str, macs: int, system_config: str, memory_mode: str) -> Target:
    return Target(
        name=f"{family}-{macs}",
        file="int8 .tflite, compiled by Vela",
        runs=f"Arm {family.replace('ethos-u', 'Ethos-U')}, {macs} MACs a cycle",
        arithmetic=PROFILE,
        operators=ETHOS_U_OPERATORS,
        limits=ETHOS_U_LIMITS,
        cost_rules=ETHOS_U_COSTS,
        weights_as="int8",
        macs_per_cycle=macs,
        system_config=system_config,
        memory_mode=memory_mode,
    )


_PRESETS = (
    Target(
        name="tflite",
        file="int8 .tflite, per-channel weights",
        runs="LiteRT and TensorFlow Lite Micro, on any CPU",
        operators=tuple(OPERATOR_VERSIONS),
    ),
    Target(
        name="litert-xnnpack",
        file="int8 .tflite, per-channel weights",
        runs="LiteRT's default kernels on 64-bit CPUs: phones, Raspberry Pi, Linux boards, PCs",
        arithmetic="xnnpack",
        operators=LITERT_OPERATORS,
        limits=LITERT_LIMITS,
        notes=LITERT_NOTES,
        weights_as="int8",
    ),
    *(_ethos("ethos-u55", macs, "Ethos_U55_High_End_Embedded", "Shared_Sram") for macs in (32, 64, 128, 256)),
    *(_ethos("ethos-u65", macs, "Ethos_U65_High_End", "Dedicated_Sram") for macs in (256, 512)),
    Target(name="onnx", file=".onnx: float, QDQ, or exact integers", runs="ONNX Runtime", decode_in_graph=True),
)
TARGETS: dict[str, Target] = {target.name: target for target in _PRESETS}


def get_target(name: str) -> Target:
    """The preset of that name.

    Raises:
        UserError: there is none.
    """
    if name not in TARGETS:
        raise UserError(f"unknown target {name!r}{did_you_mean(str(name), TARGETS)}; targets are {', '.join(TARGETS)}")
    return TARGETS[name]


def npu_target(name: str) -> Target:
    """The preset of that name, which has to have an NPU.

    Raises:
        UserError: unknown, or nothing that Vela compiles for.
    """
    target = get_target(name)
    if not target.npu:
        raise UserError(f"Vela compiles for {', '.join(npu_names())}, not for {name!r}: name one of them with --target")
    return target


def npu_names() -> Sequence[str]:
    """Names of the targets that Vela compiles for."""
    return [target.name for target in TARGETS.values() if target.npu]
