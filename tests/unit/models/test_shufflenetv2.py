"""ShuffleNetV2: the published numbers, and shuffles that move nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.integer.operators.layout.channel_order import ChannelOrderOp
from hatdet.models.backbones.shufflenetv2 import ShuffleNetV2, ShuffleStage, ShuffleUnit
from hatdet.quantization.detector import quantize_detector
from hatdet.quantization.fuse import fuse_bn
from tests.helpers.spellings import Task


class Shuffled(nn.Module):
    """A stage as the paper draws it: split, convolve one half, concatenate, shuffle in two groups."""

    def __init__(self, stage: ShuffleStage) -> None:
        super().__init__()
        self.stage, self.shuffle = stage, nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (block for block in self.stage.children() if isinstance(block, ShuffleUnit))
        x = self.shuffle(torch.cat((first.branch1(x), first.branch2(x)), dim=1))
        for block in others:
            passed, taken = x.chunk(2, dim=1)
            x = self.shuffle(torch.cat((passed, block.branch2(taken)), dim=1))
        return x


@pytest.mark.parametrize(
    ("size", "torchvision", "last"), [("0.5x", 1_366_792, 1024), ("1.0x", 2_278_604, 1024), ("2.0x", 7_393_996, 2048)]
)
def test_published_numbers_of_parameters(size: Any, torchvision: int, last: int) -> None:
    """torchvision's, less its last convolution with batch norm and its classifier of 1000 classes."""
    with torch.device("meta"):
        backbone = ShuffleNetV2(model_size=size)
    top = backbone.feature_info.channels[-1] * last + 2 * last + 1000 * last + 1000
    assert sum(p.numel() for p in backbone.parameters()) == torchvision - top


def test_the_state_is_torchvision_s() -> None:
    backbone = ShuffleNetV2(model_size="0.5x")
    names = set(backbone.state_dict())
    assert {"conv1.0.weight", "conv1.1.running_mean", "stage2.0.branch1.0.weight", "stage2.0.branch1.3.bias"} <= names
    assert {"stage3.7.branch2.0.weight", "stage4.3.branch2.6.num_batches_tracked"} <= names
    assert all(name.split(".")[0] in ("conv1", "stage2", "stage3", "stage4") for name in names)
    assert not any("order" in name or "place" in name for name in names)
    maps = backbone.eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(48, 8, 12), (96, 4, 6), (192, 2, 3)]
    assert backbone.feature_info.strides == (8, 16, 32)


@pytest.mark.parametrize(("half", "blocks"), [(58, 4), (29, 8), (5, 3), (8, 1)])
def test_every_channel_goes_where_the_shuffles_send_it(half: int, blocks: int) -> None:
    torch.manual_seed(0)
    stage = ShuffleStage(6, 2 * half, blocks, "ReLU6").eval()
    x = torch.randn(2, 6, 8, 6)
    assert torch.equal(stage(x), Shuffled(stage)(x))
    stage.train()
    ours, theirs = stage(x), Shuffled(stage)(x)
    assert torch.equal(ours, theirs)


def test_no_order_of_channels_is_left_among_the_integers() -> None:
    """What a shuffle would be on a device: a 1x1 convolution with as many weights as a real one."""
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), ShuffleStage(6, 16, 4, "ReLU6"), nn.Conv2d(16, 4, 1)).eval()

    def orders(network: nn.Module) -> int:
        model = Task(network, 1).eval()
        fuse_bn(model)
        q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer").eval()
        q.set_observing(True)
        q.run_network(torch.randn(1, 3, 16, 32))
        q.set_quantizing(True)
        q.set_observing(False)
        return sum(isinstance(op, ChannelOrderOp) for op in q.int_graph((16, 32)).ops)

    class First(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (self.network(x),)

    assert orders(First(stage)) == 0
    shuffled = nn.Sequential(stage[0], Shuffled(stage[1]), stage[2])  # type: ignore[arg-type]
    assert orders(First(shuffled.eval())) == 3


@pytest.mark.parametrize(
    "wrong", [{"out_indices": (3,)}, {"out_indices": ()}, {"frozen_stages": 4}, {"model_size": "3x"}]
)
def test_what_does_not_exist_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ShuffleNetV2 has the stages 0 to 2|write one of 0.5x, 1.0x, 1.5x, 2.0x"):
        ShuffleNetV2(**wrong)


def test_frozen_stages_keep_weights_and_statistics() -> None:
    backbone = ShuffleNetV2(model_size="0.5x", frozen_stages=1).train()
    learned = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert learned == {"stage3", "stage4"}
    before = backbone.stage2[0].branch2[1].running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64))
    assert torch.equal(backbone.stage2[0].branch2[1].running_mean, before)
