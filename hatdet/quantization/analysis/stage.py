"""One stage of a network as something whose every layer can be run and looked at."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hatdet.integer.islands import LayerKernels, RealKernel, float_kernel
from hatdet.integer.operators.island import FloatOp
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.detector import QuantizedDetector, device_of
from hatdet.quantization.lowering import tensor_names
from hatdet.quantization.qat.fx_adapter import QuantizedConv2d, Step
from hatdet.quantization.qat.islands import float_operator
from hatdet.quantization.qat.network import quant_params

MODES = ("float", "fake_quant", "integer")


class StageNetwork:
    """A traced network in one arithmetic. Values are real tensors (B, C, H, W) by the names of ``Plan``.

    Args:
        name: for people, e.g. "qat (integer)".
        model: the traced detector, with the weights and ranges of the stage.
        mode: ``float`` (the weights as they are), ``fake_quant`` (torch.ao's simulation) or ``integer``.
        image_size: (h, w), for the shapes of the integer graph.

    Raises:
        ValueError: an unknown mode, or one that needs ranges which the model does not have.
    """

    def __init__(
        self, *, name: str, model: QuantizedDetector, mode: str, image_size: tuple[int, int] = (320, 320)
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; use one of {', '.join(MODES)}")
        if mode != "float" and not model.can_evaluate:
            raise ValueError(f"{name} has no activation ranges, so it cannot be quantized ({mode})")
        self.name, self.model, self.mode = name, model, mode
        self.plan = model.quantized.plan
        self.device = device_of(model)
        # Lowering brings the weights' scales up to date, as it does for the model that ships; only then freeze.
        graph = None if mode == "float" else model.lowered(image_size)
        model.set_observing(False)
        self.steps: dict[str, Step] = {step.output: step for step in self.plan.steps}
        self.float_ops = {out: float_operator(step, step.inputs, out) for out, step in self.steps.items()}
        self._float = {out: float_kernel(op, self.device) for out, op in self.float_ops.items()}
        self._simulated: dict[str, RealKernel] = {}
        if mode != "float":
            self._simulated = {out: float_kernel(self._with_quantized_weight(op), self.device)
                               for out, op in self.float_ops.items()}  # fmt: skip
        self.kernels: LayerKernels | None = None
        if mode == "integer":
            assert graph is not None
            self.kernels = LayerKernels(graph, self.device)
            self.tensor_name = tensor_names(self.plan, graph)
            self.value_name = {tensor: value for value, tensor in self.tensor_name.items()}

    def qparams(self, value: str) -> QuantParams | None:
        """The quantization of a value; None in a float stage."""
        return None if self.mode == "float" else quant_params(self.plan.quantizers[value])

    @torch.no_grad()
    def values(self, images: Tensor) -> dict[str, Tensor]:
        """Normalized images (B, 3, H, W) -> every value."""
        images = images.to(self.device)
        if self.kernels is not None:
            found = self.kernels.executor.run_real_values(images)
            return {value: found[tensor] for value, tensor in self.tensor_name.items()}
        source = images if self.mode == "float" else self._fake_quantize(images, self.plan.input)
        values = {self.plan.input: source}
        for out, step in self.steps.items():
            if self.mode == "float":
                values[out] = self._float[out]([values[name] for name in step.inputs])
            else:
                values[out] = self.layer(out, values)[0]
        return values

    @torch.no_grad()
    def layer(self, output: str, values: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """One layer alone, in this stage's arithmetic.

        Args:
            output: the value that it makes.
            values: holds its inputs, as real values that need not be on its grid.

        Returns:
            its output, and the inputs as it saw them: rounded to their codes where it is quantized.
        """
        step = self.steps[output]
        if self.mode == "float" or output in self.model.quantized.islands:
            return self.float_layer(output, values), {name: values[name] for name in step.inputs}
        if self.kernels is not None:
            op = self.kernels.ops[self.tensor_name[output]]
            names = [self.value_name[tensor] for tensor in op.inputs]
            made, seen = self.kernels.run(op, [values[name] for name in names])
            return made, dict(zip(names, seen, strict=True))
        seen_values = {name: self._fake_quantize(values[name], name) for name in step.inputs}
        made = self._simulated[output]([seen_values[name] for name in step.inputs])
        return self._fake_quantize(made, output), seen_values

    def float_layer(self, output: str, values: Mapping[str, Tensor]) -> Tensor:
        """One layer alone in float, with this stage's weights before their quantization."""
        return self._float[output]([values[name] for name in self.steps[output].inputs])

    @torch.no_grad()
    def layer_of_rounded_weights(self, output: str, values: Mapping[str, Tensor]) -> Tensor | None:
        """One convolution in float but for its weights, which are as this stage has them; None for other operators."""
        if self.mode == "float" or self.float_ops[output].weight is None or output in self.model.quantized.islands:
            return None
        return self._simulated[output]([values[name] for name in self.steps[output].inputs])

    def weight(self, output: str) -> Tensor | None:
        """The real weights (O, I, kh, kw) that a layer multiplies with in this stage; None for other operators."""
        conv = self.steps[output].module
        if not isinstance(conv, QuantizedConv2d):
            return None
        if self.mode == "float" or output in self.model.quantized.islands:
            return conv.effective_weight().detach()
        return _quantized_weight(conv)

    def _fake_quantize(self, x: Tensor, value: str) -> Tensor:
        q = quant_params(self.plan.quantizers[value])
        return torch.fake_quantize_per_tensor_affine(x, q.scale, q.zero_point, q.lowest, q.highest)

    def _with_quantized_weight(self, op: FloatOp) -> FloatOp:
        conv = self.steps[op.output].module
        if not isinstance(conv, QuantizedConv2d):
            return op
        weight = _quantized_weight(conv).cpu().numpy()
        return FloatOp(op.name, op.function, op.input_names, op.output, op.arguments, weight, op.bias)


def _quantized_weight(conv: QuantizedConv2d) -> Tensor:
    return conv.weight_fake_quant.codes(conv.weight) * conv.channel_scale().view(-1, 1, 1, 1)
