"""A backbone with its classification top: what pretraining trains, and what is deployed where a class is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.fitting import COMPLETED, check_input_channels, complete_part
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.registry import register
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import InputFormat, input_order


class ClassifierNetwork(nn.Module):
    """The backbone as a network: image -> (logits,)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.backbone(x),)


@register
class ImageClassifier(nn.Module):
    """Cross entropy over whole images; parameters are ``backbone.*``, so a detector loads its checkpoint as it is
    (``LoadCheckpoint(allow_miss=True, ignore_extra=True)``).

    Training mode: ``model(batch)`` is ``{"loss_cls": ...}``. Evaluation mode: a list with one dict an image, as of a
    detector that finds the whole picture: ``scores`` float32 (K,) and ``labels`` int64 (K,), best first, and ``boxes``
    (K, 4), the picture each. The class of an image is that of its first box
    (tools/image_folder_packer.py). It has what stages and exports need of a detector (docs/contracts.md, section 4);
    its one map are the logits, (B, K) or (B, K, 1, 1).

    Args:
        backbone: (B, C, H, W) -> logits (B, K); e.g. ``VargNetV2(include_top=True)``.
        preprocessor: uint8 images -> input of the backbone.
        label_smoothing: arXiv 1512.00567, section 7.
        topk: how many classes of an image are returned.
        input_color: what the channels of ``batch["img"]`` are (``ToTensor``); None: it does not say, and is not
            compared with the data.
    """

    output_names = ("logits",)
    completed: ClassVar[Mapping[str, tuple[str, ...]]] = {"backbone": COMPLETED["backbone"]}
    complete_part = staticmethod(complete_part)

    def __init__(
        self,
        *,
        backbone: nn.Module,
        preprocessor: DataPreprocessor,
        label_smoothing: float = 0.0,
        topk: int = 5,
        input_color: Literal["yuv444", "bgr", "rgb", "gray"] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1 or topk < 1:
            raise ValueError(
                f"label_smoothing is in [0, 1) and topk at least 1, got {label_smoothing} and {topk}"
            )
        if input_color is not None:
            check_input_channels(backbone, input_color, preprocessor)
        self.input_color = input_color
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.label_smoothing, self.topk = label_smoothing, topk

    @property
    def input_format(self) -> InputFormat | None:
        """The images that it takes; None where it does not say."""
        if self.input_color is None:
            return None
        return InputFormat(self.input_color, tuple(self.preprocessor.mean), tuple(self.preprocessor.std))

    def forward(self, batch: Mapping[str, Any]) -> Any:
        maps = self.run_network(self.preprocess(batch["img"]))
        return self.loss(maps, batch) if self.training else self.predict(maps, batch)

    def run_network(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.backbone(x),)

    def predict(self, maps: Sequence[Any], batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        """Scores and labels of the logits, best first, see the class."""
        logits = _logits(maps)
        scores, labels = logits.softmax(1).topk(min(self.topk, logits.shape[1]), dim=1)
        images = torch.tensor([batch["img"].shape[2:]]).expand(len(scores), -1)
        sizes = batch.get("orig_size", images).flip(1)
        whole = torch.cat([torch.zeros_like(sizes), sizes], 1).float()[:, None].expand(-1, scores.shape[1], -1)
        found = zip(whole, scores, labels, strict=True)
        return [{"boxes": box, "scores": score, "labels": label} for box, score, label in found]

    def loss(self, maps: Sequence[Any], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Cross entropy of the logits."""
        logits = _logits(maps)
        target = batch["gt_labels"][:, 0]
        if int(target.max()) >= logits.shape[1]:
            raise UserError(
                f"a label is {int(target.max())}, but the backbone has {logits.shape[1]} classes: set num_classes"
            )
        if bool((target < 0).any()):
            raise UserError("an image has no class: pack the set with tools/image_folder_packer.py")
        return {"loss_cls": F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)}

    def network(self) -> nn.Module:
        """A view of the network alone, sharing its modules under the same names."""
        return ClassifierNetwork(self.backbone)

    def preprocess(self, img: Tensor) -> Tensor:
        return torch.as_tensor(self.preprocessor(img))

    def metadata(self) -> dict[str, Any]:
        """Plain values that a deployed model must be shipped with."""
        color = self.input_color or "bgr"
        return {
            "detector": type(self).__name__,
            "num_classes": getattr(self.backbone, "num_classes", None),
            "output_names": list(self.output_names),
            "topk": self.topk,
            "mean": list(self.preprocessor.mean),
            "std": list(self.preprocessor.std),
            "bgr_to_rgb": self.preprocessor.bgr_to_rgb,
            "input_color": color,
            "input_order": input_order(color, self.preprocessor.bgr_to_rgb),
        }


def _logits(maps: Sequence[Any]) -> Tensor:
    (logits,) = maps
    if not isinstance(logits, Tensor) or logits.dim() < 2:
        raise UserError("the backbone gives feature maps; a classifier needs its top: include_top=True")
    return logits.flatten(1).float()
