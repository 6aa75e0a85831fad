"""Test-time augmentation: several views of a picture through one detector, their boxes merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.registry import register
from hatdet.utils.errors import UserError


class TestTimeAugmentation(nn.Module):
    """Scores each picture at several sizes, and mirrored, and suppresses among all boxes found.

    The views are made of the batch that evaluation loads: a view of scale s is the whole padded picture resized by s
    (bilinear), its sides rounded to multiples of ``divisor``. Call contract: that of a detector in evaluation mode.

    Args:
        detector: gives boxes of a batch; may be an integer model.
        post_process: supplies ``suppress(boxes, scores, labels)``: the detector's own.
        scales: factors of the loaded size; MMDetection's TTA of RTMDet has 640, 320 and 960 for 640.
        flip: each view also mirrored left-right.
        divisor: the largest stride.

    Raises:
        UserError: no scale, or one that is not positive.
    """

    __test__ = False  # not a test, whatever pytest thinks of its name

    def __init__(
        self,
        *,
        detector: nn.Module,
        post_process: Any,
        scales: Sequence[float] = (1.0, 0.5, 1.5),
        flip: bool = True,
        divisor: int = 32,
    ) -> None:
        super().__init__()
        if not scales or any(not s > 0 for s in scales):
            raise UserError(f"TTA needs positive scales, got {list(scales)}")
        self.detector = detector
        self.post_process = post_process
        self.scales, self.flip, self.divisor = tuple(scales), flip, divisor

    def evaluation_model(self) -> TestTimeAugmentation:
        """The same views through what evaluation scores: the integer model of a quantized detector."""
        method = getattr(self.detector, "evaluation_model", None)
        if not callable(method):
            return self
        return TestTimeAugmentation(
            detector=method(),
            post_process=self.post_process,
            scales=self.scales,
            flip=self.flip,
            divisor=self.divisor,
        )

    def forward(self, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        found: list[list[dict[str, Tensor]]] = []
        for scale in self.scales:
            view = self._scaled(batch, scale)
            found.append(self.detector(view))
            if self.flip:
                found.append(self._mirrored(view))
        merged = []
        for views in zip(*found, strict=True):
            boxes, scores, labels = (torch.cat([v[key] for v in views]) for key in ("boxes", "scores", "labels"))
            merged.append(self.post_process.suppress(boxes, scores, labels))
        return merged

    def _scaled(self, batch: Mapping[str, Any], scale: float) -> dict[str, Any]:
        height, width = batch["img"].shape[2:]
        size = [max(self.divisor, round(s * scale / self.divisor) * self.divisor) for s in (height, width)]
        if size == [height, width]:
            return dict(batch)
        factors = torch.tensor([size[0] / height, size[1] / width])  # y, x
        img = F.interpolate(batch["img"].float(), size=size, mode="bilinear", align_corners=False)
        img = img.round_().clamp_(0, 255).to(batch["img"].dtype) if batch["img"].dtype == torch.uint8 else img
        view = {**batch, "img": img.contiguous(memory_format=torch.channels_last)}
        view["img_size"] = (batch["img_size"].double() * factors.to(batch["img_size"].device)).round().long()
        view["scale_factor"] = batch["scale_factor"] * factors.flip(0).to(batch["scale_factor"])
        if "border" in batch:  # top, bottom, left, right
            view["border"] = batch["border"] * factors.repeat_interleave(2).to(batch["border"].device)
        return view

    def _mirrored(self, view: dict[str, Any]) -> list[dict[str, Tensor]]:
        """Boxes found in the mirrored picture, mirrored back."""
        widths = view["img_size"][:, 1]
        img = view["img"].clone()
        for i, width in enumerate(widths.tolist()):  # the picture alone: the padding stays at the right
            img[i, :, :, :width] = view["img"][i, :, :, :width].flip(2)
        results: list[dict[str, Tensor]] = []
        for found, width, factor in zip(
            self.detector({**view, "img": img}), widths, view["scale_factor"][:, 0], strict=True
        ):
            boxes = found["boxes"].clone()
            margin = 2 * view["border"][len(results), 2].to(boxes) if "border" in view else 0
            full = (width.to(boxes) - margin) / factor.to(boxes)
            boxes[:, [0, 2]] = full - found["boxes"][:, [2, 0]]
            results.append({**found, "boxes": boxes})
        return results


@register
class TTA:
    """Wraps a finished detector for test-time augmentation: ``Predictor(tta=dict(type="TTA"))``.

    Args:
        scales, flip: see :class:`TestTimeAugmentation`.
    """

    def __init__(self, *, scales: Sequence[float] = (1.0, 0.5, 1.5), flip: bool = True) -> None:
        self.scales, self.flip = tuple(scales), flip

    def __call__(self, model: nn.Module) -> nn.Module:
        owner: Any = getattr(model, "task", model)
        post_process = getattr(owner, "post_process", None)
        if not hasattr(post_process, "suppress"):
            raise UserError(
                f"{type(owner).__name__} cannot merge the boxes of several views: no post_process.suppress; "
                "leave --tta out, or give the detector a post_process"
            )
        divisor = max(getattr(owner, "strides", (32,)))
        return TestTimeAugmentation(
            detector=model, post_process=post_process, scales=self.scales, flip=self.flip, divisor=divisor
        )
