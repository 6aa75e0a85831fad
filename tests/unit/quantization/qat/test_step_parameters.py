"""The weights of a whole network, quantized at once: the numbers are those of each convolution alone."""

from __future__ import annotations

import copy

import pytest
import torch
from quantization_toy import batch, detector

from hatdet.quantization.converters import Float2QAT, ModelConvertPipeline
from hatdet.quantization.qat.network import QuantizedNetwork
from hatdet.quantization.qat.quantized_conv import QuantizedConv2d, integer_parameters, step_parameters


def _network(arithmetic: str, **qconfig: object) -> QuantizedNetwork:
    params = {"arithmetic": arithmetic, **qconfig}
    q = ModelConvertPipeline(converters=[Float2QAT()], qconfig_params=params)(detector(0))
    q.run_network(q.preprocess(batch(1, size=2, height=32, width=32)["img"]))  # first ranges
    network = next(module for module in q.modules() if isinstance(module, QuantizedNetwork))
    with torch.no_grad():
        for number, conv in enumerate(network.convolutions()):
            conv.weight.mul_(1.0 + 0.01 * number)  # scales have to follow
            conv.weight[0] = 0.0  # the bias decides about this channel's, or the least there is
            assert conv.bias is not None
            conv.bias[0] = float(number % 2)
    return network


@pytest.mark.parametrize(
    ("arithmetic", "qconfig", "observing"),
    [
        ("tflite_ref", {}, True),
        ("xnnpack", {}, False),
        ("both", {}, True),
        ("tflite_ref", {"weight_bits": 4, "qat_scales": "observed"}, True),
        ("tflite_ref", {"weight_bits": 4, "qat_scales": "learned"}, True),
    ],
)
def test_at_once_and_one_by_one(arithmetic: str, qconfig: dict[str, object], observing: bool) -> None:
    network = _network(arithmetic, **qconfig)
    network.set_observing(observing)
    alone = copy.deepcopy(network)
    steps = [step for step in network.plan.steps if isinstance(step.module, QuantizedConv2d)]
    inputs = [float(network.plan.quantizers[step.inputs[0]].scale) for step in steps]
    made = step_parameters(network.convolutions(), inputs)
    assert len(made) > 5
    for conv, scale, found in zip(alone.convolutions(), inputs, made, strict=True):
        conv.observe_weight()
        weight, bias = integer_parameters(conv, scale)
        assert torch.equal(found.weight, weight) and torch.equal(found.bias, bias)
        assert found.bias_peak == float(bias.abs().max())
        assert torch.equal(found.weight_scale, conv.weight_fake_quant.scale)
        assert torch.equal(found.channel_scale, conv.channel_scale())
        assert torch.equal(found.bias_scale, conv.channel_scale() * scale)
        assert torch.equal(torch.from_numpy(found.integer_scale), conv.integer_scale())
    for ours, theirs in zip(network.convolutions(), alone.convolutions(), strict=True):
        assert torch.equal(ours.weight_fake_quant.scale, theirs.weight_fake_quant.scale)


def test_a_later_step_leaves_the_scales_of_a_pass_alone() -> None:
    """The backward pass uses them after another forward may have moved the quantizer's own."""
    network = _network("tflite_ref")
    conv = network.convolutions()[0]
    [made] = step_parameters([conv], [0.5])
    before = made.weight_scale.clone()
    conv.weight_fake_quant.scale.mul_(2.0)
    assert torch.equal(made.weight_scale, before)
