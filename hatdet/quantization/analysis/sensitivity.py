"""Ablation: what each layer's quantization costs at the outputs of the network.

*Alone*: the float network, into which one layer's own quantization error is put, that of its weights, its sums and
its output. Its inputs stay exact, because the rounding of a tensor belongs to the layer that makes it.
*Kept float*: the integer network, in which one layer is a float island, as ``keep_float`` would make it.

Everything is computed from the weights of the integer stage itself; only what lies behind the layer is run again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hatdet.integer.graph import IntGraph
from hatdet.integer.islands import IslandExecutor, State
from hatdet.integer.operators.island import FloatOp
from hatdet.quantization.analysis.layers import OutputNoise
from hatdet.quantization.analysis.stage import StageNetwork

Maps = tuple[Tensor, ...]
Variant = tuple[str, str]
"""("float", ""), ("integer", ""), ("alone", output of a layer) or ("kept", output of a layer)."""

FLOAT, INTEGER = ("float", ""), ("integer", "")


class Ablation:
    """Runs the variants of one integer stage.

    Args:
        stage: in mode ``integer``.

    Raises:
        ValueError: another mode.
    """

    def __init__(self, stage: StageNetwork) -> None:
        if stage.kernels is None:
            raise ValueError(f"{stage.name} is not integer; an ablation needs the integer model")
        self.stage, self.kernels = stage, stage.kernels
        self.graph = stage.kernels.graph
        self.outputs = [out for out in stage.steps if not isinstance(self._op(out), FloatOp)]

    def _op(self, output: str) -> object:
        return self.kernels.ops[self.stage.tensor_name[output]]

    @torch.no_grad()
    def variants(self, images: Tensor, layers: Collection[str] | None = None) -> Iterator[tuple[Variant, Maps]]:
        """The raw maps of every variant, for normalized images (B, 3, H, W); float and integer come first.

        Args:
            layers: outputs of the layers to try; all by default.
        """
        images = images.to(self.stage.device)
        exact = self._float_values(images)
        executor = self.kernels.executor
        state = executor.begin(images)
        yield FLOAT, self._maps(exact)
        yield INTEGER, executor.replay(state, {})
        for out in self.outputs:
            if layers is None or out in layers:
                yield ("alone", out), self._maps(self._alone(out, exact))
                yield ("kept", out), self._kept(out, state)

    def _maps(self, values: dict[str, Tensor]) -> Maps:
        return tuple(values[name] for name in self.stage.plan.outputs)

    def _float_values(self, images: Tensor) -> dict[str, Tensor]:
        values = {self.stage.plan.input: images}
        for out in self.stage.steps:
            values[out] = self.stage.float_layer(out, values)
        return values

    def _alone(self, out: str, exact: dict[str, Tensor]) -> dict[str, Tensor]:
        made, seen = self.stage.layer(out, exact)
        error = made - self.stage.float_layer(out, seen)
        values, changed = {**exact, out: exact[out] + error}, {out}
        for later, step in self.stage.steps.items():
            if later != out and changed.intersection(step.inputs):
                values[later] = self.stage.float_layer(later, values)
                changed.add(later)
        return values

    def _kept(self, out: str, state: State) -> Maps:
        executor, names = self.kernels.executor, self.stage.tensor_name
        op = self.kernels.ops[names[out]]
        inputs = dict(zip(op.inputs, executor.real_inputs(state, op), strict=True))
        values = {self.stage.value_name[tensor]: value for tensor, value in inputs.items()}
        return executor.replay(state, {names[out]: self.stage.float_layer(out, values)})

    def with_islands(self, outputs: Collection[str]) -> IslandExecutor:
        """The integer model with these layers as islands."""
        names = self.stage.tensor_name
        floats = {
            names[out]: replace(op, input_names=tuple(names[n] for n in op.input_names), output=names[out])
            for out, op in self.stage.float_ops.items()
            if out in outputs
        }
        graph = self.graph
        ops = [floats.get(op.output, op) for op in graph.ops]
        mixed = IntGraph(graph.tensors, ops, graph.inputs, graph.outputs, dict(graph.metadata))
        return IslandExecutor(mixed, self.stage.device)


@dataclass
class Sensitivity:
    """Noise at the outputs, of every variant.

    Attributes:
        integer: of the integer model. alone, kept: by output of the layer.
    """

    integer: OutputNoise = field(default_factory=OutputNoise)
    alone: dict[str, OutputNoise] = field(default_factory=dict)
    kept: dict[str, OutputNoise] = field(default_factory=dict)

    def update(self, variant: Variant, reference: Maps, maps: Maps) -> None:
        """Add the outputs of one variant for some images; ``reference``: those of the float network."""
        kind, layer = variant
        if kind == "integer":
            self.integer.update(reference, maps)
        elif kind in ("alone", "kept"):
            table = self.alone if kind == "alone" else self.kept
            table.setdefault(layer, OutputNoise()).update(reference, maps)

    def shares(self) -> dict[str, float]:
        """Share of each layer in the sum of what the layers do alone; layers without effect have 0."""
        ratios = {layer: noise.ratio for layer, noise in self.alone.items()}
        known = {layer: ratio for layer, ratio in ratios.items() if not math.isnan(ratio)}
        if any(math.isinf(ratio) for ratio in known.values()):
            return {layer: float(math.isinf(known.get(layer, 0.0))) for layer in ratios}
        total = sum(known.values())
        return {layer: known.get(layer, 0.0) / total if total > 0 else 0.0 for layer in ratios}

    def gain(self, layer: str) -> float:
        """dB of the outputs that are won when this layer is kept float."""
        before, after = self.integer.sqnr, self.kept[layer].sqnr
        return 0.0 if before == after else after - before


def island_counts(layers: int) -> list[int]:
    """For how many of the most sensitive layers a mixture is tried: 1, 2, 3, 5, 8, ... and all."""
    counts, a, b = [], 1, 2
    while a < layers:
        counts.append(a)
        a, b = b, a + b
    return [*counts, layers] if layers else []


class IslandCurve:
    """How the outputs improve as more and more layers are kept float, the most sensitive first.

    Args:
        ablation: supplies the network. order: outputs of the layers, the most sensitive first.
        counts: how many of them to keep; by default some from 1 to all.
    """

    def __init__(self, ablation: Ablation, order: Sequence[str], counts: Sequence[int] | None = None) -> None:
        self.ablation = ablation
        self.noise = {count: OutputNoise() for count in (counts or island_counts(len(order)))}
        self._executors = {count: ablation.with_islands(order[:count]) for count in self.noise}

    @torch.no_grad()
    def update(self, images: Tensor) -> None:
        """Add some normalized images."""
        images = images.to(self.ablation.stage.device)
        reference = self.ablation._maps(self.ablation._float_values(images))
        for count, executor in self._executors.items():
            self.noise[count].update(reference, executor.run_real(images))
