"""Transforms of the package albumentations, where it is installed."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import numpy as np

from hatdet.data.transforms.mmdet.canvas import keep
from hatdet.data.transforms.render import render, with_channels
from hatdet.data.transforms.sample import Context, Sample, image_sample
from hatdet.registry import register
from hatdet.utils.annotations import AsWritten, Spec


@register(scope="mmdet")
class Albu:
    """Run transforms of albumentations; their random numbers are seeded from the sample's.

    Args:
        transforms: dicts whose ``type`` is a class of albumentations; nested ones under ``transforms``.
        bbox_params: of albumentations (``type="BboxParams"``, ``format="pascal_voc"``); None: boxes stay as they are.
        keymap: of MMDetection's names; only the pictures ("img") and boxes ("gt_bboxes") are handed over.
        skip_img_without_anno: drop a picture of which no box is left; only where ``bbox_params`` has label_fields and
            filter_lost_elements, as in MMDetection.
    """

    def __init__(
        self,
        transforms: Annotated[list[dict[str, Any]], AsWritten],
        bbox_params: Spec | None = None,
        keymap: Spec | None = None,
        skip_img_without_anno: bool = False,
    ) -> None:
        try:
            import albumentations  # type: ignore[import-not-found]
        except ImportError as error:
            raise ValueError("Albu needs the package albumentations: pip install albumentations") from error
        params: dict[str, Any] = {} if bbox_params is None else copy.deepcopy(bbox_params)
        params.pop("type", None)
        filters = params.pop("filter_lost_elements", None) is not None and "label_fields" in params
        if params and params.get("format", "pascal_voc") != "pascal_voc":
            raise ValueError(f"bbox_params format is {params['format']!r}; boxes here are 'pascal_voc'")
        self.with_boxes = bool(params)
        self.skip_img_without_anno = skip_img_without_anno and filters
        steps = [self._built(albumentations, step) for step in transforms]
        boxes = albumentations.BboxParams(**{**params, "format": "pascal_voc", "label_fields": ["places"]})
        self.augment = albumentations.Compose(steps, bbox_params=boxes if self.with_boxes else None)

    @classmethod
    def _built(cls, albumentations: Any, step: dict[str, Any]) -> Any:
        options = dict(step)
        kind = options.pop("type", None)
        made = getattr(albumentations, kind, None) if isinstance(kind, str) else kind
        if not callable(made):
            raise ValueError(f"albumentations has no {kind!r}; name one of its transforms")
        if "transforms" in options:
            options["transforms"] = [cls._built(albumentations, inner) for inner in options["transforms"]]
        return made(**options)

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        self._seed(int(ctx.rng.integers(2**31)))
        image = np.ascontiguousarray(render(sample))
        given: dict[str, Any] = {"image": image}
        if self.with_boxes:
            given.update(bboxes=sample.boxes.tolist(), places=list(range(len(sample.boxes))))
        made = self.augment(**given)
        image_sample(sample, with_channels(np.ascontiguousarray(made["image"])))
        sample.img_size = sample.canvas
        if self.with_boxes:
            places = np.asarray(made["places"], np.int64)
            sample.labels = sample.labels[places]
            sample.boxes = np.asarray(made["bboxes"], np.float32).reshape(-1, 4)
            if not len(places) and self.skip_img_without_anno and not ctx.must_keep:
                return None
        return keep(sample, np.ones(len(sample.boxes), bool))

    def _seed(self, seed: int) -> None:
        """Its newer versions have generators of their own, older ones take Python's.

        One generator for all transforms: ``set_random_seed`` would give each of them the same numbers.
        """
        import random

        if hasattr(self.augment, "set_random_state"):
            self.augment.set_random_state(np.random.default_rng(seed), random.Random(seed))
        else:
            random.seed(seed)
            np.random.seed(seed)
