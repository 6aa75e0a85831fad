"""What a float network becomes before quantization, and every operator without integer form by name."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.quantization.operators.pairs.sums import LimitedSum
from hatdet.quantization.operators.pointwise.requantize import Requantize
from hatdet.quantization.qat.fx_adapter import prepare, unsupported_operators
from hatdet.quantization.tracing.refusals import Problem
from hatdet.quantization.tracing.trace import trace
from hatdet.utils.errors import UserError


class One(nn.Module):
    """``function`` of a convolution's output, and of the network itself where it takes two."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.stem, self.function = nn.Conv2d(3, 4, 3, padding=1), function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.function(self, self.stem(x)),)


FORMS: dict[str, tuple[Callable[..., Tensor], list[str]]] = {
    "F.relu": (lambda net, x: F.relu(x), ["Conv2d", "ReLU"]),
    "F.relu in place": (lambda net, x: F.relu(x, inplace=True), ["Conv2d", "ReLU"]),
    "torch.relu": (lambda net, x: torch.relu(x), ["Conv2d", "ReLU"]),
    "relu_": (lambda net, x: x.relu_(), ["Conv2d", "ReLU"]),
    "F.relu6": (lambda net, x: F.relu6(x), ["Conv2d", "ReLU6"]),
    "clamp": (lambda net, x: x.clamp(0, 6), ["Conv2d", "ReLU6"]),
    "clamp_min": (lambda net, x: torch.clamp_min(x, 0), ["Conv2d", "ReLU"]),
    "F.hardtanh": (lambda net, x: F.hardtanh(x, 0.0, 6.0), ["Conv2d", "ReLU6"]),
    "F.silu": (lambda net, x: F.silu(x), ["Conv2d", "SiLU"]),
    "F.hardswish": (lambda net, x: F.hardswish(x), ["Conv2d", "Hardswish"]),
    "F.hardsigmoid": (lambda net, x: F.hardsigmoid(x), ["Conv2d", "Hardsigmoid"]),
    "sigmoid": (lambda net, x: x.sigmoid(), ["Conv2d", "Sigmoid"]),
    "F.max_pool2d": (lambda net, x: F.max_pool2d(x, 3, 2, 1), ["Conv2d", "MaxPool2d"]),
    "F.avg_pool2d": (lambda net, x: F.avg_pool2d(x, 2), ["Conv2d", "AvgPool2d"]),
    "F.avg_pool2d padded": (lambda net, x: F.avg_pool2d(x, 3, 1, 1), ["Conv2d", "ZeroPad2d", "AvgPool2d"]),
    "F.adaptive_avg_pool2d": (lambda net, x: F.adaptive_avg_pool2d(x, 1), ["Conv2d", "AdaptiveAvgPool2d"]),
    "mean": (lambda net, x: x.mean((2, 3), keepdim=True), ["Conv2d", "AdaptiveAvgPool2d"]),
    "F.interpolate": (lambda net, x: F.interpolate(x, scale_factor=2), ["Conv2d", "Upsample"]),
    "bilinear": (lambda net, x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), ["Conv2d", "Upsample"]),
    "F.pad": (lambda net, x: F.pad(x, (1, 2, 3, 4)), ["Conv2d", "ZeroPad2d"]),
    "F.pad columns": (lambda net, x: F.pad(x, [1, 2]), ["Conv2d", "ZeroPad2d"]),
    "ConstantPad2d of 0": (lambda net, x: nn.ConstantPad2d((1, 0, 2, 1), 0.0)(x), ["Conv2d", "ZeroPad2d"]),
    "add and relu": (lambda net, x: F.relu(x + x), ["Conv2d", "AddActivation"]),
    "iadd and relu": (lambda net, x: F.relu(operator.iadd(x, x)), ["Conv2d", "AddActivation"]),
    "torch.add": (lambda net, x: torch.add(x, x), ["Conv2d", "add"]),
    "add method": (lambda net, x: x.add(x), ["Conv2d", "add"]),
    "sub": (lambda net, x: x - x, ["Conv2d", "sub"]),
    "torch.sub by keyword": (lambda net, x: torch.sub(other=F.relu(x), input=x), ["Conv2d", "ReLU", "sub"]),
    "rsub": (lambda net, x: torch.rsub(F.relu(x), x), ["Conv2d", "ReLU", "sub"]),
    "subtract": (lambda net, x: x.subtract(x), ["Conv2d", "sub"]),
    "sub_ and relu6": (lambda net, x: F.relu6(x.clone().sub_(F.relu(x))), ["Conv2d", "ReLU", "SubActivation"]),
    "isub and relu": (lambda net, x: F.relu(operator.isub(x, F.relu(x))), ["Conv2d", "ReLU", "SubActivation"]),
    "maximum": (lambda net, x: torch.maximum(x, F.relu(x)), ["Conv2d", "ReLU", "maximum"]),
    "torch.max": (lambda net, x: torch.max(x, other=F.relu(x)), ["Conv2d", "ReLU", "maximum"]),
    "x.fmax": (lambda net, x: x.fmax(F.relu(x)), ["Conv2d", "ReLU", "maximum"]),
    "minimum": (lambda net, x: torch.minimum(input=x, other=F.relu(x)), ["Conv2d", "ReLU", "minimum"]),
    "x.min": (lambda net, x: x.min(F.relu(x)), ["Conv2d", "ReLU", "minimum"]),
    "torch.fmin": (lambda net, x: torch.fmin(x, F.relu(x)), ["Conv2d", "ReLU", "minimum"]),
    "mul method": (lambda net, x: x.mul(x), ["Conv2d", "mul"]),
    "cat dim -3": (lambda net, x: torch.concat((x, x), dim=-3), ["Conv2d", "cat"]),
    "cat axis": (lambda net, x: torch.cat([x, x], axis=1), ["Conv2d", "cat"]),  # type: ignore[call-overload]
    "dropout": (lambda net, x: F.dropout(x, 0.5, training=False).contiguous(), ["Conv2d"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_and_values(form: str) -> None:
    """Functions and methods become modules that compute the same."""
    function, kinds = FORMS[form]
    network = One(function).eval()
    traced, problems = trace(network)
    assert problems == []
    found = []
    for node in traced.graph.nodes:
        if node.op == "call_module":
            found.append(type(traced.get_submodule(str(node.target))).__name__)
        elif node.op.startswith("call"):
            found.append(node.target.__name__)
    assert found == kinds
    x = torch.randn(2, 3, 8, 6) * 9
    assert torch.equal(traced(x)[0], network(x)[0])


REFUSED: dict[str, tuple[Callable[..., Tensor], str]] = {
    "Softmax": (lambda net, x: net.act(x), r"^act: Softmax has no integer form; leave it to the post-processing"),
    "GLU": (lambda net, x: net.block[0](x), r"^block\.0: GLU has no integer form; halve the channels: dim=1"),
    "cumsum": (lambda net, x: torch.cumsum(x, 1), r"^cumsum: cumsum has no integer form; use convolutions"),
    "max over channels": (lambda net, x: x.max(1, keepdim=True)[0], r"^max_1: a maximum over a dimension; take it of"),
    "min of all": (lambda net, x: x - x.min(), r"^min_1: a minimum over a dimension; take it of two maps, or use Max"),
    "clamp": (lambda net, x: x.clamp(1, 1), r"^clamp: a clamp to \[1, 1\]; use a lower limit below the upper one"),
    "constant map": (lambda net, x: x + torch.arange(float(x.shape[3])), r"^add: .* of shape \(96,\) or .* depends on"),
    "constant of a side": (lambda net, x: x + torch.ones(1, 1, 1, x.shape[3]).tril(), r"^add: .*which depends on"),
    "learned map": (lambda net, x: x * nn.Parameter(torch.full((2, 1, 1, 1), 3.0)), r"^mul: .* \(2, 1, 1, 1\); use"),
    "infinite": (lambda net, x: x * float("inf"), r"^mul: a product with a constant that is not finite; use finite"),
    "alpha": (lambda net, x: torch.add(x, x, alpha=2), r"^add: an addition with alpha=2; write the factor as"),
    "rounded": (lambda net, x: torch.div(x, 2, rounding_mode="floor"), r"^div: .*rounding_mode='floor'; leave it"),
    "division": (lambda net, x: x / F.relu(x), r"^div: a division by a map; multiply by a map instead"),
    "reciprocal": (lambda net, x: 2 / x, r"^rdiv: rdiv has no integer form; multiply by a map instead"),
    "by its size": (lambda net, x: x * (1 / x.shape[2]), r"^mul: a product by 0.0.* depends on the image's size"),
    "limits": (lambda net, x: torch.maximum(x, torch.arange(4.0).view(4, 1, 1)), r"^maximum: .*tensor of limits; use"),
    "chunk": (lambda net, x: x.chunk(2, 0)[0], r"^chunk: chunk.*; take ranges of channels, rows or columns"),
    "size": (
        lambda net, x: F.interpolate(x, size=(16, 16), mode="bilinear", align_corners=True),
        r"^interpolate: .*align_corners=True; set align_corners=False",
    ),
    "bicubic": (lambda net, x: F.interpolate(x, scale_factor=2, mode="bicubic"), r"'bicubic'; use 'nearest'"),
    "corners": (lambda net, x: net.up(x), r"^up: .*align_corners=True; set align_corners=False"),
    "factor": (lambda net, x: F.interpolate(x, scale_factor=1.5), r"^interpolate: upsampling by 1.5; use one whole"),
    "bilinear 3": (lambda net, x: F.interpolate(x, scale_factor=3, mode="bilinear"), r"by 3; use a factor of 2, 4"),
    "cat 0": (lambda net, x: torch.cat([x, x]), r"^cat: a concatenation along dim=0; only channels"),
    "flatten": (lambda net, x: x.flatten(1), r"^flatten: .*; give \(B, C, H, W\) maps as outputs"),
    "reflect": (lambda net, x: F.pad(x, (1, 1), mode="reflect"), r"^pad: .*'reflect'.*; pad with zeros"),
    "reflection": (lambda net, x: nn.Sequential(net.mirror)(x), r"^mirror: ReflectionPad2d .*; pad with zeros"),
    "replication": (lambda net, x: net.edge(x), r"^edge: ReplicationPad2d has no integer form; pad with zeros"),
    "replicate": (lambda net, x: F.pad(x, (1, 1, 1, 1), "replicate"), r"^pad: .*'replicate'.*; pad with zeros"),
    "circular": (lambda net, x: F.pad(x, (1, 1, 1, 1), mode="circular"), r"^pad: .*'circular'.*; pad with zeros"),
    "constant": (lambda net, x: net.ones(x), r"^ones: padding with the value 1.0; pad with zeros"),
    "reflect conv": (lambda net, x: net.reflect(x), r"^reflect: Conv2d .*reflect.*; set padding_mode='zeros'"),
    "average": (lambda net, x: F.avg_pool2d(x, 9), r"kernel 9; at most 8"),
    "bn": (lambda net, x: net.bn(F.relu(x)), r"^bn: BatchNorm2d with track_running_stats=False, .*; leave track_"),
    "conv2d": (lambda net, x: F.conv2d(x, net.stem.weight), r"^conv2d: conv2d.*; call an nn.Conv2d module"),
}


def refused(form: str) -> One:
    modules: dict[str, nn.Module] = {
        "act": nn.Softmax(1),
        "block": nn.Sequential(nn.GLU()),
        "up": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        "reflect": nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        "mirror": nn.ReflectionPad2d(1),
        "edge": nn.ReplicationPad2d(1),
        "ones": nn.ConstantPad2d(1, 1.0),
        "bn": nn.BatchNorm2d(4, track_running_stats=False),
    }
    return One(REFUSED[form][0], **modules)


@pytest.mark.parametrize("form", REFUSED)
def test_every_refusal_names_path_and_way_out(form: str) -> None:
    problems = unsupported_operators(refused(form))
    assert len(problems) == 1, problems
    assert re.search(REFUSED[form][1], str(problems[0])), str(problems[0])
    with pytest.raises(UserError, match="the network has no integer form"):
        prepare(refused(form), "min_max", 0.01, torch.zeros(1, 3, 16, 16))


def test_all_problems_are_collected_and_the_network_stays() -> None:
    odd = nn.Softmin(1), nn.Conv2d(4, 4, 1), nn.Softmax(1), nn.GLU(2)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), *odd)
    network.train()
    before = [repr(network), network.training, list(network.state_dict())]
    problems = unsupported_operators(network)
    assert [p.path for p in problems] == ["2", "4", "5"]
    assert problems[1] == Problem(
        "4", "Softmax has no integer form", "leave it to the post-processing: give the raw maps as outputs"
    )
    assert [repr(network), network.training, list(network.state_dict())] == before
    assert unsupported_operators(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())) == []


def test_functions_are_found_under_the_module_that_calls_them() -> None:
    (problem,) = unsupported_operators(nn.Sequential(One(lambda net, x: F.softmax(x, 1))))
    assert problem.path.startswith("0 (softmax")


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced() -> None:
    (problem,) = unsupported_operators(Branching())
    assert problem.path == "Branching" and "control flow" in problem.what


def test_unfolded_batch_norm_is_not_passed_over() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    with pytest.raises(UserError, match=r"1: batch normalization that is not folded; fold it first: FuseBN"):
        prepare(network, "min_max", 0.01, torch.zeros(1, 3, 8, 8))


def test_modules_called_again_have_a_name_and_share_their_parameters() -> None:
    stem, relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
    network = nn.Sequential(stem, relu, stem, relu)
    traced, problems = trace(network.eval())
    assert problems == []
    targets = [str(n.target) for n in traced.graph.nodes if n.op == "call_module"]
    assert targets == ["0", "1", "0@1", "1@1"]
    assert traced.get_submodule("0").weight is traced.get_submodule("0@1").weight
    again = One(lambda net, x: net.conv(net.conv(x)), conv=nn.Conv2d(4, 4, 1))
    targets = [str(n.target) for n in trace(again)[0].graph.nodes if n.op == "call_module"]
    assert targets == ["stem", "conv", "conv@1"]


def test_in_place_operators_reach_later_readers() -> None:
    """After ``x.relu_()`` the name x means the result, in float and so in integers."""

    def function(net: One, x: Tensor) -> Tensor:
        y = x.relu_()
        return torch.cat([x, y], 1)

    network = One(function).eval()
    traced, _ = trace(network)
    x = torch.randn(1, 3, 4, 4)
    out = traced(x)[0]
    assert torch.equal(out, network(x)[0]) and float(out.detach().min()) == 0.0


def test_an_addition_that_something_else_reads_keeps_its_own_output() -> None:
    def function(net: One, x: Tensor) -> Tensor:
        y = x + x
        return torch.cat([y, F.relu(y)], 1)

    traced, problems = trace(One(function))
    assert problems == [] and not any(isinstance(m, LimitedSum) for m in traced.modules())


def test_requantize_only_where_sharing_is_impossible() -> None:
    def kinds(function: Callable[..., Tensor]) -> int:
        traced, problems = trace(One(function))
        assert problems == []
        return sum(isinstance(m, Requantize) for m in traced.modules())

    assert kinds(lambda net, x: torch.cat([x, F.relu(x)], 1)) == 0
    assert kinds(lambda net, x: torch.cat([x.sigmoid(), F.hardsigmoid(x)], 1)) == 0
    assert kinds(lambda net, x: torch.cat([x.sigmoid(), F.relu(x)], 1)) == 1
    assert kinds(lambda net, x: torch.cat([F.max_pool2d(x.sigmoid(), 3, 1, 1), x, x.sigmoid()], 1)) == 2
