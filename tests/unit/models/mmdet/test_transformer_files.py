"""Files of Swin and PVT as their authors publish them, and of other windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.models.mmdet.backbones.transformer.original import resized_table
from hatdet.models.mmdet.backbones.transformer.pvt import PyramidVisionTransformer, PyramidVisionTransformerV2
from hatdet.models.mmdet.backbones.transformer.swin import SwinTransformer
from hatdet.models.mmdet.layers.transformer.patches import PatchMerging
from hatdet.models.mmdet.layers.transformer.tokens import to_tokens
from hatdet.quantization.loading import LoadCheckpoint

SWIN: dict[str, Any] = {"embed_dims": 8, "depths": (1, 1), "num_heads": (1, 2), "strides": (4, 2),
                        "out_indices": (0, 1), "window_size": 3, "convert_weights": True}  # fmt: skip
PVT: dict[str, Any] = {"embed_dims": 8, "num_layers": (1, 1, 1, 1), "num_heads": (1, 2, 3, 4),
                       "pretrain_img_size": 64}  # fmt: skip
OF_SWIN = {
    "patch_embed.proj.weight": "patch_embed.projection.weight",
    "patch_embed.norm.bias": "patch_embed.norm.bias",
    "layers.0.blocks.0.norm1.weight": "stages.0.blocks.0.norm1.weight",
    "layers.0.blocks.0.attn.qkv.weight": "stages.0.blocks.0.attn.w_msa.qkv.weight",
    "layers.0.blocks.0.attn.proj.bias": "stages.0.blocks.0.attn.w_msa.proj.bias",
    "layers.1.blocks.0.attn.relative_position_bias_table":
        "stages.1.blocks.0.attn.w_msa.relative_position_bias_table",
    "layers.1.blocks.0.mlp.fc1.weight": "stages.1.blocks.0.ffn.layers.0.0.weight",
    "layers.1.blocks.0.mlp.fc2.bias": "stages.1.blocks.0.ffn.layers.1.bias",
}  # fmt: skip
OF_PVT = {
    "pos_embed1": "layers.0.1.0.pos_embed",
    "patch_embed2.proj.weight": "layers.1.0.projection.weight",
    "patch_embed2.norm.weight": "layers.1.0.norm.weight",
    "block1.0.norm1.weight": "layers.0.1.1.norm1.weight",
    "block1.0.attn.sr.weight": "layers.0.1.1.attn.sr.weight",
    "block1.0.attn.norm.bias": "layers.0.1.1.attn.norm.bias",
    "block4.0.attn.proj.weight": "layers.3.1.1.attn.attn.out_proj.weight",
    "block4.0.mlp.fc1.bias": "layers.3.1.1.ffn.layers.0.bias",
    "block4.0.mlp.fc2.bias": "layers.3.1.1.ffn.layers.3.bias",
}
OF_CLASSIFIERS = {"head.weight": torch.ones(5, 16), "norm.weight": torch.ones(16)}


def _theirs(net: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    """A file of the authors in which each of these has other numbers."""
    own = net.state_dict()
    return {name: torch.randn_like(own[ours]) for name, ours in names.items()} | OF_CLASSIFIERS


class _Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, nn.Conv2d(8, 4, 1)


@pytest.mark.parametrize("under", ["model", None])
def test_names_of_swin(tmp_path: Path, under: str | None) -> None:
    net = SwinTransformer(**SWIN)
    theirs = _theirs(net, OF_SWIN)
    torch.save({under: theirs} if under else theirs, tmp_path / "swin.pth")
    model = _Detector(net)
    LoadCheckpoint(checkpoint_path=str(tmp_path / "swin.pth"), allow_miss=True, ignore_extra=True)(model)
    alone = SwinTransformer(**SWIN, init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "swin.pth")})
    for part in (model.backbone, alone):
        assert all(torch.equal(part.state_dict()[ours], theirs[name]) for name, ours in OF_SWIN.items())


def test_a_detectors_own_file_is_not_touched(tmp_path: Path) -> None:
    model = _Detector(SwinTransformer(**SWIN))
    wanted = {name: value + 1 for name, value in model.state_dict().items()}
    torch.save({"meta": {}, "state_dict": wanted}, tmp_path / "detector.pth")
    LoadCheckpoint(checkpoint_path=str(tmp_path / "detector.pth"), allow_miss=True)(model)
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


def test_names_of_pvt(tmp_path: Path) -> None:
    net = PyramidVisionTransformer(**PVT)
    theirs = _theirs(net, OF_PVT)
    width = 16
    theirs["block2.0.attn.q.weight"] = torch.randn(width, width)
    theirs["block2.0.attn.kv.weight"] = torch.randn(2 * width, width)
    theirs["block3.0.mlp.fc1.weight"] = torch.randn(96, 24)
    theirs["pos_embed4"] = torch.randn(1, 5, 32)  # of the class, and of 2 x 2 places
    torch.save(theirs, tmp_path / "pvt.pth")
    model = _Detector(PyramidVisionTransformer(**PVT, init_cfg={"checkpoint": str(tmp_path / "pvt.pth")}))
    own = model.backbone.state_dict()
    assert all(torch.equal(own[ours], theirs[name]) for name, ours in OF_PVT.items())
    both = torch.cat([theirs["block2.0.attn.q.weight"], theirs["block2.0.attn.kv.weight"]])
    assert torch.equal(own["layers.1.1.1.attn.attn.in_proj_weight"], both)
    assert torch.equal(own["layers.2.1.1.ffn.layers.0.weight"][..., 0, 0], theirs["block3.0.mlp.fc1.weight"])
    assert torch.equal(own["layers.3.1.0.pos_embed"], theirs["pos_embed4"][:, 1:])


def test_names_of_the_second_pvt() -> None:
    """Blocks are not behind positions, the last layer is behind a depthwise one, stages have norms."""
    net = PyramidVisionTransformerV2(**PVT)
    given = {"norm2.weight": torch.ones(16), "block2.0.mlp.dwconv.dwconv.weight": torch.ones(128, 1, 3, 3),
             "block2.0.mlp.fc2.bias": torch.ones(16), "block2.0.norm2.bias": torch.ones(16)}  # fmt: skip
    found = net.adapted(given)
    assert list(found) == ["layers.1.2.weight", "layers.1.1.0.ffn.layers.1.weight", "layers.1.1.0.ffn.layers.4.bias",
                           "layers.1.1.0.norm2.bias"]  # fmt: skip
    assert found.keys() <= net.state_dict().keys()
    kept = PyramidVisionTransformerV2(**PVT, convert_weights=False).adapted(given)
    assert list(kept) == list(given)


def test_merged_patches_of_swin_in_the_authors_order() -> None:
    """They join every second row and column: (0, 0), (1, 0), (0, 1), (1, 1), each with all its channels."""
    norm, reduction = torch.randn(8), torch.randn(4, 8)
    part = PatchMerging(2, 4)
    given = {"layers.0.downsample.norm.weight": norm, "layers.0.downsample.reduction.weight": reduction}
    found = SwinTransformer(**{**SWIN, "embed_dims": 2}).adapted(given)
    part.load_state_dict({key.removeprefix("stages.0.downsample."): v for key, v in found.items()}, strict=False)
    x = torch.randn(1, 2, 4, 6)
    joined = torch.cat([x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)], 1).flatten(2).transpose(1, 2)
    theirs = nn.functional.layer_norm(joined, (8,), norm) @ reduction.t()
    with torch.no_grad():
        torch.testing.assert_close(part(to_tokens(x), (4, 6))[0], theirs, rtol=0, atol=1e-5)


def test_tables_of_other_windows() -> None:
    """From windows of 2 (3 x 3 ways to stand to each other) to windows of 3 (5 x 5): the middle stays."""
    table = torch.randn(9, 2)
    wide = resized_table(table, 25)
    assert wide.shape == (25, 2)
    torch.testing.assert_close(wide[12], table[4], rtol=0, atol=1e-6)
    torch.testing.assert_close(resized_table(torch.ones(9, 2), 25), torch.ones(25, 2), rtol=0, atol=1e-6)
    name = "stages.1.blocks.0.attn.w_msa.relative_position_bias_table"
    net = SwinTransformer(**SWIN)
    found = net.adapted({f"backbone.{name}": table, "head.fc.weight": torch.ones(1)})
    assert list(found) == [name] and torch.equal(found[name], wide)
    assert net.adapted({name: torch.ones(9, 4)})[name].shape == (9, 4)  # of other heads: of no use
