"""Top-k accuracy of image classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.registry import register
from hatdet.utils.errors import UserError


@register
class Accuracy:
    """Share of images whose class is among the best k predicted, in [0, 1]: ``top1``, ``top5``.

    Args:
        topk: the values of k.

    Raises:
        UserError: a k below 1.
    """

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        if not topk or any(k < 1 for k in topk):
            raise UserError(f"Accuracy: topk are whole numbers of at least 1, got {list(topk)}")
        self.topk = tuple(topk)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._hits: dict[int, dict[int, bool]] = {}

    def update(self, predictions: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> None:
        """Add one batch; an image that comes twice (padding of a distributed sampler) counts once."""
        for image, label, found in zip(
            batch["img_id"].tolist(), batch["gt_labels"][:, 0].tolist(), predictions, strict=True
        ):
            ranked = found["labels"].tolist()
            self._hits[image] = {k: label in ranked[:k] for k in self.topk}

    def compute(self) -> dict[str, float]:
        """``{"top1": ..., "top5": ...}``.

        Raises:
            UserError: no image was seen.
        """
        if not self._hits:
            raise UserError("Accuracy: no image was evaluated; give the validation data images")
        return {f"top{k}": sum(h[k] for h in self._hits.values()) / len(self._hits) for k in self.topk}

    def format(self, values: Mapping[str, float]) -> str:
        """One line."""
        shares = ", ".join(f"{name} {100 * value:.2f} %" for name, value in values.items())
        return f"accuracy over {len(self._hits)} images: {shares}"

    def state(self) -> Any:
        """What a process has seen."""
        return self._hits

    def merge(self, states: Sequence[Any]) -> None:
        """Unite what all processes have seen."""
        self._hits = {image: hits for state in states for image, hits in state.items()}
