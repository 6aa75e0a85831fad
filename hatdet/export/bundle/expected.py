"""What a model gives for the self-test's pictures, under every profile that says what its kernels make of the file.

Where a profile does not (its implementations need not agree on numbers of another one's file), each implementation that
is known has its outputs: measured on this machine, or by formulas.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from hatdet.export.bundle.under_profile import under
from hatdet.export.bundle.xnnpack_arm import XnnpackOnArm
from hatdet.export.runtimes.integer import to_nhwc, try_runtimes
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.profile import Profile
from hatdet.integer.profiles.table import PROFILES
from hatdet.utils.errors import UserError

Outputs = Sequence[np.ndarray]
Boxes = Mapping[str, np.ndarray]
ARM = "aarch64"
MACHINE = {"AMD64": "x86_64", "arm64": ARM}.get(platform.machine(), platform.machine())
ELSEWHERE: dict[str, Profile] = {f"xnnpack (LiteRT default, {ARM})": XnnpackOnArm()}
"""Implementations of profiles that are known by their formulas, each where its machine is another than this one."""


def kernels_of(name: str) -> str:
    """What computes a profile, or one implementation of it: ``profile (implementation)``."""
    profile, _, implementation = name.partition(" (")
    return implementation.removesuffix(")") or PROFILES[profile].kernels


def litert_of(name: str) -> str:
    """LiteRT's kernels that do; of a profile that LiteRT does not compute in, the usual ones."""
    return PROFILES[name.partition(" (")[0]].litert or "default"


@dataclass(frozen=True)
class Expected:
    """What a model gives for some pictures.

    Attributes:
        codes: input codes, int8 (n, h, w, c).
        outputs: by profile (or implementation, :func:`kernels_of`) the raw codes of every output, (n, h, w, c), in the
            order of the file; the first is the profile that the file is made for.
        boxes: of each picture ``boxes`` (k, 4), ``scores`` and ``labels``; None: there is no decoder.
        origin: what gave the outputs, and where the pictures come from; a line.
        left_out: why other profiles are not among them.
    """

    codes: np.ndarray
    outputs: Mapping[str, Outputs]
    boxes: Sequence[Boxes] | None
    origin: str
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def pictures(self) -> int:
        return len(self.codes)

    @property
    def profile(self) -> str:
        """The one that the file is made for."""
        return next(iter(self.outputs))

    @property
    def own(self) -> Outputs:
        """What is promised."""
        return self.outputs[self.profile]


def expectation(model: bytes, graph: IntGraph, codes: np.ndarray, decode: Callable[..., Boxes] | None) -> Expected:
    """What the file gives for some input codes.

    Args:
        model: the int8 ``.tflite`` of ``graph``. decode: of the numpy decoder; None: no boxes.

    Raises:
        UserError: LiteRT cannot run the file, or does not compute it as the executor does.
    """
    own = graph.profile
    outputs: dict[str, Outputs] = {own.name: executed(graph, codes)}
    if differing := _differing(own, model, codes, outputs[own.name]):
        raise UserError(
            f"no self-test can be made: {differing}; export with --verify 16 --intermediates to see where"
        )
    left_out: dict[str, str] = {}
    for other in PROFILES.values():
        if other is own:
            continue
        try:
            outputs[other.name] = executed(under(graph, other), codes)
        except UserError as error:
            found = _by_implementation(other, model, graph, codes)
            outputs |= found
            if other.name not in found:
                left_out[other.name] = str(error)
            continue
        if differing := _differing(other, model, codes, outputs[other.name]):
            del outputs[other.name]
            left_out[other.name] = differing
    size = (int(codes.shape[1]), int(codes.shape[2]))
    boxes = None
    if decode is not None:
        boxes = [decode([maps[i : i + 1] for maps in outputs[own.name]], size) for i in range(len(codes))]
    origin = f"{len(codes)} pictures of the validation data; outputs of the integer executor in {own.name}."
    return Expected(codes, outputs, boxes, origin, left_out)


def _by_implementation(profile: Profile, model: bytes, graph: IntGraph, codes: np.ndarray) -> dict[str, Outputs]:
    """What the implementations of a profile give that does not say it itself; under its own name, where all agree."""
    names = [name for name in profile.runtimes if "threads" not in name]
    runtimes, missing, _ = try_runtimes(model, names=names)
    where = f", {MACHINE}" if profile.litert == "default" else ""
    found: dict[str, Outputs] = {f"{profile.name} ({r.name}{where})": r.run(codes) for r in runtimes}
    for name, elsewhere in ELSEWHERE.items():
        if elsewhere.name == profile.name and name not in found:
            try:
                found[name] = executed(under(graph, elsewhere), codes, elsewhere)
            except UserError:  # not in its range either
                missing[name] = ""
    made = list(found.values())
    if made and not missing and all(_same(made[0], other) for other in made):
        return {profile.name: made[0]}
    return found


def _same(first: Outputs, second: Outputs) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


class _Executor(IntExecutor):
    """In an arithmetic that is none of the profiles."""

    def __init__(self, graph: IntGraph, profile: Profile) -> None:
        self._profile = profile
        super().__init__(graph)

    @property
    def profile(self) -> Profile:
        return self._profile


def executed(graph: IntGraph, codes: np.ndarray, profile: Profile | None = None) -> list[np.ndarray]:
    """The outputs (n, h, w, c) of the torch executor, picture by picture; ``profile``: None: the graph's."""
    run = _Executor(graph, profile or graph.profile)
    images = torch.from_numpy(np.ascontiguousarray(codes.transpose(0, 3, 1, 2)))
    results = [[to_nhwc(maps) for maps in run(images[i : i + 1])] for i in range(len(images))]
    return [np.concatenate(maps) for maps in zip(*results, strict=True)]


def _differing(profile: Profile, model: bytes, codes: np.ndarray, outputs: Outputs) -> str:
    """What of LiteRT's outputs is not as computed; nothing where LiteRT has no kernels of the profile."""
    names = [name for name in profile.runtimes if name.startswith("LiteRT")][:1]
    found, _, refused = try_runtimes(model, names=names)
    if refused:
        return " ".join(refused.values())
    for runtime in found:
        for name, ours, theirs in zip(runtime.output_names, outputs, runtime.run(codes), strict=True):
            if not np.array_equal(ours, theirs):
                wrong = int(np.count_nonzero(ours != theirs))
                return f"{runtime.name} gives {wrong} of {ours.size} other codes of the output {name} than the executor"
    return ""
