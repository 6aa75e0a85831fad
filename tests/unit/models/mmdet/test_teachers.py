"""Detectors that learn of a teacher: what they are told, and where the teacher is not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hatdet.building import Builder
from hatdet.config.mmdetection.network.translate import translate_model
from hatdet.utils.errors import RegistryError, UserError

ANCHORS = {"type": "AnchorGenerator", "ratios": [1.0], "octave_base_scale": 8, "scales_per_octave": 1}
SMALL: dict[str, Any] = {
    "num_classes": 3, "in_channels": 8, "feat_channels": 8, "stacked_convs": 1,
    "norm_cfg": {"type": "GN", "num_groups": 2}, "anchor_generator": {**ANCHORS, "strides": [8, 16]},
    "loss_bbox": {"type": "GIoULoss"},
}  # fmt: skip
QUALITY = {"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0}
# Eight channels: PyTorch 2.13 without AVX-512 writes past the gradient of fewer before a 1x1 convolution of stride 2.
BACKBONE = {
    "type": "ResNet", "depth": 18, "base_channels": 8, "num_stages": 3, "strides": (1, 2, 2), "dilations": (1, 1, 1),
    "out_indices": (1, 2), "norm_eval": False,
}  # fmt: skip
NECK = {"type": "FPN", "in_channels": [16, 32], "out_channels": 8, "num_outs": 2}
ATSS = {"assigner": {"type": "ATSSAssigner", "topk": 9}, "allowed_border": -1, "pos_weight": -1, "debug": False}
PAA = {
    "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.1, "neg_iou_thr": 0.1, "min_pos_iou": 0,
                 "ignore_iof_thr": -1},
    "allowed_border": -1, "pos_weight": -1, "debug": False,
}  # fmt: skip
TEST = {"nms_pre": 10, "min_bbox_size": 0, "score_thr": 0.0, "nms": {"type": "nms", "iou_threshold": 0.6},
        "max_per_img": 5}  # fmt: skip


def detector(kind: str, head: str, train: dict[str, Any], **more: Any) -> dict[str, Any]:
    parts = {"backbone": BACKBONE, "neck": NECK, "bbox_head": {"type": head, **SMALL, "loss_cls": QUALITY}}
    return copy.deepcopy({"type": kind, **parts, "train_cfg": train, "test_cfg": TEST, **more})


GFL = detector("GFL", "GFLHead", ATSS)


def distilled(**more: Any) -> Any:
    given = {"teacher_config": {"model": GFL}, **more}
    return built(detector("KnowledgeDistillationSingleStageDetector", "LDHead", ATSS, **given))


def lad(**more: Any) -> Any:
    head = {"type": "LADHead", **SMALL, "reg_decoded_bbox": True, "topk": 9}
    teacher = {"teacher_backbone": BACKBONE, "teacher_neck": NECK, "teacher_bbox_head": head}
    return built(detector("LAD", "LADHead", PAA, **{"bbox_head": head, **teacher, **more}))


def built(cfg: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return Builder().build(translate_model({"model": copy.deepcopy(cfg)}, 3, {}).model)


def batch() -> dict[str, Tensor]:
    return {
        "img": torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
        "gt_boxes": torch.tensor([[[4.0, 4, 60, 60], [40, 8, 90, 50]], [[0, 0, 0, 0], [0, 0, 0, 0]]]),
        "gt_labels": torch.tensor([[0, 2], [-1, -1]]),
    }


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([value for name, value in losses.items() if "loss" in name]).sum()


def test_a_student_learns_the_edges_of_its_teacher() -> None:
    model = distilled().train()
    losses = model(batch())
    assert set(losses) == {"loss_cls", "loss_bbox", "loss_dfl", "loss_ld"} and losses["loss_ld"] > 0
    total(losses).backward()
    assert model.bbox_head.gfl_reg.weight.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in model.teacher_model.parameters())
    model.teacher_model.load_state_dict(model.state_dict(), strict=False)
    model.eval_teacher = False  # then both see the same maps
    again = model(batch())
    assert float(again["loss_ld"].detach()) == pytest.approx(0, abs=1e-6)


def test_a_teacher_is_no_part_of_its_student() -> None:
    model = distilled().train()
    names = list(model.state_dict())
    model(batch())
    assert list(model.state_dict()) == names and {name.split(".")[0] for name in names} == {
        "backbone", "neck", "bbox_head",
    }  # fmt: skip
    assert not any("teacher" in name for name, _ in model.named_parameters())
    assert len(list(model.network().children())) == 3
    assert len(model.eval()(batch())) == 2


def test_a_student_draws_what_it_would_draw_alone() -> None:
    model = distilled().train()
    state = torch.get_rng_state()
    model(batch())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("made", [distilled, lad])
@pytest.mark.parametrize("evaluating", [True, False])
def test_the_mode_of_a_teacher(made: Any, evaluating: bool) -> None:
    model = made(eval_teacher=evaluating).train()
    model(batch())
    assert model.teacher_model.training is not evaluating
    norm = model.teacher_model.backbone.bn1
    assert int(norm.num_batches_tracked) == (0 if evaluating else 1)
    model.eval().train()
    model(batch())
    assert norm.training is not evaluating and model.training


def test_weights_of_a_teacher(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = built(GFL).state_dict()
    weights = {name: torch.full_like(value, 0.25) for name, value in weights.items()}
    torch.save({"state_dict": weights, "meta": {}}, tmp_path / "gfl.pth")
    teacher = distilled(teacher_ckpt=str(tmp_path / "gfl.pth")).teacher_model
    assert float(teacher.bbox_head.gfl_cls.weight.detach().unique()) == 0.25
    caplog.clear()
    assert distilled(teacher_ckpt="https://a.example/never_here.pth").teacher_model is not None
    assert "model.teacher_ckpt asks for https://a.example/never_here.pth, and nothing is downloaded" in caplog.text
    with pytest.raises(UserError, match=r"no checkpoint never_here.pth: model.teacher_ckpt asks for"):
        assert distilled(teacher_ckpt="never_here.pth").teacher_model
    caplog.clear()
    assert distilled().teacher_model is not None
    assert "model.teacher_ckpt is None: the student learns of random weights" in caplog.text


def test_teachers_of_whom_nothing_can_be_learned() -> None:
    other = detector("GFL", "GFLHead", ATSS)
    other["bbox_head"]["reg_max"] = 8
    with pytest.raises(UserError, match=r"the head of GFL has reg_max=8, the student's 16; take a teacher"):
        assert distilled(teacher_config=other).teacher_model
    with pytest.raises(RegistryError, match=r"bbox_head: GFLHead learns of no teacher; use LDHead"):
        distilled(bbox_head=GFL["bbox_head"])
    with pytest.raises(RegistryError, match=r"teacher_bbox_head: GFLHead assigns nothing; use LADHead"):
        lad(teacher_bbox_head=GFL["bbox_head"])


def test_a_student_takes_the_assignment_of_its_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lad().train()
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "neck", "bbox_head"}
    assert not any("teacher" in name for name, _ in (*model.named_parameters(), *model.named_modules()))
    assert [name for name, _ in model.teacher_model.named_children()] == ["backbone", "neck", "bbox_head"]
    assert not any(p.requires_grad for p in model.teacher_model.parameters())
    assert [name for name, _ in model.network().named_children()] == ["backbone", "neck", "bbox_head"]
    monkeypatch.setattr(model.bbox_head, "get_label_assignment", lambda *_, **__: pytest.fail("assigned by itself"))
    losses = model(batch())
    assert set(losses) == {"loss_cls", "loss_bbox", "loss_iou"}
    total(losses).backward()
    assert model.bbox_head.atss_cls.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.teacher_model.parameters())
    assert len(model.eval()(batch())) == 2


def test_the_teachers_head_gets_what_the_detector_is_told() -> None:
    model = lad()
    assert model.teacher_model.bbox_head.train_cfg["pos_weight"] == -1
    assert model.teacher_model.bbox_head.test_cfg == model.bbox_head.test_cfg == TEST
