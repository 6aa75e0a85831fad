"""From a float dense detector to its files: the same codes in every runtime, the same boxes from every decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hatdet.export.evaluate import TFLiteDetector
from hatdet.export.metadata import build_metadata
from hatdet.export.onnx.evaluate import OnnxDetector
from hatdet.export.onnx.exact import write_exact
from hatdet.export.runtimes.integer import LiteRTRuntime, to_nchw, to_nhwc
from hatdet.export.targets.check import check_model
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8
from hatdet.quantization.converters import Float2Calibration, FuseBN, QAT2Int
from hatdet.quantization.detector import QuantizedDetector
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.quantization.tracing.two_sizes import recorded_graph
from hatdet.utils.errors import UserError
from tests.helpers.compare import exact_onnx_tensors
from tests.helpers.decoders import assert_same
from tests.helpers.dense_models import of
from tests.helpers.dense_roads import REFUSED, ROADS, SIZES, TRANSFORMERS, build, pyramid
from tests.helpers.tabled import Decoders


def batch(size: tuple[int, int]) -> dict[str, Any]:
    """Two pictures with three boxes."""
    generator = torch.Generator().manual_seed(1)
    return {
        "img": torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=generator),
        "gt_boxes": torch.tensor(
            [[[8.0, 8.0, 40.0, 36.0], [30.0, 20.0, 80.0, 60.0]], [[50.0, 10.0, 70.0, 30.0], [0.0] * 4]]
        ),
        "gt_labels": torch.tensor([[0, 2], [1, -1]]),
        "img_id": torch.arange(2),
        "img_size": torch.tensor([size] * 2),
        "orig_size": torch.tensor([size] * 2),
        "scale_factor": torch.ones(2, 2),
    }


def check_step(model: nn.Module, data: dict[str, Any]) -> None:
    """A training step: losses are finite, and every parameter that the network reads learns."""
    losses = model.train()(data)
    assert all(bool(torch.isfinite(loss)) for loss in losses.values()), losses
    sum(loss for name, loss in losses.items() if "loss" in name).backward()


def check_gradients(detector: Any) -> None:
    """Of the float detector, parameters without a gradient belong to layers that nothing reads."""
    network = detector.network()
    read = {str(node.target) for node in recorded_graph(network).nodes if node.op == "call_module"}
    named = dict(detector.named_parameters())
    assert all(bool(torch.isfinite(p.grad).all()) for p in named.values() if p.grad is not None)
    missed = {name.rpartition(".")[0] for name, p in named.items() if p.requires_grad and p.grad is None}
    assert all(name.startswith("backbone.") for name in missed) and not missed & read


def integers(name: str, data: dict[str, Any]) -> IntegerDetector:
    """Training in float, calibration, training in integers, the integer model."""
    model, size = build(name), SIZES.get(name, (64, 96))
    check_step(model, data)
    check_gradients(model)
    model.zero_grad(set_to_none=True)
    q = Float2Calibration()(FuseBN()(model.eval()))
    assert isinstance(q, QuantizedDetector)
    q.eval()
    with torch.no_grad():
        q(data)
    q.set_quantizing(True)
    check_step(q, data)
    learned = [p.grad for p in q.parameters() if p.grad is not None]
    assert len(learned) > 10 and all(bool(torch.isfinite(g).all()) for g in learned)
    q.set_observing(False)
    with torch.no_grad():
        simulated = q.eval().run_network(q.preprocess(data["img"]))
    integer = QAT2Int(image_size=size)(q)
    assert isinstance(integer, IntegerDetector)
    assert all(map(torch.equal, simulated, integer.run_network(integer.preprocess(data["img"]))))
    return integer


def input_codes(integer: IntegerDetector, images: Tensor) -> Tensor:
    p = integer.graph.qparams(integer.graph.inputs[0])
    return (torch.round(integer.preprocess(images) / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROADS)
def test_the_whole_road(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    size = SIZES.get(name, (64, 96))
    data = batch(size)
    integer = integers(name, data)
    graph, task = integer.graph, integer.task
    codes = input_codes(integer, data["img"])
    expected = [value.numpy() for value in integer.executor(codes)]
    assert all(len(np.unique(value)) > 3 for value in expected), "a map says nothing"
    model = int8.write(graph)
    in_onnx = exact_onnx_tensors(graph, codes.numpy())
    maps = [to_nchw(value).numpy() for value in LiteRTRuntime(model).run(to_nhwc(codes))]
    for output, ours, theirs in zip(graph.outputs, expected, maps, strict=True):
        assert np.array_equal(ours, theirs), f"LiteRT: {int((ours != theirs).sum())} of {ours.size} of {output}"
        assert np.array_equal(ours, in_onnx[output]), f"exact ONNX: {output} differs"
    found = integer.eval()(data)
    for other in (TFLiteDetector(detector=task, model=model), OnnxDetector(detector=task, model=write_exact(graph))):
        for ours, theirs in zip(found, other(data), strict=True):
            assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    metadata = build_metadata(graph, task.metadata())
    metadata["decoding"] = task.decoder_tables(metadata["outputs"])
    decoders = Decoders(tmp_path, metadata)
    for i, ours in enumerate(found):
        boxes = tuple(ours[key].numpy() for key in ("boxes", "scores", "labels"))
        nhwc = [np.ascontiguousarray(value[i : i + 1].transpose(0, 2, 3, 1)) for value in expected]
        assert_same(decoders.numpy(nhwc, size), boxes)
        assert_same(decoders.c([(nhwc, size)])[0], boxes)


ORDINARY = "use an ordinary convolution: leave dcn out, or set dcn_on_last_conv=False, use_dcn=False or num_dcn=0"
GRID = "DeformConv2d has no integer form; take a part that reads its map where it stands: ATSSHead or FCOSHead"
PLUGIN = 'ContextBlock has no integer form; leave the plugin out, or use cfg=dict(type="SELayer", ratio=16)'
SAID = {
    "DDOD as it is": ("bbox_head.cls_convs.0.conv", f"DeformConv2dPack has no integer form; {ORDINARY}"),
    "NASFCOS": ("bbox_head.cls_convs.0.conv", f"ModulatedDeformConv2dPack has no integer form; {ORDINARY}"),
    "GuidedAnchors": ("bbox_head.feature_adaption_cls.conv_adaption", GRID),
    "RepPoints": ("bbox_head.reppoints_cls_conv", GRID),
    "VFNet": ("bbox_head.vfnet_reg_refine_dconv", GRID),
    "CornerNet": ("bbox_head.tl_pool.0.direction1_pool", "CornerPool has no integer form; take a head whose boxes"),
    "FCOS with group norms": ("bbox_head.cls_convs.0.gn", 'GroupNorm has no integer form; use BatchNorm2d directly '
                              'after a convolution (norm_cfg=dict(type="BN"))'),
    "FCOS with a deformable layer": ("bbox_head.cls_convs.0.conv", "ModulatedDeformConv2dPack has no integer form"),
    "SSD with L2Norm": ("neck.l2_norm", "L2Norm has no integer form; leave it out (neck.l2_norm_scale=None)"),
    "CenterNet with deformable layers": ("neck.deconv_layers.0.conv", "ModulatedDeformConv2dPack has no integer form"),
    "CARAFE": ("neck.upsample_modules.1", "CARAFEPack has no integer form; use upsample_cfg=dict"),
    "ResNeSt": ("backbone.layer1.0.conv2", "SplitAttentionConv2d has no integer form; set radix=1"),
    "a block of global context": ("backbone.layer2.0.context_block", PLUGIN),
    **{
        kind: ("backbone", f"{kind} has no integer form; take a backbone of convolutions with the same out_indices,")
        for kind in TRANSFORMERS
    },
    "DyHead": ("neck.1.dyhead_blocks.0.spatial_conv_mid.conv", "ModulatedDeformConv2d has no integer form"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_integers(name: str) -> None:
    """Each module once, by its path, with what to write instead; before training and at calibration."""
    model = build(name).eval()
    report = check_model(model, get_target("tflite"), (64, 64))
    paths = [finding.path for finding in report.refused]
    assert len(set(paths)) == len(paths), paths
    path, said = SAID[name]
    assert paths[0] == path and report.refused[0].message.startswith(said), report.refused[0].message
    with pytest.raises(UserError, match=f"the network has no integer form:\n +{path}: "):
        Float2Calibration()(FuseBN()(model))


@pytest.mark.slow
def test_what_takes_the_place_of_a_transformer() -> None:
    """As the refusal says it."""
    neck = pyramid("FPN", [512, 1024, 2048])
    backbone = {"type": "ResNet", "depth": 50, "out_indices": REFUSED["SwinTransformer"]["backbone"]["out_indices"]}
    model = of({**REFUSED["SwinTransformer"], "backbone": backbone, "neck": neck})
    assert check_model(model, get_target("tflite"), (64, 64)).refused == []
