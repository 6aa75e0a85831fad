"""A detector out of a checkpoint as teacher: what corresponds, what is refused, and where gradients go."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.export.calibrate import calibrate
from hatdet.models.mmdet.heads.base import DenseHead
from hatdet.models.mmdet.heads.prediction import PredictingHead
from hatdet.models.teaching.teacher import Teacher
from hatdet.utils.errors import UserError
from tests.helpers.dense_models import MODELS
from tests.helpers.teachers import NAMES, built, checkpoint, mmdet, rtmdet


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def taught(tmp_path: Path, pictures: torch.Tensor) -> Iterator[Any]:
    """``taught(student, model, **settings)``: losses of a student's forward, of a teacher of another seed."""
    opened = []

    def losses(student: Any, model: dict[str, Any], seed: int = 1, names: Any = NAMES, **settings: Any) -> Any:
        path = checkpoint(tmp_path / "float-checkpoint-best.pth.tar", built(model, seed), model, names)
        teacher = Teacher(checkpoint=path, **settings)
        teacher.pair(student)
        teacher.listen(student)
        opened.append(teacher)
        student.run_network(student.preprocess(pictures))
        return teacher, teacher.losses(pictures)

    yield losses
    for teacher in opened:
        teacher.close()


def test_who_says_what_the_teacher_says_has_no_loss(taught: Any) -> None:
    student = built(rtmdet(), seed=1).eval()
    _, found = taught(student, rtmdet())
    assert list(found) == ["loss_kd_cls", "loss_kd_box", "loss_kd_feat"]
    assert [value.item() for value in found.values()] == pytest.approx([0, 0, 0], abs=1e-6)


def test_classes_are_matched_by_name(taught: Any) -> None:
    """The same network under (bird, cat, dog): its scores are those of another order."""
    student = built(rtmdet(), seed=1).eval()
    teacher, other = taught(student, rtmdet(), names=("bird", "cat", "dog"))
    teacher.close()
    head = student.bbox_head
    with torch.no_grad():
        for conv in head.rtm_cls:  # the student learns cat, dog, bird: cat stands second there, bird first
            conv.weight.copy_(conv.weight[[1, 2, 0]])
            conv.bias.copy_(conv.bias[[1, 2, 0]])
    _, found = taught(student, rtmdet(), names=("bird", "Cat", "dog"))
    assert other["loss_kd_cls"].item() > 1e-4, "by position they would be the same"
    assert found["loss_kd_cls"].item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_may_know_more(taught: Any) -> None:
    student = built(rtmdet(bbox_head={**rtmdet()["bbox_head"], "num_classes": 2}), names=("dog", "bird"))
    _, found = taught(student, rtmdet())
    assert found["loss_kd_cls"].isfinite()


def test_gradients_go_to_the_student_alone(taught: Any) -> None:
    student = built(rtmdet(0.0625))
    teacher, found = taught(student, rtmdet())
    before = copy.deepcopy(teacher.detector.state_dict())
    sum(found.values()).backward()
    assert all(parameter.grad is None for parameter in teacher.detector.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.detector.parameters())
    assert not teacher.detector.training
    after = teacher.detector.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items()), "running statistics too"
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is not None for parameter in teacher.trained.parameters())


def test_other_widths_get_adapters_outside_the_student(taught: Any) -> None:
    student = built(rtmdet(0.0625))
    keys = list(student.state_dict())
    teacher, _ = taught(student, rtmdet())
    assert [tuple(adapter.weight.shape) for adapter in teacher.trained] == [(32, 16, 1, 1)] * 3
    assert list(student.state_dict()) == keys
    same, _ = taught(built(rtmdet()), rtmdet())
    assert not list(same.trained.parameters())


def test_each_loss_has_a_weight(taught: Any) -> None:
    student = built(rtmdet()).eval()
    teacher, one = taught(student, rtmdet())
    teacher.close()
    _, three = taught(student, rtmdet(), class_weight=3.0, box_weight=0.0, feature_weight=0.5)
    assert list(three) == ["loss_kd_cls", "loss_kd_feat"]
    assert three["loss_kd_cls"].item() == pytest.approx(3 * one["loss_kd_cls"].item(), rel=1e-5)
    assert three["loss_kd_feat"].item() == pytest.approx(one["loss_kd_feat"].item() / 2, rel=1e-5)


@pytest.mark.parametrize("name", ["FCOS", "GFL", "ATSS", "RTMDet"])
def test_a_teacher_in_mmdetection_s_vocabulary(taught: Any, name: str) -> None:
    student = built(rtmdet())
    teacher, found = taught(student, mmdet(MODELS[name]))
    assert type(teacher.detector).__module__.startswith("hatdet.models.mmdet.")
    sum(found.values()).backward()
    assert all(value.isfinite() for value in found.values())
    assert student.bbox_head.rtm_cls[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["FCOS of strides", "RetinaNet", "YOLOX", "SSD"])
def test_a_student_in_mmdetection_s_vocabulary(taught: Any, name: str) -> None:
    """Several boxes at a position, a softmax with a background, an objectness beside the classes."""
    model = mmdet(MODELS[name])
    student = built(model, seed=0)
    _, found = taught(student, model)
    sum(found.values()).backward()
    assert all(value.isfinite() for value in found.values())
    first = next(student.backbone.parameters())
    assert first.grad is not None and first.grad.abs().sum() > 0


def test_the_student_stays_as_it_was(taught: Any, pictures: torch.Tensor) -> None:
    student = built(rtmdet())
    modes = {name: module.training for name, module in student.named_modules()}
    state, before = copy.deepcopy(student.state_dict()), torch.get_rng_state()
    path_free = built(rtmdet(), seed=0)
    torch.set_rng_state(before)
    teacher = taught(student, rtmdet())[0]
    teacher.close()
    assert {name: module.training for name, module in student.named_modules()} == modes
    assert "run_network" not in vars(student) and not student.neck._forward_hooks
    path_free.run_network(path_free.preprocess(pictures))  # the one forward of the student's own
    assert all(torch.equal(value, path_free.state_dict()[key]) for key, value in student.state_dict().items())
    assert state.keys() == student.state_dict().keys()


def refusal(student: Any, path: str, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        Teacher(checkpoint=path, **settings).pair(student)
    assert "\n" not in str(error.value)
    return str(error.value).replace(path, "FILE")


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """``file(model, names)``: a checkpoint's path."""
    return lambda model, names=NAMES, **more: checkpoint(tmp_path / "t.pth.tar", built(model), model, names, **more)


def test_other_strides_are_refused(file: Any) -> None:
    path = file(mmdet(MODELS["YOLOF"]))
    assert refusal(built(rtmdet()), path) == (
        "teacher: FILE has maps of strides (32,), the student of (8, 16, 32); take another teacher"
    )
    assert refusal(built(rtmdet()), path, class_weight=0, box_weight=0) == (
        "teacher: the neck of FILE gives maps of strides (32,), the student's of (8, 16, 32); take another teacher, or "
        "set teacher_feature_weight to 0"
    )


def test_other_boxes_at_a_position_are_refused(file: Any) -> None:
    path = file(mmdet(MODELS["RetinaNet"]))
    assert refusal(built(rtmdet()), path) == (
        "teacher: FILE has 4 boxes at a position, the student 1; take another teacher; with teacher_class_weight=0 and "
        "teacher_box_weight=0 it would be learned of its feature maps alone"
    )
    Teacher(checkpoint=path, class_weight=0, box_weight=0).pair(built(rtmdet()))


def test_maps_that_say_no_boxes_are_refused(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = mmdet(MODELS["FCOS"])
    monkeypatch.setattr(PredictingHead, "boxes_and_scores", DenseHead.boxes_and_scores)
    assert refusal(built(model), file(model)) == (
        "teacher: the maps of FCOS do not say a box at each position; set teacher_class_weight and teacher_box_weight "
        "to 0 to learn of feature maps alone"
    )


def test_what_is_no_detector_is_refused(file: Any) -> None:
    assert refusal(torch.nn.Conv2d(3, 4, 1), file(rtmdet())) == (
        "teacher: a Conv2d has no run_network, so it gives no maps to compare; leave the teacher out"
    )


def test_other_classes_are_refused(file: Any) -> None:
    path = file(rtmdet(), ("cat", "dog", "cow"))
    assert refusal(built(rtmdet()), path) == (
        "teacher: FILE knows the classes cat, dog, cow: 'bird' is not known there; take a teacher of the same classes, "
        "or set teacher_class_weight and teacher_box_weight to 0 to learn of its feature maps alone"
    )
    assert "the student does not name its own" in refusal(built(rtmdet(), names=()), path)
    Teacher(checkpoint=path, class_weight=0, box_weight=0).pair(built(rtmdet()))


def test_other_pictures_are_refused(file: Any) -> None:
    gray = rtmdet(input_color="gray", backbone={**rtmdet()["backbone"], "in_channels": 1})
    assert refusal(built(rtmdet()), file(gray)) == (
        "teacher: FILE takes gray pictures, the student bgr; train both with the same input_color"
    )


def test_what_is_no_teacher_is_refused(file: Any, tmp_path: Path) -> None:
    student, model = built(rtmdet()), rtmdet()
    assert refusal(student, str(tmp_path / "absent.pth.tar")).startswith("teacher: no such checkpoint: FILE; name")
    assert refusal(student, file(model, state_dict={"x.activation_post_process.scale": torch.ones(1)})) == (
        "teacher: FILE holds no float weights; name a checkpoint of the float stage"
    )
    assert "FILE does not say its classes" in refusal(student, file(model, metadata={}))
    silent = file(model, config="")
    assert "FILE does not say what its detector is made of" in refusal(student, silent)
    own = file(model, config="model = {'type': mine.Detector, 'of': thing()}")
    assert refusal(student, own).endswith("which cannot be read from a text; give Teacher the model")


def test_a_checkpoint_that_does_not_say_it_is_given_the_model(file: Any) -> None:
    from hatdet.building import Builder

    model = rtmdet()
    teacher: Any = Builder().build({"type": "Teacher", "checkpoint": file(model, config=""), "model": model})
    teacher.pair(built(rtmdet()))
    assert type(teacher.detector).__name__ == "RTMDet"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"box_weight": -1}, "teacher: box_weight is -1; use 0 (without that loss) or more"),
        ({"temperature": 0}, "teacher: temperature is 0; it must be above 0"),
        (
            {"class_weight": 0, "box_weight": 0, "feature_weight": 0},
            "teacher: class_weight, box_weight and feature_weight are all 0; set one above 0",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Teacher(checkpoint="any", **settings)
    assert str(error.value) == message


def test_a_forward_of_one_s_own_that_nobody_can_listen_to(file: Any, pictures: torch.Tensor) -> None:
    student = built(rtmdet())
    teacher = Teacher(checkpoint=file(rtmdet()))
    teacher.pair(student)
    teacher.listen(student)
    student.network()(student.preprocess(pictures))
    with pytest.raises(UserError, match="RTMDet cannot learn of a teacher: its forward does not call run_network"):
        teacher.losses(pictures)
    teacher.close()


@pytest.mark.slow
def test_a_quantized_student_learns_of_its_float_model(file: Any, pictures: torch.Tensor) -> None:
    """Scores and boxes of the integer arithmetic against those of the weights it began from; no maps of a neck."""
    model = rtmdet()
    path, student = file(model), built(model)
    teacher = Teacher(checkpoint=path, feature_weight=0)
    teacher.pair(student)
    quantized, _ = calibrate(student, [{"img": pictures}], 2)
    quantized.train()
    teacher.listen(quantized)
    quantized.run_network(quantized.preprocess(pictures))
    found = teacher.losses(pictures)
    assert list(found) == ["loss_kd_cls", "loss_kd_box"]
    assert 0 < found["loss_kd_cls"].item() < 0.1, "what eight bits cost"
    sum(found.values()).backward()
    gradients = [p.grad for p in quantized.parameters() if p.requires_grad and p.grad is not None]
    assert gradients and sum(float(g.abs().sum()) for g in gradients) > 0
    teacher.close()

    both = Teacher(checkpoint=path)
    both.pair(built(model))
    both.listen(quantized)
    quantized.run_network(quantized.preprocess(pictures))
    with pytest.raises(UserError, match="a quantized network has no neck whose maps could be compared; set feature_w"):
        both.losses(pictures)
    both.close()


def test_losses_are_of_full_precision(file: Any, pictures: torch.Tensor) -> None:
    student, teacher = built(rtmdet(0.0625)), Teacher(checkpoint=file(rtmdet()))
    teacher.pair(student)
    teacher.listen(student)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = student.run_network(student.preprocess(pictures))
        found = teacher.losses(pictures)
    assert maps[0].dtype == torch.bfloat16
    assert {value.dtype for value in found.values()} == {torch.float32}
    teacher.close()
