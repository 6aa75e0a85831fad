"""The whole detector: what it takes and returns, in both modes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hatdet.models.detectors.base import Detector
from hatdet.models.detectors.rtmdet import RTMDet
from hatdet.models.heads.rtmdet_head import RTMDetSepBNHead
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from hatdet.utils.errors import UserError
from tests.helpers.rtmdet import build_rtmdet, pad_ground_truth


@pytest.fixture
def model() -> RTMDet:
    torch.manual_seed(0)
    detector = build_rtmdet(num_classes=3, deepen_factor=0.1, widen_factor=0.125)
    for level in detector.bbox_head.rtm_reg:  # a fresh head predicts points: give its boxes an area
        torch.nn.init.constant_(level.bias, 1.5)
    return detector


def batch_of(counts: list[int], height: int = 64, width: int = 96) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    corners = [torch.rand(n, 2, generator=generator) * 30 for n in counts]
    boxes = [torch.cat((c, c + 10 + torch.rand(len(c), 2, generator=generator) * 24), dim=1) for c in corners]
    size = (len(counts), 3, height, width)
    return {
        "img": torch.randint(0, 256, size, dtype=torch.uint8, generator=generator),
        "img_size": torch.tensor([[height, width]] * len(counts)),
        "scale_factor": torch.ones(len(counts), 2),
        **pad_ground_truth(boxes, [torch.randint(0, 3, (n,), generator=generator) for n in counts]),
    }


@pytest.mark.parametrize("counts", [[2, 0, 5], [3], [0, 0]])
def test_losses(model: RTMDet, counts: list[int]) -> None:
    losses = model.train()(batch_of(counts))
    assert set(losses) == {"loss_cls", "loss_bbox"}
    assert all(loss.shape == () and loss.dtype == torch.float32 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert losses["loss_cls"] > 0
    assert (losses["loss_bbox"] > 0) == (sum(counts) > 0)


def test_losses_of_a_batch_are_those_of_its_images(model: RTMDet) -> None:
    """With batch norm fixed, only the common factor (the sum of the soft targets) ties the images."""
    batch = batch_of([4, 1, 6])
    model.eval()
    maps = [m.detach() for m in model.run_network(model.preprocess(batch["img"]))]
    factors, sums = [], {"loss_cls": 0.0, "loss_bbox": 0.0}
    for i in range(3):
        alone = [m[i : i + 1] for m in maps]
        truth = {key: batch[key][i : i + 1] for key in ("gt_boxes", "gt_labels")}
        priors, (cls_logits, regs) = model.flatten(alone)
        metrics = model.assigner(model.coder.decode(priors, regs), cls_logits, priors, **truth).metrics
        factors.append(metrics.sum().item())
        for key, loss in model.loss(alone, truth).items():
            sums[key] += loss.item() * max(factors[-1], 1.0)
    assert sum(factors) > 1.5
    for key, loss in model.loss(maps, batch).items():
        assert loss.item() == pytest.approx(sums[key] / max(sum(factors), 1.0), rel=1e-5)


def test_predictions(model: RTMDet) -> None:
    batch = batch_of([1, 0])
    found = model.eval()(batch)
    assert len(found) == 2
    for image in found:
        count = len(image["scores"])
        assert 0 < count <= 300
        assert image["boxes"].shape == (count, 4) and image["labels"].shape == (count,)
        assert (image["scores"].diff() <= 0).all()
        assert (image["boxes"] >= 0).all() and (image["boxes"][:, 2] <= 96).all() and (image["boxes"][:, 3] <= 64).all()
    batch["scale_factor"] = torch.tensor([[2.0, 0.5], [1.0, 1.0]])
    scaled = model(batch)
    assert torch.equal(scaled[1]["boxes"], found[1]["boxes"])
    assert scaled[0]["boxes"][:, 0::2].max() <= 48 and scaled[0]["boxes"][:, 1::2].max() > 64


def test_raw_outputs_times_stride_are_pixels() -> None:
    for exp_on_reg, raw in ((False, 2.0), (True, 0.6931472)):
        model = build_rtmdet(
            num_classes=1, widen_factor=0.125, exp_on_reg=exp_on_reg, post_process=RTMDetPostProcess(score_thr=0.5)
        )
        maps = [torch.full((1, 1, n, n), -9.0) for n in (4, 2, 1)] + [torch.full((1, 4, n, n), raw) for n in (4, 2, 1)]
        maps[1][0, 0, 1, 0] = 2.0  # stride 16, row 1, column 0: the point (0, 16)
        (found,) = model.predict(maps, {})
        assert torch.allclose(found["boxes"], torch.tensor([[-32.0, -16.0, 32.0, 48.0]]), atol=1e-4)


def test_network_is_a_view(model: RTMDet) -> None:
    network = model.eval().network()
    x = model.preprocess(batch_of([0])["img"])
    assert all(torch.equal(a, b) for a, b in zip(network(x), model.run_network(x), strict=True))
    assert set(network.state_dict()) == set(model.state_dict())
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "neck", "bbox_head"}
    assert len(network(x)) == len(model.output_names) == 6


@pytest.mark.parametrize("exp_on_reg", [False, True])
def test_initial_distance_gives_untrained_boxes_an_area(exp_on_reg: bool) -> None:
    head = RTMDetSepBNHead(
        num_classes=2, in_channels=8, feat_channels=8, exp_on_reg=exp_on_reg, initial_distance=2.0
    ).eval()
    with torch.no_grad():
        maps = head([torch.zeros(1, 8, size, size) for size in (8, 4, 2)])
    distances = [m.exp() if exp_on_reg else m for m in maps[3:]]
    for distance in distances:
        torch.testing.assert_close(distance, torch.full_like(distance, 2.0))
    with pytest.raises(ValueError, match="initial_distance must be above 0, got -1"):
        RTMDetSepBNHead(num_classes=2, in_channels=8, initial_distance=-1)


def test_half_precision_maps_are_compared_in_float32(model: RTMDet) -> None:
    batch = batch_of([2])
    maps = [m.detach().to(torch.bfloat16) for m in model.eval().run_network(model.preprocess(batch["img"]))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model.loss(maps, batch)
    full = model.loss([m.float() for m in maps], batch)
    assert all(low[key].dtype == torch.float32 and torch.equal(low[key], full[key]) for key in full)


def test_head_and_backbone_have_the_same_levels() -> None:
    parts = build_rtmdet(widen_factor=0.125)
    parts.bbox_head.strides = (8, 16)  # type: ignore[assignment]
    names = ("backbone", "neck", "bbox_head", "preprocessor", "assigner", "loss_cls", "loss_bbox", "post_process")
    with pytest.raises(ValueError, match=r"has the strides \(8, 16\), but the backbone's maps .* \(8, 16, 32\)"):
        RTMDet(**{name: getattr(parts, name) for name in names})


def test_one_position_is_too_little_for_batch_normalization(model: RTMDet) -> None:
    with pytest.raises(UserError, match="raise the batch size or the image size"):
        model.train()(batch_of([1], 32, 32))
    assert len(model.eval()(batch_of([1], 32, 32))) == 1
    assert set(model.train()(batch_of([1, 1], 32, 32))) == {"loss_cls", "loss_bbox"}


def test_metadata_and_classes(model: RTMDet) -> None:
    named = build_rtmdet(num_classes=2, widen_factor=0.125, classes=("cat", "dog"))
    metadata = named.metadata()
    assert metadata["classes"] == ["cat", "dog"] and metadata["strides"] == [8, 16, 32]
    assert metadata["mean"] == [0.0] and metadata["std"] == [255.0] and metadata["input_order"] == "BGR"
    assert metadata["output_names"] == ["cls_8", "cls_16", "cls_32", "reg_8", "reg_16", "reg_32"]
    assert metadata["post_process"]["iou_threshold"] == 0.65 and metadata["prior_offset"] == 0.0
    with pytest.raises(ValueError, match=r"num_classes=2, but 1 are named: \['cat'\]"):
        build_rtmdet(num_classes=2, widen_factor=0.125, classes=("cat",))


@pytest.mark.parametrize("exp_on_reg", [False, True])
@torch.no_grad()
def test_decoding_gives_the_same_detections(exp_on_reg: bool) -> None:
    torch.manual_seed(0)
    detector = build_rtmdet(num_classes=3, deepen_factor=0.1, widen_factor=0.125, exp_on_reg=exp_on_reg).eval()
    for level in detector.bbox_head.rtm_reg:
        torch.nn.init.constant_(level.bias, 0.5)
    batch = batch_of([1, 1])
    maps = detector.run_network(detector.preprocess(batch["img"]))
    boxes, scores = torch.jit.trace(detector.decoding((64, 96)), maps)(*maps)
    assert boxes.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 4) and scores.shape == (2, 126, 3)
    assert float(scores.min()) > 0 and float(scores.max()) < 1
    found, expected = detector.predict_decoded(boxes, scores, batch), detector.predict(maps, batch)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours["boxes"]) > 50
        assert all(torch.equal(ours[key], theirs[key]) for key in ("boxes", "scores", "labels"))


def test_a_detector_without_decoding_says_so() -> None:
    with pytest.raises(UserError, match="RTMDet has no in-graph decoding; export its raw maps"):
        Detector.decoding(build_rtmdet(deepen_factor=0.1, widen_factor=0.125), (64, 64))
