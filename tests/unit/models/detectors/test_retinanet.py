"""RetinaNet with VarGNetV2: the networks' sizes, both modes of the detector, and what it refuses."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, fx, nn

from hatdet.models.backbones.vargnetv2 import VargNetV2
from hatdet.models.detectors.retinanet import RetinaNet
from hatdet.models.heads.retinanet_head import RetinaNetHead
from hatdet.models.necks.retinanet_fpn import RetinaNetFPN
from hatdet.models.task_modules.encoders import OneHotClassEncoder
from hatdet.models.task_modules.multi_stride_filter import RetinanetMultiStrideFilter
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.profiling.calops import count_ops
from hatdet.quantization.fuse import fuse_bn
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import InputFormat
from tests.helpers.retinanet import STRIDES, build_retinanet
from tests.helpers.rtmdet import pad_ground_truth


@pytest.fixture
def model() -> RetinaNet:
    torch.manual_seed(0)
    return build_retinanet()


def batch_of(boxes: list[list[list[float]]], height: int = 96, width: int = 160) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = (len(boxes), 3, height, width)
    return {
        "img": torch.randint(0, 256, size, dtype=torch.uint8, generator=generator),
        "img_size": torch.tensor([[height, width]] * len(boxes)),
        "scale_factor": torch.ones(len(boxes), 2),
        **pad_ground_truth(
            [torch.tensor(b).reshape(-1, 4).float() for b in boxes], [torch.arange(len(b)) % 2 for b in boxes]
        ),
    }


# ------------------------------------------------------------------------------------------------ networks
def test_size_of_the_tutorials_network() -> None:
    detector = build_retinanet(num_classes=80, alpha=1.0, width=256, stacked_convs=4)
    report = count_ops(detector, (1, 3, 1024, 1024))
    assert report.params == 10_424_372  # 10.42 M
    assert report.macs == 150_632_726_528  # 150.6 GMACs
    macs = {row.name: row.macs for row in report.rows}
    assert [round(macs[name] / 1e9, 1) for name in ("backbone", "neck", "bbox_head")] == [7.2, 2.4, 141.0]
    assert round(count_ops(detector, (1, 3, 256, 256)).macs / 1e9, 1) == 9.4


@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
def test_backbone_maps(size: tuple[int, int]) -> None:
    backbone = VargNetV2(include_top=False, alpha=0.5).eval()
    maps = backbone(torch.zeros(2, 3, *size))
    info = backbone.feature_info
    assert info.channels == (16, 16, 32, 64, 128) and info.strides == (2, 4, 8, 16, 32)
    assert [tuple(m.shape) for m in maps] == [
        (2, c, size[0] // s, size[1] // s) for c, s in zip(info.channels, info.strides, strict=True)
    ]


def test_backbone_as_described() -> None:
    backbone = VargNetV2(include_top=False, bn_kwargs={"eps": 1e-3})
    stages = [backbone.get_submodule(f"stage{i}") for i in (1, 2, 3, 4)]
    assert [len(list(stage)) for stage in stages] == [1, 3, 7, 4]  # type: ignore[call-overload]
    firsts = [next(stage.children()) for stage in stages]
    assert [block.merge is not None for block in firsts] == [False, True, True, True]
    assert all(block.shortcut is not None for block in firsts)
    group_convs = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert {m.in_channels // m.groups for m in group_convs} == {8}
    assert firsts[0].unit1.conv1.out_channels == 32 and firsts[1].unit1.conv1.out_channels == 64
    assert all(m.bias is not None for m in backbone.modules() if isinstance(m, nn.Conv2d))
    assert {m.eps for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_classifier_on_top() -> None:
    backbone = VargNetV2(num_classes=10, alpha=0.25)
    assert backbone.eval()(torch.zeros(3, 3, 64, 64)).shape == (3, 10)
    assert {name.split(".")[0] for name in backbone.state_dict()} == {
        "stem",
        "stage1",
        "stage2",
        "stage3",
        "stage4",
        "top",
    }


def test_backbone_refuses_channels_that_make_no_groups() -> None:
    with pytest.raises(ValueError, match="not all multiples of group_base=8"):
        VargNetV2(alpha=0.3)
    with pytest.raises(ValueError, match="at least one class"):
        VargNetV2(num_classes=0)


def test_neck_adds_what_comes_from_above() -> None:
    arguments = dict(in_strides=[8, 16, 32], in_channels=[1, 1, 1], out_strides=[16, 32], out_channels=[1, 1])
    neck = RetinaNetFPN(**arguments, fix_out_channel=1)  # type: ignore[arg-type]
    for module in neck.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1.0)
    finest, middle, coarse = torch.zeros(1, 1, 16, 16), torch.full((1, 1, 4, 4), 2.0), torch.full((1, 1, 2, 2), 3.0)
    c4, c5, p6, p7 = neck((finest, middle, coarse))
    assert torch.equal(c5, coarse) and torch.equal(c4, torch.full((1, 1, 4, 4), 5.0))
    assert p6.tolist() == [[[[12.0]]]] and p7.tolist() == [[[[12.0]]]]  # four values of 3 under the kernel; then one
    assert neck.feature_info.strides == (16, 32, 64, 128)
    with torch.no_grad():
        neck.p6.bias.fill_(-20.0)
    assert neck((finest, middle, coarse))[2].item() == 0  # ReLU


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": [1, 1]}, "as many channels as strides"),
        ({"in_strides": [8, 16, 64]}, "in_strides must double"),
        ({"out_strides": [8, 16]}, "must be the last ones"),
    ],
)
def test_neck_refuses(change: dict[str, list[int]], message: str) -> None:
    arguments = dict(in_strides=[8, 16, 32], in_channels=[1, 1, 1], out_strides=[16, 32], out_channels=[1, 1])
    with pytest.raises(ValueError, match=message):
        RetinaNetFPN(**{**arguments, **change})


def test_head_is_one_for_all_levels() -> None:
    head = RetinaNetHead(num_classes=3, num_anchors=2, in_channels=4, feat_channels=8, stacked_convs=2)
    x = torch.randn(1, 4, 6, 5)
    maps = head((x, x[..., :3], x))
    assert [m.shape[1] for m in maps] == [6, 6, 6, 8, 8, 8]
    assert torch.equal(maps[0], maps[2]) and maps[1].shape[2:] == (6, 3)
    assert maps[0].sigmoid().mean().item() == pytest.approx(0.01, rel=0.01)
    assert sum(isinstance(m, nn.Conv2d) for m in head.modules()) == 6
    with pytest.raises(ValueError, match="num_classes=0"):
        RetinaNetHead(num_classes=0, num_anchors=9, in_channels=4)


def test_folding_of_batch_norms_after_convolutions_with_a_bias(model: RetinaNet) -> None:
    generator = torch.Generator().manual_seed(2)
    for module in model.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            for buffer, low, high in ((module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0)):
                assert buffer is not None
                buffer.uniform_(low, high, generator=generator)
        elif isinstance(module, nn.Conv2d):
            assert module.bias is not None
            nn.init.normal_(module.bias, std=0.3, generator=generator)
    x = torch.randn(1, 3, 64, 96, generator=generator)
    before = model.run_network(x)
    count = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert fuse_bn(model) == count
    for a, b in zip(before, model.run_network(x), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


# ------------------------------------------------------------------------------------------------ detector
def test_network_is_a_traceable_view(model: RetinaNet) -> None:
    network = model.eval().network()
    x = model.preprocess(batch_of([[]])["img"])
    maps = network(x)
    assert all(torch.equal(a, b) for a, b in zip(maps, model.run_network(x), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(maps, fx.symbolic_trace(network)(x), strict=True))
    assert set(network.state_dict()) == set(model.state_dict())
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "neck", "bbox_head"}
    assert model.output_names == tuple(f"{kind}_{s}" for kind in ("cls", "reg") for s in STRIDES)
    assert (
        [tuple(m.shape[2:]) for m in maps[:5]]
        == model.map_sizes((96, 160))
        == [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]
    )


def test_pixels_reach_the_network_as_the_integer_model_has_them(model: RetinaNet) -> None:
    x = model.preprocess(torch.tensor([0, 1, 128, 255], dtype=torch.uint8).reshape(1, 1, 2, 2).expand(1, 3, 2, 2))
    assert x[0, 0].flatten().tolist() == [-1.0, -127 / 128, 0.0, 127 / 128]


@pytest.mark.parametrize(
    "boxes", [[[[10, 10, 50, 60], [80, 20, 120, 60]], []], [[[0, 0, 40, 40]]], [[], []]], ids=["two", "one", "none"]
)
def test_losses(model: RetinaNet, boxes: list[list[list[float]]]) -> None:
    losses = model.train()(batch_of(boxes))
    assert set(losses) == {"loss_cls", "loss_bbox"}
    assert all(loss.shape == () and torch.isfinite(loss) for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert losses["loss_cls"] > 0
    assert (losses["loss_bbox"] > 0) == any(boxes)


def test_losses_by_hand() -> None:
    """One position at the coarsest level has the only anchor that fits; scores of 0.5, deltas of 1 everywhere."""
    model = build_retinanet(num_classes=1, scales=[1.0], ratios=[1.0])
    sizes = model.map_sizes((128, 128))
    maps = [torch.zeros(1, 1, *size) for size in sizes] + [torch.ones(1, 4, *size) for size in sizes]
    box = torch.tensor([[[-256.0, -256.0, 256.0, 256.0]]])  # the anchor at (0, 0) of stride 128
    losses = model.loss(maps, {"gt_boxes": box, "gt_labels": torch.tensor([[0]])})
    anchors = sum(h * w for h, w in sizes)
    half = 0.25 * 0.6931472
    assert losses["loss_cls"].item() == pytest.approx(0.25 * half + (anchors - 1) * 0.75 * half, rel=1e-5)
    assert losses["loss_bbox"].item() == pytest.approx(4 * (1 - 1 / 18), rel=1e-5)


def test_training_finds_a_box_again(model: RetinaNet) -> None:
    """A few steps on one image: the detector's own decoding gives back the box that its targets encoded."""
    torch.manual_seed(0)
    batch = batch_of([[[36, 20, 100, 84]]])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack(list(model.train()(batch).values())).sum().backward()
        optimizer.step()
    for module in model.modules():  # evaluation with the statistics of this very image
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        model.train()(batch)
    (found,) = model.eval()(batch)
    assert found["labels"][0] == 0 and found["scores"][0] > 0.3
    assert torch.allclose(found["boxes"][0], torch.tensor([36.0, 20, 100, 84]), atol=8)


def test_predictions_decode_anchors() -> None:
    model = build_retinanet(num_classes=2, scales=[1.0], ratios=[1.0])
    sizes = model.map_sizes((128, 192))
    maps = [torch.full((1, 2, *size), -9.0) for size in sizes] + [torch.zeros(1, 4, *size) for size in sizes]
    maps[1][0, 1, 2, 5] = 2.0  # stride 16, row 2, column 5: the point (80, 32), an anchor of 64 pixels
    maps[6][0, :, 2, 5] = torch.tensor([0.25, 0.0, 0.0, -0.6931472])
    batch = {"img_size": torch.tensor([[128, 192]]), "scale_factor": torch.tensor([[2.0, 1.0]])}
    (found,) = model.predict(maps, batch)
    assert found["labels"].tolist() == [1]
    assert torch.allclose(found["boxes"], torch.tensor([[(96 - 32) / 2, 16.0, (96 + 32) / 2, 48.0]]), atol=1e-4)
    assert found["scores"].item() == pytest.approx(0.880797, rel=1e-5)


def test_the_filter_drops_what_the_threshold_alone_would_keep() -> None:
    arguments = dict(num_classes=1, scales=[1.0], ratios=[1.0])
    strict = RetinanetMultiStrideFilter(strides=STRIDES, threshold=0.0)
    sizes = build_retinanet(**arguments).map_sizes((128, 128))  # type: ignore[arg-type]
    maps = [torch.full((1, 1, *size), -9.0) for size in sizes] + [torch.zeros(1, 4, *size) for size in sizes]
    maps[0][0, 0, 3, 3], maps[2][0, 0, 1, 1] = -0.5, 0.5
    assert len(build_retinanet(**arguments).predict(maps, {})[0]["scores"]) == 2  # type: ignore[arg-type]
    assert len(build_retinanet(**arguments, filter_module=None).predict(maps, {})[0]["scores"]) == 2  # type: ignore[arg-type]
    assert build_retinanet(**arguments, filter_module=strict).predict(maps, {})[0]["scores"].tolist() == pytest.approx(  # type: ignore[arg-type]
        [0.6224593]
    )


# ---------------------------------------------------------------------------------------- what it refuses
def test_sizes_that_the_strides_do_not_divide(model: RetinaNet) -> None:
    with pytest.raises(UserError, match=r"100x160 \(height x width\).* multiples of 32"):
        model(batch_of([[]], 100, 160))
    with pytest.raises(UserError, match="raise the batch size or the image size"):
        model.train()(batch_of([[]], 32, 32))
    assert len(model.eval()(batch_of([[]], 32, 32))) == 1


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"gives 3 columns: .* write num_classes=num_classes \+ 1"):
        parts = build_retinanet(num_classes=2).targets
        assert parts is not None
        parts.label_encoder.class_encoder = OneHotClassEncoder(num_classes=4)
        build_retinanet(num_classes=2, targets=parts)
    with pytest.raises(ValueError, match=r"num_anchors=9, but anchors gives 1 at a position"):
        build_retinanet(anchors=build_retinanet(scales=[1.0], ratios=[1.0]).prior_generator)
    with pytest.raises(ValueError, match=r"filter_module has the strides \(8, 16\)"):
        build_retinanet(filter_module=RetinanetMultiStrideFilter(strides=[8, 16], threshold=0.0))
    with pytest.raises(ValueError, match=r"num_classes=2, but 1 are named"):
        build_retinanet(classes=("cat",))


def test_a_neck_of_another_backbone() -> None:
    backbone = VargNetV2(include_top=False, alpha=0.5)  # the neck is made for 0.25
    with pytest.raises(ValueError, match=r"gives 5 maps with the channels \[16, 16, 32, 64, 128\] .* in_channels="):
        build_retinanet(backbone=backbone)
    info, levels = backbone.feature_info, dict(out_channels=[16] * 3, fix_out_channel=16)
    neck = RetinaNetFPN(in_strides=[1, 2, 4, 8, 16], in_channels=info.channels, out_strides=[4, 8, 16], **levels)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"strides \[2, 4, 8, 16, 32\], but neck has in_strides=\[1, 2, 4, 8, 16\]"):
        build_retinanet(backbone=backbone, neck=neck)


def test_a_deployed_detector_needs_no_targets(model: RetinaNet) -> None:
    deployed = build_retinanet(targets=None, loss_cls=None, loss_reg=None)
    assert len(deployed.eval()(batch_of([[]]))) == 1
    with pytest.raises(UserError, match="cannot be trained"):
        deployed.train()(batch_of([[], []]))
    with pytest.raises(UserError, match="gives no boxes"):
        build_retinanet(post_process=None).eval()(batch_of([[]]))


def test_a_warning_where_no_anchor_fits(model: RetinaNet, caplog: pytest.LogCaptureFixture) -> None:
    tiny = batch_of([[[10, 10, 14, 14], [50, 50, 53, 54]]])
    with caplog.at_level(logging.WARNING, logger="hatdet"):
        model.train()(tiny)
        model(tiny)
    assert [r.getMessage() for r in caplog.records if "overlap an anchor" in r.getMessage()] == [
        "none of 2 boxes (0 %) overlap an anchor by IoU 0.5: choose anchors (base_sizes, scales, ratios) of the boxes' "
        "sizes in pixels of the network's input; boxes without an anchor are learned badly or not at all"
    ]


def test_a_warning_with_the_share_that_fits(model: RetinaNet, caplog: pytest.LogCaptureFixture) -> None:
    batch = batch_of([[[10, 10, 14, 14], [50, 50, 53, 54], [48, 32, 80, 64]]])
    maps = [m.detach() for m in model.eval().run_network(model.preprocess(batch["img"]))]
    model.train()
    with caplog.at_level(logging.WARNING, logger="hatdet"):
        for _ in range(31):
            model.loss(maps, batch)
        assert not caplog.records
        model.loss(maps, batch)
        model.loss(maps, batch)
    assert [r.getMessage()[:53] for r in caplog.records] == [
        "32 of 96 boxes (33 %) overlap an anchor by IoU 0.5: ch"[:53]
    ]


def test_metadata() -> None:
    metadata = build_retinanet(classes=("cat", "dog")).metadata()
    assert metadata["mean"] == [128.0] and metadata["std"] == [128.0]
    assert metadata["input_color"] == "yuv444" and metadata["classes"] == ["cat", "dog"]
    assert metadata["filter_threshold"] == -2.944 and metadata["num_anchors"] == 9
    assert [len(level) for level in metadata["anchors"]] == [9] * 5
    rgb = build_retinanet(preprocessor=DataPreprocessor(mean=0.0, std=255.0, bgr_to_rgb=True), input_color="bgr")
    assert rgb.metadata()["input_order"] == "RGB" and rgb.metadata()["std"] == [255.0]


def test_input_format_is_what_the_data_has_to_give() -> None:
    assert build_retinanet().input_format == InputFormat("yuv444", (128.0,), (128.0,))
    # the preprocessor turns B, G, R first: its numbers are R, G, B
    turning = DataPreprocessor(mean=(1.0, 2.0, 3.0), std=255.0, bgr_to_rgb=True)
    detector = build_retinanet(preprocessor=turning, input_color="bgr")
    assert detector.input_format == InputFormat("bgr", (3.0, 2.0, 1.0), (255.0,))


@pytest.mark.parametrize("filtered", [True, False])
def test_decoding_gives_the_same_detections(filtered: bool) -> None:
    torch.manual_seed(3)
    strict = RetinanetMultiStrideFilter(strides=STRIDES, threshold=1.0) if filtered else None
    detector = build_retinanet(filter_module=strict).eval()
    nn.init.normal_(detector.bbox_head.retina_cls.weight, std=0.2)  # type: ignore[union-attr, arg-type]
    nn.init.constant_(detector.bbox_head.retina_cls.bias, -1.0)  # type: ignore[union-attr, arg-type]
    batch = batch_of([[], []], 96, 160)
    batch["scale_factor"] = torch.tensor([[0.5, 0.5], [1.0, 2.0]])
    maps = tuple(m.detach() for m in detector.run_network(detector.preprocess(batch["img"])))
    boxes, scores = torch.jit.trace(detector.decoding((96, 160)), maps)(*maps)
    assert boxes.shape == (2, (240 + 60 + 15 + 6 + 2) * 9, 4) and scores.shape == (2, boxes.shape[1], 2)
    for ours, theirs in zip(detector.predict(maps, batch), detector.predict_decoded(boxes, scores, batch), strict=True):
        assert len(ours["labels"]) > 5
        assert torch.equal(ours["labels"], theirs["labels"])
        assert torch.allclose(ours["scores"], theirs["scores"]) and torch.allclose(
            ours["boxes"], theirs["boxes"], atol=1e-3
        )
