"""A detector that another one learns of, out of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.building import Builder, Factory
from hatdet.config.parts import check_origin, read_parts, without_first_weights
from hatdet.models.teaching.correspondence import (
    adapters_between,
    check_colours,
    check_features,
    check_positions,
    class_order,
    other_teacher,
)
from hatdet.models.teaching.listening import Listener, trial_size, tried
from hatdet.models.teaching.losses import box_loss, class_loss, feature_loss
from hatdet.quantization.loading import LoadCheckpoint
from hatdet.registry import register
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.errors import UserError
from hatdet.utils.seed import preserved_rng_state

_TRAINERS = ("float_trainer", "calibration_trainer", "qat_trainer")


@register
class Teacher:
    """A trained float detector that does not train, and what a student's scores, boxes and feature maps are off its.

    It sees the student's pictures, with its own normalization. Backbone, width, activation and detector may be others,
    as long as both have maps of the same strides, as many boxes at a position, and the student's classes are among
    the teacher's (by name, in any order). Where feature maps have other numbers of channels, a 1x1 convolution a level
    brings the student's to the teacher's; it trains along and is no part of the student.

    Args:
        checkpoint: of a float training; it says itself what its detector is made of.
        model: the detector, for a checkpoint that does not say it.
        class_weight, box_weight, feature_weight: of ``loss_kd_cls``, ``loss_kd_box`` and ``loss_kd_feat``
            (:mod:`hatdet.models.teaching.losses`); 0: without it.
        temperature: above 1, unsure scores count more.

    Raises:
        UserError: the checkpoint is no float detector's, or does not say of which; a weight is below 0.
    """

    def __init__(
        self,
        *,
        checkpoint: str,
        model: Factory | None = None,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        feature_weight: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        weights = {"class_weight": class_weight, "box_weight": box_weight, "feature_weight": feature_weight}
        for name, weight in weights.items():
            if weight < 0:
                raise UserError(f"teacher: {name} is {weight}; use 0 (without that loss) or more")
        if not any(weights.values()):
            raise UserError("teacher: class_weight, box_weight and feature_weight are all 0; set one above 0")
        if temperature <= 0:
            raise UserError(f"teacher: temperature is {temperature}; it must be above 0")
        self.checkpoint, self.weights, self.temperature = checkpoint, weights, temperature
        self.detector, self.classes = teacher_of(checkpoint, model)
        self.adapters = nn.ModuleList()
        self._order: Tensor | None = None
        self._listeners: tuple[Listener, Listener] | None = None
        self._decoders: dict[tuple[int, int, bool], nn.Module] = {}

    @property
    def trained(self) -> nn.Module:
        """What trains along with the student; without parameters where nothing does."""
        return self.adapters

    def pair(self, student: nn.Module) -> None:
        """Look whether the student, before any conversion, can learn of this teacher, and make what lies between them.

        Raises:
            UserError: it cannot; with what differs and what to do.
        """
        if not callable(getattr(student, "run_network", None)):
            raise UserError(
                f"teacher: a {type(student).__name__} has no run_network, so it gives no maps to compare; leave the "
                "teacher out"
            )
        check_colours(student, self.detector, self.checkpoint)
        size = trial_size(student, self.detector)
        own, theirs = tried(student, size), tried(self.detector, size)
        if self.weights["class_weight"] or self.weights["box_weight"]:
            self._order = class_order(student, self.classes, self.checkpoint)
            advice = other_teacher(own[1], theirs[1], size)
            check_positions(student, self.detector, own[0], theirs[0], size, self.checkpoint, advice)
        if self.weights["feature_weight"]:
            check_features(own[1], theirs[1], size, self.checkpoint)
            self.adapters = adapters_between(own[1], theirs[1])

    def listen(self, student: nn.Module) -> None:
        """Begin to keep what the student's network says; :meth:`close` ends it."""
        self._listeners = Listener(student), Listener(self.detector)

    def close(self) -> None:
        """Let go of the student."""
        for listener in self._listeners or ():
            listener.close()
        self._listeners = None

    def losses(self, img: Tensor) -> dict[str, Tensor]:
        """Losses of the student's last forward, which was of these pictures.

        Args:
            img: ``batch["img"]`` as the student got it, on its device.

        Raises:
            UserError: the student's network gave no maps, or none of a neck, which ``feature_weight`` asks for.
        """
        assert self._listeners is not None, "listen() comes first"
        maps, features = self._listeners[0].taken()
        if maps is None:
            kind = type(self._listeners[0].detector).__name__
            raise UserError(f"{kind} cannot learn of a teacher: its forward does not call run_network; let it do so")
        if self.weights["feature_weight"] and features is None:
            raise UserError(
                "teacher: a quantized network has no neck whose maps could be compared; set feature_weight=0"
            )
        with torch.no_grad():
            self.detector.run_network(self.detector.preprocess(img))
        taught, shown = self._listeners[1].taken()
        assert taught is not None
        with torch.autocast(img.device.type, enabled=False):
            return self._compared(maps, taught, features or (), shown or (), (img.shape[2], img.shape[3]))

    def _compared(
        self,
        maps: Sequence[Tensor],
        taught: Sequence[Tensor],
        features: Sequence[Tensor],
        shown: Sequence[Tensor],
        size: tuple[int, int],
    ) -> dict[str, Tensor]:
        weights, found = self.weights, {}
        if self._order is not None:
            boxes, scores = self._decoded(maps, size, own=True)
            with torch.no_grad():
                aims, sure = self._decoded(taught, size, own=False)
                sure = sure[..., self._order.to(sure.device)].detach()
            if weights["class_weight"]:
                found["loss_kd_cls"] = weights["class_weight"] * class_loss(scores, sure, self.temperature)
            if weights["box_weight"]:
                found["loss_kd_box"] = weights["box_weight"] * box_loss(boxes, aims.detach(), sure.amax(dim=-1))
        if weights["feature_weight"]:
            mine = [one.float() for one in features]
            if len(self.adapters):
                mine = [adapter(one) for adapter, one in zip(self.adapters, mine, strict=True)]
            aim = [one.detach().float() for one in shown]
            found["loss_kd_feat"] = weights["feature_weight"] * feature_loss(mine, aim)
        return found

    def _decoded(self, maps: Sequence[Tensor], size: tuple[int, int], own: bool) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4) and scores (B, P, K) of raw maps, the student's or the teacher's."""
        assert self._listeners is not None
        key = (*size, own)
        if key not in self._decoders:
            detector: Any = self._listeners[0 if own else 1].detector
            self._decoders[key] = getattr(detector, "task", detector).decoding(size).to(maps[0].device)
        boxes, scores = self._decoders[key](*(one.float() for one in maps))
        return boxes, scores


def teacher_of(checkpoint: str, model: Factory | None = None) -> tuple[Any, tuple[str, ...]]:
    """The detector of a checkpoint, which neither trains nor changes, and its classes by label.

    Raises:
        UserError: there is no such file, it holds no float weights, or does not say of which detector or classes.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise UserError(f"teacher: no such checkpoint: {checkpoint}; name a file that a float training wrote")
    state = load_checkpoint(path)
    weights = state.get("state_dict")
    if not isinstance(weights, Mapping) or any("activation_post_process" in key for key in weights):
        what = "no float weights" if isinstance(weights, Mapping) else "no weights"
        raise UserError(f"teacher: {checkpoint} holds {what}; name a checkpoint of the float stage")
    known = KnownClasses.of(state, checkpoint)
    if known is None:
        raise UserError(
            f"teacher: {checkpoint} does not say its classes, which are matched by name; name a checkpoint that a "
            "float training of hatdet wrote"
        )
    with preserved_rng_state():  # first weights are drawn before the file's replace them
        detector = model() if model is not None else Builder().build(detector_of(state, checkpoint), "teacher")
    LoadCheckpoint(checkpoint_path=checkpoint)(detector)
    return detector.requires_grad_(False).eval(), known.names


def detector_of(state: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The model's dict in the config that a checkpoint carries.

    Raises:
        UserError: it carries none, or one whose parts are not of the house.
    """
    text = state.get("config")
    values = read_parts(text) if isinstance(text, str) else {}
    sections = [values[name] for name in _TRAINERS if isinstance(values.get(name), Mapping)]
    model = next((s["model"] for s in sections if isinstance(s.get("model"), Mapping)), values.get("model"))
    if not isinstance(model, Mapping):
        raise UserError(
            f"teacher: {source} does not say what its detector is made of; name a checkpoint that a float training of "
            "hatdet wrote, or give Teacher the model"
        )
    found: dict[str, Any] = without_first_weights(model)
    try:
        check_origin(found, source)
    except UserError as error:
        raise UserError(f"teacher: {str(error).rpartition(';')[0]}; give Teacher the model") from error
    return found
