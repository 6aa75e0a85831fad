"""The guard behind every rewriting of a network: what comes out computes what went in.

Tracing, folding and preparing are compared with the float network in eval mode, on noise and on real images, with the
quantizers off. Float rounding is allowed for and nothing else: a network that makes much of it, as a deep one without
shortcuts does after its first epochs, is compared in float64.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hatdet.quantization.tracing.recorded import as_map, evaluating, tensors_of
from hatdet.quantization.tracing.two_sizes import first_noise
from hatdet.utils.errors import UserError

TOLERANCE = 1e-4
"""Largest difference, as a share of an output's largest value. Plain networks differ by some 1e-7."""


@dataclass(frozen=True)
class Difference:
    """Where two networks part: the first module whose output differs (or an output's number), and by how much."""

    where: str
    difference: float

    def __str__(self) -> str:
        if math.isinf(self.difference):
            return f"first at {self.where}: other shapes, or values that are not finite"
        return f"first at {self.where}: by {self.difference:.2g} of an output's largest value, more than {TOLERANCE:g}"


@dataclass(frozen=True)
class Run:
    """What a network gave, and every call of its modules in the order in which they ended, where those were noted."""

    outputs: list[Tensor]
    calls: list[tuple[str, list[Tensor]]]


@torch.no_grad()
def run(network: nn.Module, inputs: Tensor, noting: bool = True) -> Run:
    """Run a network in eval mode and, if ``noting``, keep a copy of all that its modules gave; it stays as it is."""
    calls: list[tuple[str, list[Tensor]]] = []
    paths = {id(module): path for path, module in network.named_modules() if path and not has_folded(module)}
    handles = [
        module.register_forward_hook(
            lambda module, _, result: calls.append((paths.get(id(module), ""), [t.clone() for t in tensors_of(result)]))
        )
        for module in network.modules()
        if noting and id(module) in paths
    ]
    device = inputs.device.type
    try:
        with (
            evaluating(network),
            torch.random.fork_rng(devices=[]),
            torch.autocast(device, enabled=False),
            torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False),
        ):
            outputs = [t.clone() for t in tensors_of(network(inputs.clone()))]
    finally:
        for handle in handles:
            handle.remove()
    return Run(outputs, calls)


def has_folded(module: nn.Module) -> bool:
    """Whether a convolution has taken in constants: what it gives is no value of the float network's modules."""
    return any(hasattr(parameter, "folded_version") for parameter in module.parameters(recurse=False))


def compare_networks(float_network: nn.Module, traced: nn.Module, inputs: Tensor) -> Difference | None:
    """Where ``traced`` computes something else than ``float_network``; None where it does not.

    Args:
        float_network: any network.
        traced: the same network, rewritten; module paths are the same where the modules are.
        inputs: images (B, C, H, W).
    """
    return compare_runs(run(float_network, inputs, noting=False), traced, inputs, float_network)


def compare_runs(
    reference: Run, traced: nn.Module, inputs: Tensor, float_network: nn.Module | None = None
) -> Difference | None:
    """As :func:`compare_networks`, with a reference that ran before: noting its modules, or with ``float_network``,
    which notes them where there is a difference (all maps of a large network are gigabytes), and says whether it is
    one of rounding."""
    try:
        with redirect_stderr(io.StringIO()):  # torch.fx prints the code
            found = run(traced, inputs, noting=False)
    except RuntimeError:  # shapes that do not fit: the forward branches on sizes that were not among those recorded
        return Difference(f"images of {inputs.shape[2]} x {inputs.shape[3]}, which it does not take", float("inf"))
    if len(found.outputs) != len(reference.outputs):
        return Difference(f"the outputs, {len(found.outputs)} of {len(reference.outputs)}", float("inf"))
    differences = [difference(a, b) for a, b in zip(reference.outputs, found.outputs, strict=True)]
    worst = max(differences, default=0.0)
    if worst <= TOLERANCE or (float_network is not None and _is_rounding(float_network, traced, inputs, worst)):
        return None
    index = next(i for i, value in enumerate(differences) if value > TOLERANCE)
    reference = reference if float_network is None else run(float_network, inputs)
    return Difference(_first_apart(reference, run(traced, inputs)) or f"output {index}", worst)


def _is_rounding(float_network: nn.Module, traced: nn.Module, inputs: Tensor, worst: float) -> bool:
    """Whether copies of the networks in float64 do not differ."""
    if math.isinf(worst):
        return False
    try:
        both = [run(copy.deepcopy(n).double(), inputs.double(), noting=False).outputs for n in (float_network, traced)]
    except (RuntimeError, TypeError):  # values of float32 in a forward, a device without float64, what has no copy
        return False
    return all(difference(a, b) <= TOLERANCE for a, b in zip(*both, strict=True))


def difference(reference: Tensor, other: Tensor) -> float:
    """Largest difference as a share of the reference's largest value; values that are not finite have to be alike."""
    if as_map(reference.shape) != as_map(other.shape):
        return float("inf")
    a, b = reference.double(), other.double().to(reference.device).reshape(reference.shape)
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return float("inf")
    a, b = a[finite], b[finite]
    apart = float((a - b).abs().max()) if a.numel() else 0.0
    return apart / max(float(a.abs().max()), torch.finfo(torch.float32).tiny) if apart else 0.0


def _first_apart(reference: Run, found: Run) -> str:
    """The first module of ``found`` that the reference has too, and whose output is none of the reference's values.

    Comparing with all values allows for modules that have taken in what stood behind them.
    """
    known = {path for path, _ in reference.calls}
    values = [value for _, made in reference.calls for value in made] + reference.outputs
    for path, made in found.calls:
        if path.split("@")[0] in known and any(
            all(difference(value, other) > TOLERANCE for value in values) for other in made
        ):
            return path
    return ""


@contextmanager
def unchanged(network: nn.Module, what: str) -> Iterator[None]:
    """Around a change of a network's modules that must not change what it computes.

    Raises:
        UserError: afterwards it computes something else; the first module is named.
    """
    noise = first_noise(network)
    try:
        kept = copy.deepcopy(network) if noise is not None else None
    except (RuntimeError, TypeError):  # it has no copy
        kept = None
    before = run(network, noise, noting=kept is None) if noise is not None else None
    yield
    if noise is not None and before is not None:  # else tracing refuses the network
        refuse(compare_runs(before, network, noise, kept), what)


def refuse(found: Difference | None, what: str) -> None:
    """Raise a UserError where there is a difference."""
    if found is not None:
        raise UserError(
            f"{what} changes what the network computes, {found}; write that module with plain torch operators and "
            "without hooks, or leave it out of the network"
        )
