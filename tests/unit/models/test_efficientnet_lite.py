"""EfficientNet-Lite: the release's names and numbers of parameters, and its arithmetic written out by name."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.models.backbones.efficientnet_lite import EfficientNetLite


@pytest.mark.parametrize(
    ("version", "published", "blocks"),
    [(0, 4_652_008, 16), (1, 5_416_680, 21), (2, 6_092_072, 21), (3, 8_197_096, 24), (4, 13_006_568, 30)],
)
def test_it_has_the_published_number_of_parameters(version: int, published: int, blocks: int) -> None:
    """Published with the head: a 1x1 convolution to 1280 with batch norm, a classifier of 1280 x 1000 + 1000."""
    backbone = EfficientNetLite(version=version)
    head = backbone.feature_info.channels[-1] * 1280 + 2 * 1280 + 1281 * 1000
    assert sum(p.numel() for p in backbone.parameters()) + head == published
    assert len(backbone._blocks) == blocks


def _norm(s: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (s[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias, eps=1e-3)


def _block(s: dict[str, Tensor], i: int, x: Tensor) -> Tensor:
    name, y = f"_blocks.{i}.", x
    if name + "_expand_conv.weight" in s:
        y = F.relu6(_norm(s, name + "_bn0", F.conv2d(y, s[name + "_expand_conv.weight"])))
    kernel = s[name + "_depthwise_conv.weight"]
    stride = {1: 2, 3: 2, 5: 2, 11: 2}.get(i, 1)
    y = F.conv2d(y, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=len(kernel))
    y = F.relu6(_norm(s, name + "_bn1", y))
    y = _norm(s, name + "_bn2", F.conv2d(y, s[name + "_project_conv.weight"]))
    return x + y if y.shape == x.shape else y


def _randomized(**arguments: object) -> EfficientNetLite:
    torch.manual_seed(0)
    backbone = EfficientNetLite(**arguments)  # type: ignore[arg-type]
    for name, tensor in backbone.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.uniform_(-0.5, 0.5)
        elif name.endswith("running_var") or tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
    return backbone


def test_lite0_computes_what_its_names_say() -> None:
    backbone = _randomized().eval()
    s = backbone.state_dict()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = backbone(x)
        y = F.relu6(_norm(s, "_bn0", F.conv2d(x, s["_conv_stem.weight"], stride=2, padding=1)))
        expected = {}
        for i in range(16):
            expected[i] = y = _block(s, i, y)
    assert [tuple(m.shape) for m in maps] == [(1, 40, 8, 12), (1, 112, 4, 6), (1, 320, 2, 3)]
    for map_, last in zip(maps, (4, 10, 15), strict=True):
        torch.testing.assert_close(map_, expected[last], rtol=1e-4, atol=1e-4)


def test_norms_with_fixed_statistics_are_folded_in_training_and_every_gradient_stays() -> None:
    folded, plain = _randomized(norm_eval=True, out_indices=(2,)).train(), _randomized(out_indices=(2,)).eval()
    x = torch.randn(2, 3, 32, 32)
    ours, theirs = folded(x)[0], plain(x)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    ours.square().mean().backward()
    theirs.square().mean().backward()
    for (name, a), b in zip(folded.named_parameters(), plain.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3 * float(b.grad.abs().max()), msg=name)
    assert not folded.eval()._folded and not folded._blocks[0].folded  # what is traced and exported has its norms


def test_frozen_stages_cost_no_backward() -> None:
    backbone = EfficientNetLite(frozen_stages=2, out_indices=(1, 2)).train()
    frozen, trained = backbone(torch.zeros(1, 3, 32, 32))
    assert not frozen.requires_grad and trained.requires_grad  # no graph below the last frozen stage
    still = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    names = tuple(name + "." for stage in backbone.stages[:3] for name in stage)
    assert still == {name for name, _ in backbone.named_parameters() if name.startswith(names)}
    assert not backbone._bn0.training and not backbone._blocks[2]._bn1.training and backbone._blocks[3]._bn1.training


def test_in_mixed_precision_a_cpu_runs_it_in_float32() -> None:
    backbone = EfficientNetLite(out_indices=(0,)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert backbone(torch.zeros(1, 3, 32, 32, dtype=torch.bfloat16))[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": 5}, "has the versions 0 to 4, got 5"),
        ({"out_indices": (2, 7)}, r"has the stages 0 to 6, got out_indices=\[2, 7\]"),
        ({"frozen_stages": 8}, "frozen_stages=8"),
    ],
)
def test_it_refuses_what_does_not_exist(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EfficientNetLite(**arguments)  # type: ignore[arg-type]
