"""Windows, patches and attention, by numbers that can be counted out; backbones at odd sizes, frozen, in training."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.backbones.transformer.pvt import (
    AbsolutePositionEmbedding,
    PyramidVisionTransformer,
    PyramidVisionTransformerV2,
)
from hatdet.models.mmdet.backbones.transformer.swin import SwinTransformer
from hatdet.models.mmdet.layers.transformer.feed_forward import MixFFN
from hatdet.models.mmdet.layers.transformer.patches import PatchEmbed, PatchMerging
from hatdet.models.mmdet.layers.transformer.reduced_attention import SpatialReductionAttention
from hatdet.models.mmdet.layers.transformer.tokens import to_map, to_tokens
from hatdet.models.mmdet.layers.transformer.windows import (
    ShiftWindowMSA,
    relative_positions,
    shift_mask,
    window_partition,
    window_reverse,
)
from hatdet.profiling.calops import count_ops

SWIN: dict[str, Any] = {"embed_dims": 8, "depths": (2, 1), "num_heads": (1, 2), "strides": (4, 2),
                        "out_indices": (0, 1), "window_size": 3}  # fmt: skip
PVT: dict[str, Any] = {"embed_dims": 8, "num_layers": (1, 1, 1, 1), "num_heads": (1, 2, 3, 4)}


def _grown(net: Any) -> Any:
    """With weights that are not zero anywhere, so that every path counts."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0, 0.1)
    return net


def test_windows_row_by_row() -> None:
    x = torch.arange(16.0).view(1, 4, 4, 1)
    windows = window_partition(x, 2)[..., 0]
    assert windows.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    x = torch.randn(2, 6, 9, 5)
    assert torch.equal(window_reverse(window_partition(x, 3), 3, 6, 9), x)


def test_ways_of_standing_to_each_other() -> None:
    """In a window of 2 x 2: 3 rows apart (-1, 0, 1) times 3 columns apart; itself is 4."""
    assert relative_positions(2, 2).tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    assert relative_positions(1, 3).tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]


def test_who_sees_whom_in_a_shifted_window() -> None:
    """4 x 4 in windows of 2, rolled by 1: the last column and row came from the other border."""
    mask = shift_mask(4, 4, 2, 1)
    no = -100.0
    assert mask[0].tolist() == [[0.0] * 4] * 4
    assert mask[1].tolist() == [[0, no, 0, no], [no, 0, no, 0]] * 2
    assert mask[2].tolist() == [[0, 0, no, no]] * 2 + [[no, no, 0, 0]] * 2
    assert torch.equal(mask[3], torch.full((4, 4), no).fill_diagonal_(0))


def _plain(part: ShiftWindowMSA, x: Tensor, hw: tuple[int, int]) -> Tensor:
    """The attention of each token alone, in float64: it looks at every other one and asks whether it may."""
    size, shift, inner = part.window_size, part.shift_size, part.w_msa
    height, width = (-(-side // size) * size for side in hw)
    grid = torch.zeros(height, width, x.shape[-1], dtype=torch.float64)
    grid[: hw[0], : hw[1]] = x.view(*hw, -1)
    heads = inner.num_heads
    query, key, value = inner.qkv(grid).view(height, width, 3, heads, -1).unbind(2)

    def place(row: int, column: int) -> tuple[int, ...]:
        """Window, and whether it was rolled over the border; and where in the window."""
        at = [(row - shift) % height, (column - shift) % width]
        return at[0] // size, at[1] // size, row < shift, column < shift, at[0] % size, at[1] % size

    out = torch.zeros_like(grid)
    cells = [(r, c) for r in range(height) for c in range(width)]
    for r, c in cells[: hw[0] * width]:
        me = place(r, c)
        seen = [(other, place(*other)) for other in cells if place(*other)[:4] == me[:4]]
        table = inner.relative_position_bias_table
        bias = [table[(me[4] - it[4] + size - 1) * (2 * size - 1) + me[5] - it[5] + size - 1] for _, it in seen]
        logits = torch.stack([(query[r, c] * key[o]).sum(-1) * inner.scale + b for (o, _), b in zip(seen, bias)])
        share = logits.softmax(0)
        out[r, c] = sum(share[i][:, None] * value[o] for i, (o, _) in enumerate(seen)).flatten()  # type: ignore[union-attr]
    return inner.proj(out)[: hw[0], : hw[1]].flatten(0, 1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("hw", [(5, 4), (3, 3), (2, 7)])
def test_attention_in_windows(shift: int, hw: tuple[int, int]) -> None:
    """As each token by itself; maps that fill no whole windows, a map of one window, one that is smaller."""
    part = _grown(ShiftWindowMSA(4, 2, 3, shift)).double()
    x = torch.randn(2, hw[0] * hw[1], 4, dtype=torch.float64)
    with torch.no_grad():
        got = part(x, hw)
        for image, ours in zip(x, got, strict=True):
            torch.testing.assert_close(ours, _plain(part, image, hw), rtol=0, atol=1e-12)


def test_merged_patches_channel_by_channel() -> None:
    """A 2 x 2 map of two channels: 1 2 / 3 4 and 5 6 / 7 8; of 3 rows the last one ends in zeros."""
    part = PatchMerging(2, 8, norm_cfg=None)
    nn.init.eye_(part.reduction.weight)
    image = torch.arange(1.0, 9.0).view(1, 2, 2, 2)
    assert part(to_tokens(image), (2, 2))[0].tolist() == [[[1, 2, 3, 4, 5, 6, 7, 8]]]
    found, hw = part(to_tokens(F.pad(image, (0, 0, 0, 1), value=9)), (3, 2))
    assert hw == (2, 1) and found[0, 1].tolist() == [9, 9, 0, 0, 9, 9, 0, 0]


@pytest.mark.parametrize(
    "padding, hw, first",
    [("corner", (2, 2), 4.0), ("same", (2, 2), 4.0), (0, (1, 1), 4.0), (1, (2, 2), 1.0)],
)
def test_patches_of_a_picture_that_they_do_not_fill(padding: Any, hw: tuple[int, int], first: float) -> None:
    """3 x 3 ones in patches of 2: one row and one column of zeros behind, or those of the convolution around."""
    part = PatchEmbed(1, 1, 2, 2, padding, bias=False)
    nn.init.ones_(part.projection.weight)
    tokens, found = part(torch.ones(1, 1, 3, 3))
    assert found == hw and tokens.shape == (1, hw[0] * hw[1], 1) and tokens[0, 0].tolist() == [first]


def test_positions_are_resized() -> None:
    part = AbsolutePositionEmbedding((2, 2), 1)
    part.pos_embed.data = torch.tensor([[[1.0], [3.0], [5.0], [7.0]]])
    assert part(torch.zeros(1, 4, 1), (2, 2)).flatten().tolist() == [1, 3, 5, 7]
    assert part(torch.zeros(1, 1, 1), (1, 1)).flatten().tolist() == [4]
    assert part(torch.zeros(1, 8, 1), (2, 4)).flatten().tolist() == [1, 1.5, 2.5, 3, 5, 5.5, 6.5, 7]


def test_attention_to_a_reduced_map() -> None:
    """Equal logits: each token gets the mean of the values, here of the mean of each 2 x 2 (7 and 11, normalized)."""
    part = SpatialReductionAttention(2, 1, sr_ratio=2)
    nn.init.zeros_(part.attn.in_proj_weight)
    nn.init.eye_(part.attn.in_proj_weight[4:])
    nn.init.eye_(part.attn.out_proj.weight)
    assert part.sr is not None and part.norm is not None
    part.sr.weight.data = torch.eye(2)[:, :, None, None].expand(2, 2, 2, 2) / 4
    nn.init.zeros_(part.sr.bias)  # type: ignore[arg-type]
    image = torch.tensor([[4.0, 6, 10, 10], [8, 10, 12, 12]])
    x = to_tokens(torch.stack([image, torch.zeros(2, 4)])[None])
    out = part(x, (2, 4), torch.zeros_like(x))
    torch.testing.assert_close(out[0], torch.tensor([[1.0, -1.0]]).expand(8, 2), rtol=0, atol=1e-5)


def test_a_block_looks_at_its_neighbours_only_with_a_convolution() -> None:
    for use_conv, changed in ((False, 1), (True, 9)):
        part = _grown(MixFFN(4, 8, use_conv=use_conv)).double()
        x = torch.randn(1, 25, 4, dtype=torch.float64)
        other = x.clone()
        other[0, 12] += 1
        difference = part(x, (5, 5), x) - part(other, (5, 5), other)
        assert int((difference.abs().amax(-1) > 1e-9).sum()) == changed
        assert len(part.layers) == 5 + use_conv


@pytest.mark.parametrize("hw", [(33, 50), (64, 64), (7, 130)])
def test_swin_at_any_size(hw: tuple[int, int]) -> None:
    """Patches and merged patches are filled up: sides are divided and rounded up."""
    net = _grown(SwinTransformer(**SWIN)).eval()
    with torch.no_grad():
        maps = net(torch.randn(2, 3, *hw))
    side = [math.ceil(math.ceil(s / 4) / 1) for s in hw]
    assert [tuple(m.shape) for m in maps] == [(2, 8, *side), (2, 16, *(math.ceil(s / 2) for s in side))]


def test_pvt_at_odd_sizes() -> None:
    """What fills no patch is left out; of the second version patches reach over the border."""
    for net, sides in (
        (PyramidVisionTransformer(**PVT), [(17, 16), (8, 8), (4, 4), (2, 2)]),
        (PyramidVisionTransformerV2(**PVT), [(18, 17), (9, 9), (5, 5), (3, 3)]),
    ):
        with torch.no_grad():
            maps = net.eval()(torch.randn(1, 3, 71, 66))
        assert [tuple(m.shape[2:]) for m in maps] == sides
        assert net.feature_info.channels == (8, 16, 24, 32) and net.feature_info.strides == (4, 8, 16, 32)


def test_position_vectors_of_swin_in_pictures_of_another_size() -> None:
    net = _grown(SwinTransformer(**SWIN, use_abs_pos_embed=True, pretrain_img_size=(32, 48))).eval()
    assert net.absolute_pos_embed.shape == (1, 8 * 12, 8)
    nn.init.ones_(net.absolute_pos_embed)
    plain = SwinTransformer(**SWIN).eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    x = torch.randn(1, 3, 40, 24)
    tokens, hw = plain.patch_embed(x)
    with torch.no_grad():
        expected = plain.get_submodule("norm0")(plain.stages[0](tokens + 1, hw))
        torch.testing.assert_close(net(x)[0], to_map(expected, hw), rtol=0, atol=1e-5)


def test_only_what_is_asked_for_is_returned() -> None:
    net = SwinTransformer(**{**SWIN, "out_indices": (1,)})
    assert [name for name, _ in net.named_children() if name.startswith("norm")] == ["norm1"]
    assert [m.shape[1] for m in net(torch.randn(1, 3, 32, 32))] == [16]
    other = PyramidVisionTransformer(**PVT, out_indices=(3, 1))
    assert [m.shape[1] for m in other(torch.randn(1, 3, 64, 64))] == [16, 32] == list(other.feature_info.channels)


def test_published_sizes() -> None:
    """Swin-T has 28 288 354 parameters with the classifier of 1000 and one norm, and 4.5 G at 224 x 224; PVTv2-B0
    3 666 760, of which 257 000 in its classifier."""
    with torch.device("meta"):
        swin, pvt = SwinTransformer(), PyramidVisionTransformerV2(embed_dims=32, num_layers=(2, 2, 2, 2))
    classifier, norms = 769_000 + 2 * 768, 2 * (96 + 192 + 384 + 768)
    assert sum(p.numel() for p in swin.parameters()) == 28_288_354 - classifier + norms
    assert sum(p.numel() for p in pvt.parameters()) == 3_666_760 - 257_000
    assert round(count_ops(swin, (1, 3, 224, 224)).macs / 1e9, 1) == 4.5


@pytest.mark.parametrize("kind", [SwinTransformer, PyramidVisionTransformer, PyramidVisionTransformerV2])
def test_a_trace_is_the_network(kind: Any) -> None:
    """For --format torchscript; windows and positions are those of the picture's size."""
    net, x = _grown(kind(**(SWIN if kind is SwinTransformer else PVT))).eval(), torch.randn(1, 3, 40, 72)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(net, torch.zeros_like(x))
        assert all(map(torch.equal, traced(x), net(x)))


@pytest.mark.parametrize("stages, learns", [(-1, "all"), (0, "all but patches"), (1, "the last stage")])
def test_what_is_frozen_stays(stages: int, learns: str) -> None:
    net = SwinTransformer(**SWIN, frozen_stages=stages, use_abs_pos_embed=True, drop_rate=0.1).train()
    found = {name.partition(".")[0] + name.partition(".")[2][:1] * name.startswith("stages")
             for name, parameter in net.named_parameters() if parameter.requires_grad}  # fmt: skip
    last = {"stages1", "norm1"}
    rest = {"all": {"patch_embed", "absolute_pos_embed", "stages0", "norm0"}, "all but patches": {"stages0", "norm0"}}
    assert found == last | rest.get(learns, set())
    assert net.drop_after_pos.training is (stages < 0) and net.stages[0].training is (stages < 1)
    assert net.stages[1].training and net.get_submodule("norm0").training is (stages < 1)


def test_memory_is_saved_and_nothing_else() -> None:
    nets = [_grown(SwinTransformer(**SWIN, with_cp=saving)).train() for saving in (False, True)]
    x = torch.randn(2, 3, 20, 28)
    for net in nets:
        torch.manual_seed(1)  # stochastic depth draws once, not again in the second forward
        sum(m.square().sum() for m in net(x)).backward()
    for (name, ours), other in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert ours.grad is not None and torch.equal(ours.grad, other.grad), name


@pytest.mark.parametrize("kind", [SwinTransformer, PyramidVisionTransformer, PyramidVisionTransformerV2])
def test_drops_are_for_training(kind: Any) -> None:
    args = SWIN if kind is SwinTransformer else PVT
    x = torch.randn(4, 3, 64, 64)
    for rate in ("drop_rate", "attn_drop_rate", "drop_path_rate"):
        net = _grown(kind(**{**args, "drop_path_rate": 0.0, rate: 0.5}))
        with torch.no_grad():
            calm, still = net.eval()(x)[-1], net(x)[-1]
            assert torch.equal(calm, still) and not torch.equal(calm, net.train()(x)[-1]), rate
    net = _grown(kind(**{**args, "drop_path_rate": 0.0})).train()
    with torch.no_grad():
        torch.testing.assert_close(net(x)[-1], net.eval()(x)[-1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_first_weights() -> None:
    torch.manual_seed(0)
    net = PyramidVisionTransformerV2(embed_dims=32, num_layers=(1, 1, 1, 1), norm_cfg={"type": "LN"})
    block: Any = net.layers[0][1][0]  # type: ignore[index]
    assert float(block.ffn.layers[1].weight.std()) == pytest.approx(math.sqrt(2 / 9), rel=0.1)  # depthwise
    assert float(block.attn.attn.out_proj.weight.std()) == pytest.approx(0.02, rel=0.1)
    assert float(block.norm1.weight.mean()) == 1 and float(block.ffn.layers[0].bias.abs().max()) == 0
    swin = SwinTransformer(**SWIN, use_abs_pos_embed=True)
    inner: Any = swin.stages[0].blocks[0]  # type: ignore[union-attr, index]
    assert float(inner.attn.w_msa.qkv.weight.std()) == pytest.approx(0.02, rel=0.2)
    assert float(swin.absolute_pos_embed.std()) == pytest.approx(0.02, rel=0.1)
    assert float(inner.attn.w_msa.relative_position_bias_table.abs().max()) == 0


@pytest.mark.parametrize(
    "kind, args, said",
    [
        (SwinTransformer, {"strides": (2, 2)}, r"strides\[0\]=2 and patch_size=4: patches do not overlap"),
        (SwinTransformer, {"num_heads": (1, 2, 3)}, "give a number for each stage"),
        (SwinTransformer, {"num_heads": (3, 6)}, "3 heads cannot share 8 channels; mend num_heads or embed_dims"),
        (SwinTransformer, {"out_indices": (2,)}, r"out_indices=\[2\], but SwinTransformer has the stages 0 to 1"),
        (SwinTransformer, {"frozen_stages": 3}, "frozen_stages=3, but there are 2 stages"),
        (SwinTransformer, {"norm_cfg": {"type": "BN"}}, r"tokens are normalized one by one; write dict\(type='LN'\)"),
        (SwinTransformer, {"pretrained": "a", "init_cfg": {"type": "Pretrained", "checkpoint": "b"}}, "both given"),
        (SwinTransformer, {"pretrain_img_size": (1, 2, 3)}, "write one number, or two: rows and columns"),
        (PyramidVisionTransformer, {"num_layers": (1, 1)}, r"num_layers=\[1, 1\]: with num_stages=4 give 4 numbers"),
        (PyramidVisionTransformer, {"paddings": ("some", 0, 0, 0)}, "padding='some'; write 'corner', 'same'"),
        (PyramidVisionTransformerV2, {"out_indices": ()}, "has the stages 0 to 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_built(kind: Any, args: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**{**(SWIN if kind is SwinTransformer else PVT), **args})
