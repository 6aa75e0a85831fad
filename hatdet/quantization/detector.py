"""A detector whose network is quantized: the same losses and boxes around another trunk."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.agreement.together import arithmetic_named
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.channel_orders import fold_orders
from hatdet.integer.graph import IntGraph
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.analysis.dead_layers import LayerWatch
from hatdet.quantization.analysis.four_bits import IMAGES, choose, first_images
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.quantization.lowering import assert_same_scales, lower
from hatdet.quantization.normalization import input_quantization
from hatdet.quantization.operators.windows.weighted import kernels_of
from hatdet.quantization.ptq.refine import Refinement, refine
from hatdet.quantization.qat.live_bn import folded_copy
from hatdet.quantization.qat.network import QuantizedNetwork
from hatdet.quantization.qat.weight_bits import KEY
from hatdet.quantization.task_detector import Batch, TaskDetector
from hatdet.quantization.tracing.comparison import compare_networks, refuse
from hatdet.quantization.tracing.rewriting.folding import is_as_folded
from hatdet.utils.distributed import broadcast
from hatdet.utils.errors import UserError
from hatdet.utils.finite import refuse_not_finite
from hatdet.utils.input_format import input_channels

logger = logging.getLogger("hatdet")


class QuantizedDetector(TaskDetector):
    """What Float2Calibration and Float2QAT return: a detector with a :class:`QuantizedNetwork`."""

    decides_by = IMAGES
    """So many images :meth:`decide` looks at."""

    def __init__(self, *, detector: nn.Module, network: QuantizedNetwork) -> None:
        super().__init__(detector)
        self.quantized = network
        self._kernels = kernels_of(detector.network())  # type: ignore[operator]
        self.flash_budget: float | None = None
        self._compared = False
        self._image_size = (320, 320)
        self.refinement = Refinement()  # how calibration changes, or changed, weights and biases

    @property
    def arithmetic(self) -> str:
        """Name of the profile that its integers follow."""
        return self.quantized.profile.name

    def metadata(self) -> dict[str, Any]:
        second = self.quantized.arithmetic.second
        both = {"second_profile": second.name} if second is not None else {}
        four = self.quantized.four_bit_layers
        refined = {"refinement": made} if (made := self.refinement.described()) else {}
        bits = {KEY: four} if four else {}
        return {**super().metadata(), "profile": self.arithmetic, **both, **bits, **refined}

    def follow_bits(self, metadata: Mapping[str, Any], path: str) -> None:
        """Where calibration chooses the layers of 4-bit weights, take those that a checkpoint was made with.

        Raises:
            UserError: the config chooses others.
        """
        stored, own = list(metadata.get(KEY) or ()), self.quantized.four_bit_layers
        if self.quantized.undecided:
            self.quantized.decide(stored)
        elif set(stored) != set(own):
            raise UserError(
                f"{path} has weights of 4 bits in {_counted(stored)}, this config in {_counted(own)}: set weight_bits "
                "as it was made with (or leave it out), or run calibration and QAT again"
            )

    def follow(self, metadata: Mapping[str, Any], weights: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Weights of a checkpoint as this network has them, after :meth:`follow_bits`."""
        self.follow_bits(metadata, path)
        return self.quantized.fitted(weights, "quantized.")

    @property
    def undecided(self) -> bool:
        """Whether it is still to be chosen which weights get 4 bits (``weight_bits="auto"``)."""
        return self.quantized.undecided

    def decide(self, batches: Iterable[Tensor]) -> None:
        """Choose them by the first pictures of the calibration, once ranges are known
        (:mod:`hatdet.quantization.analysis.four_bits`); in a group of processes the first one does.

        Args:
            batches: images as ``preprocess`` takes them; no more than :attr:`decides_by` are taken.

        Raises:
            UserError: the flash budget cannot be met.
        """
        images = first_images(batches, self.decides_by)
        choice = choose(self.quantized, self.preprocess(images), self.flash_budget)
        self.quantized.decide(broadcast(choice.layers))
        logger.info("weight_bits='auto': %s", choice.text())

    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        self._image_size = (x.shape[2], x.shape[3])
        if not self._compared and not self.training and not self.quantized.quantizing:
            self._compared = True  # with the first images that calibration sees
            self._compare_with_float(x[:2].detach())
        return self.quantized(x)

    def _compare_with_float(self, images: Tensor) -> None:
        """Refuse a traced network that computes something else than the float network on real images; as long as both
        have the same weights."""
        from hatdet.quantization.qat.fx_adapter import resting

        self.update_float()
        network = self.task.network()
        own = {p.data_ptr() for p in network.parameters()}  # a weight may lie there in another order
        own |= {p.data_ptr() for p in self.quantized.parameters() if is_as_folded(p)}
        convolutions = self.quantized.convolutions()
        biases = [c.bias for c in convolutions if c.bias is not None and c.bias.data_ptr() not in own]
        if all(c.weight.data_ptr() in own for c in convolutions) and not any(bool(b.any()) for b in biases):
            with resting(self.quantized.trunk):
                refuse(compare_networks(network, self.quantized.trunk, images), "tracing")

    def update_float(self) -> None:
        """Let the float detector have the present weights, wherever this one was moved and copied to."""
        for kernel in self._kernels:
            kernel.join()

    def set_observing(self, on: bool) -> None:
        self.quantized.set_observing(on)

    def set_quantizing(self, on: bool) -> None:
        self.quantized.set_quantizing(on)

    def watch_layers(self) -> LayerWatch:
        """Watch the layers' outputs until ``close()``, which names those that are dead."""
        return LayerWatch(self.quantized.plan)

    def refine(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """After the ranges are known: let weights and biases suit them, as :attr:`refinement` says, on the images of
        these batches."""
        if self.refinement.walks:
            refine(self.quantized, lambda: (self.preprocess(batch["img"]) for batch in batches()), self.refinement)

    def rounded_weights(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Every weight that is trained (O, ...), what its codes stand for (O, ...), the step between two (O, 1, 1, 1).

        Raises:
            UserError: batch normalization is alive, so what is rounded is no parameter.
        """
        for module in {id(m.weight_fake_quant): m for m in self.quantized.convolutions()}.values():
            step = module.weight_fake_quant.scale.view(-1, 1, 1, 1)
            yield module.weight, module.weight_fake_quant.codes(module.weight) * step, step

    @property
    def can_evaluate(self) -> bool:
        """Whether the activation ranges are known, so that there is an integer model to score."""
        return self.quantized.calibrated

    def folded(self) -> QuantizedDetector:
        """The model as it becomes integers: itself, where batch normalization is folded already."""
        return self

    def int_graph(self, image_size: tuple[int, int] = (320, 320)) -> IntGraph:
        """The integer model for images of ``image_size`` (h, w), as it ships."""
        return fold_orders(self.lowered(image_size))

    def lowered(self, image_size: tuple[int, int] = (320, 320)) -> IntGraph:
        """Lower to integers, an operator for each of the network's; scales are asserted to be the simulation's.

        Raises:
            UserError: calibration has still to choose the weights of 4 bits.
        """
        self.quantized.refuse_undecided()
        metadata = {**self.metadata(), "image_size": list(image_size)}
        graph = lower(self.quantized, image_size, self.task.output_names, metadata)
        assert_same_scales(self.quantized, graph)
        return graph

    def evaluation_model(self) -> IntegerDetector:
        """The integer model of the present weights: what Validation scores and what ships; for images as they were
        last seen, since not every network takes others."""
        graph = self.int_graph(self._image_size)
        return IntegerDetector(detector=self.task, graph=graph, device=device_of(self))


def _counted(layers: Sequence[str]) -> str:
    """``no layer``, or how many and the first."""
    shown = ", ".join(layers[:2]) + (", ..." if len(layers) > 2 else "")
    return f"{len(layers)} layer{'' if len(layers) == 1 else 's'} ({shown})" if layers else "no layer"


class LiveBnDetector(QuantizedDetector):
    """A quantized detector whose batch normalization is alive while it trains (``qat_mode="with_bn"``).

    Its forward is fake quantization; what is evaluated and exported is the integer graph of :meth:`folded`.
    """

    def __init__(self, *, detector: nn.Module, network: QuantizedNetwork, settings: Mapping[str, Any]) -> None:
        super().__init__(detector=detector, network=network)
        self.settings = dict(settings)

    def rounded_weights(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        raise UserError(
            "with qat_mode='with_bn' weights are folded before they are rounded: set qat_mode='fuse_bn', or leave the "
            "damping of oscillations out"
        )

    def folded(self) -> QuantizedDetector:
        """A folded copy of the present weights and ranges, in integer arithmetic."""
        self.quantized.refuse_undecided()
        self.update_float()
        settings = {**self.settings, "qat_forward": "integer", "weight_bits": self.quantized.four_bit_layers}
        made = quantize_detector(folded_copy(self.task), **settings)
        made.quantized.copy_ranges(self.quantized)
        made.set_observing(False)
        made.set_quantizing(True)
        return made.eval()

    def lowered(self, image_size: tuple[int, int] = (320, 320)) -> IntGraph:
        return self.folded().lowered(image_size)


def quantize_detector(
    detector: nn.Module,
    *,
    observer: str,
    averaging_constant: float,
    qat_forward: str,
    keep_float: Sequence[str] = (),
    int16_output: bool | None = None,
    live_bn: bool = False,
    fold_constants: bool = True,
    arithmetic: str = PROFILE,
    weight_bits: int | str | Sequence[str] = 8,
    qat_scales: str = "observed",
    flash_budget: float | None = None,
) -> QuantizedDetector:
    """Trace the (fused) detector's network and insert quantizers; the detector's parameters are shared, not copied.

    Args:
        live_bn: the detector is one after ``live_bn.attach_bn``; it trains in fake quantization.
        keep_float: layers that run in float all the same (see ``quantization/qat/islands.py``).
        int16_output: the outputs have 16 bits; None: as the detector's attribute ``int16_output`` says, else 8.
        arithmetic: name of the profile whose kernels the integers follow (:mod:`hatdet.integer.profiles`), or of two.
        weight_bits: 8, 4, names of the layers whose weights have 4 bits, or ``auto``
            (:mod:`hatdet.quantization.qat.weight_bits`). qat_scales: of weights, ``observed``, ``learned`` or ``auto``.
        flash_budget: of ``weight_bits="auto"`` (:func:`hatdet.quantization.analysis.four_bits.choose`).
        fold_constants: see ``fx_adapter.prepare``; with ``live_bn`` never, since the float detector is folded again.
    """
    from hatdet.quantization.qat import fx_adapter

    assert callable(getattr(detector, "network", None)), "a detector offers network()"
    network = detector.network()  # type: ignore[operator, union-attr]
    refuse_not_finite(network.state_dict(), "weights", "take an earlier checkpoint, or train again")
    device = device_of(detector)
    example = torch.zeros(1, input_channels(detector), 64, 64, device=device)
    wide = bool(getattr(detector, "int16_output", False)) if int16_output is None else int16_output
    fold_constants = fold_constants and not live_bn
    followed = arithmetic_named(arithmetic)
    trunk = fx_adapter.prepare(network, observer, averaging_constant, example, wide, fold_constants, followed)
    _check_form(trunk.meta["form"])
    scale, zero_point = input_quantization(detector)
    params = QuantParams(scale, zero_point)
    quantized = QuantizedNetwork(
        trunk=trunk, qat_forward=qat_forward, input_params=params, keep_float=keep_float, arithmetic=arithmetic,
        weight_bits=weight_bits, qat_scales=qat_scales,
    )  # fmt: skip
    for module in quantized.quantized_weights():
        module.observe_weight()  # a training may freeze ranges before its first step
    quantized.begin_scales()
    if not live_bn:
        made = QuantizedDetector(detector=detector, network=quantized).to(device)
        made.flash_budget = flash_budget
        return made
    quantized.qat_forward = "fake_quant"
    settings = {
        "observer": observer,
        "averaging_constant": averaging_constant,
        "keep_float": list(keep_float),
        "int16_output": wide,
        "fold_constants": False,
        "arithmetic": arithmetic,
    }
    alive = LiveBnDetector(detector=detector, network=quantized, settings=settings).to(device)
    alive.flash_budget = flash_budget
    return alive


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters (or buffers) are; the CPU where it has none."""
    return next(itertools.chain(module.parameters(), module.buffers()), torch.zeros(())).device


def _check_form(form: str) -> None:
    if form != "tuple":
        raise UserError(
            f"the network's outputs come as '{form}'; a detector's network returns one flat tuple of maps, such as "
            "(cls_8, cls_16, reg_8, reg_16); return such a tuple from its forward"
        )
