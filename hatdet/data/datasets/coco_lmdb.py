"""The data set that training reads: a packed COCO set as augmented samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from hatdet.data.datasets.classes import ClassChoice, as_one, choose_classes, with_placeholders
from hatdet.data.datasets.decoding import decode_picture, decoded_shapes, reductions
from hatdet.data.datasets.drawing import draw, plain_ref
from hatdet.data.datasets.image_cache import ImageCache
from hatdet.data.datasets.objects import input_scale, object_table, shrunk_warning
from hatdet.data.datasets.truth import coco_dict, summary
from hatdet.data.image_file import to_gray
from hatdet.data.packers.freshness import open_store
from hatdet.data.packers.records import BoxRecord
from hatdet.data.packers.store.rows import Picture
from hatdet.data.samplers import SampleRef
from hatdet.data.transforms.sample import Image, Sample, Source, Tile, Transform
from hatdet.data.transforms.tensor import ToTensor, input_format
from hatdet.registry import register
from hatdet.utils.class_names import listed
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import InputFormat

logger = logging.getLogger("hatdet")
MAX_RECORDS = 1 << 14
"""Annotation records that a process keeps unpacked (a pure cache)."""
_Record = tuple[np.ndarray, np.ndarray, bool, Picture]


@register
class CocoFromLMDB(torch.utils.data.Dataset[dict[str, Any]]):
    """A COCO set that tools/mscoco_packer.py packed.

    Items are dicts: ``img`` uint8 (3, h, w) BGR, or as ToTensor says, in channels-last memory, ``gt_boxes`` float32
    (n, 4) xyxy in pixels of ``img``, ``gt_labels`` int64 (n,), ``img_id``, ``orig_size`` (h, w) of the file,
    ``img_size`` (h, w) of the picture without padding, ``scale_factor`` (sx, sy); with ``test_mode`` also
    ``file_name``. They are indexed by :class:`~hatdet.data.samplers.SampleRef`, or by a plain int (its augmentation
    is always the same).
    Crowd boxes never reach ``gt_boxes``.

    Args:
        data_path: the packed folder, e.g. ``tmp_data/mscoco/train_lmdb``.
        transforms: applied in order. ToTensor is added where it is missing.
        late_transforms: used instead by references with ``pipeline=1`` (the last epochs).
        num_samples: use only the first so many images.
        test_mode: keep every image and add file names.
        filter_empty: leave out images without a box (not in test_mode).
        min_size: leave out images of which a side is shorter, in pixels (not in test_mode).
        classes: use only these classes, in this order; one that the file does not list has no box here. Default: all of
            the file, in ascending category id.
        cache_mb: memory for decoded images, in MiB, shared by the processes that load; "auto": half of what is free
            (:mod:`hatdet.data.datasets.image_cache`).
        crowds: keep crowd boxes: their labels are ``~label`` while transforms run, and items have them apart, as
            ``gt_ignore`` float32 (k, 4).
        one_class: count the objects of all (chosen) classes as one class of this name (an RPN).
        decode_scale: "auto": JPEGs larger than the transforms ever draw them are decoded at 1/2, 1/4 or 1/8 of their
            size (:func:`~hatdet.data.transforms.reach.reduction`); boxes and sizes stay those of the file. None: whole.

    Attributes:
        classes: names, by label.
        category_ids: category ids of the file, by label.
        bits, deep_images: how many bits of 16-bit pictures are used (:func:`~hatdet.data.image_file.decode`), and how
            many such pictures there are.
        window: how many earlier images the transforms want to choose partners from.
        input_format: what the pixels are (ToTensor), and how they are meant to be normalized (Normalize).
    """

    def __init__(
        self,
        data_path: str | Path,
        transforms: Sequence[Callable[..., Any]],
        late_transforms: Sequence[Callable[..., Any]] | None = None,
        num_samples: int | None = None,
        test_mode: bool = False,
        filter_empty: bool = True,
        min_size: int = 0,
        classes: Sequence[str] | None = None,
        cache_mb: int | Literal["auto"] = "auto",
        crowds: bool = False,
        one_class: str | None = None,
        decode_scale: Literal["auto"] | None = None,
    ) -> None:
        if decode_scale not in ("auto", None):
            raise UserError(
                f'{type(self).__name__}: decode_scale must be "auto" or None, got {decode_scale!r}; '
                "leave it out to decode all pictures whole"
            )
        if num_samples is not None and num_samples < 1:
            raise UserError(f"{type(self).__name__}: num_samples must be at least 1, got {num_samples!r}")
        self.store = open_store(data_path)
        self.data_path = Path(data_path)
        header = self.store.header
        self.bits, self.deep_images = int(header.get("bits", 16)), int(header.get("deep_images", 0))
        self.test_mode, self.crowds = test_mode, crowds
        self.pipelines: list[list[Transform]] = [
            _with_tensor(list(t)) for t in (transforms, late_transforms) if t is not None
        ]
        self.input_format = self._input_format()
        self.window = max((int(getattr(t, "window", 0)) for p in self.pipelines for t in p), default=0)
        self.one_class = one_class
        choice = choose_classes(self.store.header, classes)
        self._take(choice if one_class is None else as_one(choice, one_class))
        self._chosen = self.classes
        self.dropped: dict[str, int] = {}
        self.positions = self._choose_images(filter_empty and not test_mode, 0 if test_mode else min_size, num_samples)
        self._cache = self._new_cache(cache_mb, decode_scale is not None)
        if test_mode and (warning := shrunk_warning(self.store, self.pipelines[0])):
            logger.warning(warning)

    def _new_cache(self, cache_mb: int | Literal["auto"], reduce: bool) -> ImageCache:
        """By all pipelines, so that one decoding serves them. A picture that is alone has no Mosaic to shrink it."""
        if cache_mb != "auto" and not (isinstance(cache_mb, int) and cache_mb >= 0):
            raise UserError(
                f'{type(self).__name__}: cache_mb must be "auto" or a number of MiB of at least 0, got {cache_mb!r}; '
                "leave it out for half of what is free"
            )
        sizes = self.picture_sizes()
        self._reductions = np.ones(len(sizes), np.uint8)
        if reduce and len(sizes) > 1:
            self._reductions = reductions(self.pipelines, sizes)
        names: list[str] = []
        if (self._reductions > 1).any():
            of_all = self.store.index.file_names
            names = [of_all[position] for position in self.positions]
        shapes = decoded_shapes(sizes, self._reductions, names, self.input_format.channels)
        return ImageCache(None if cache_mb == "auto" else cache_mb << 20, shapes)

    def _input_format(self) -> InputFormat:
        formats = [input_format(pipeline) for pipeline in self.pipelines]
        if not formats[0].fits(formats[-1]):
            raise UserError(
                f"transforms give images in {formats[0]}, late_transforms in {formats[-1]}; "
                "end both with the same ToTensor and Normalize"
            )
        return formats[0]

    # ------------------------------------------------------------------------------------- what is used
    def _take(self, choice: ClassChoice) -> None:
        self.classes, self.category_ids, self._relabel = choice.names, choice.ids, choice.relabel
        self.absent_classes, self.unused_classes = choice.absent, choice.unused
        self._records: dict[int, _Record] = {}

    def use_classes(self, names: Sequence[str]) -> None:
        """Number the labels by these names: the classes found by name, and others, which have no box here.

        Before the first sample is read: processes that load samples keep the labels that they began with.
        """
        if self.one_class is None:
            self._take(choose_classes(self.store.header, names, among=self._chosen))
        elif list(names) != [self.one_class]:
            raise UserError(
                f"{self.class_source} gives one class, {self.one_class!r}, but {listed(names)} are asked for; "
                "take the checkpoint of such data, or leave one_class out"
            )

    @property
    def listed_classes(self) -> tuple[str, ...]:
        """All names of the file, a placeholder that has no box here too; only the chosen ones where some were."""
        whole = self.one_class is None and not self.unused_classes
        return with_placeholders(self.store.header) if whole else self.classes

    @property
    def class_source(self) -> str:
        """The file that names the classes, for messages."""
        return str(getattr(self, "ann_file", self.data_path))

    def _choose_images(self, filter_empty: bool, min_size: int, num_samples: int | None) -> np.ndarray:
        """Positions in the store of the images that are used."""
        index = self.store.index
        keep = np.ones(len(index), bool)
        if filter_empty:
            counts = index.num_boxes + index.num_crowds if self.crowds else index.num_boxes
            if self._relabel is not None:  # only a part of the classes: the records have to tell
                counts = np.array([len(self._targets(self.store.boxes(i))[1]) for i in range(len(keep))])
            keep &= counts > 0
            self.dropped["without a box"] = int((~keep).sum())
        if min_size > 0:
            small = keep & (index.sizes.min(axis=1) < min_size)
            self.dropped[f"smaller than {min_size} px"] = int(small.sum())
            keep &= ~small
        positions = np.flatnonzero(keep)
        if num_samples is not None and num_samples < len(positions):
            self.dropped[f"beyond num_samples={num_samples}"] = len(positions) - num_samples
            positions = positions[:num_samples]
        if not len(positions):
            why = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
            raise UserError(
                f"{self.data_path}: none of its {len(keep)} images can be used ({why}); "
                "use other images, or change min_size, filter_empty or classes"
            )
        return positions

    @property
    def num_images(self) -> int:
        """Images that are used."""
        return len(self.positions)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def fingerprint(self) -> str:
        """Digest of the packed images and annotations."""
        return str(self.store.header["fingerprint"])

    def coco_annotations(self) -> dict[str, Any]:
        """The ground truth of the images that are used, as a COCO dict (crowds included).

        Annotations are numbered from 1, boxes and areas are the source's own numbers.
        """
        return coco_dict(self.store, self.positions, self.classes, self.category_ids, self._relabel)

    def image_labels(self) -> list[np.ndarray]:
        """The labels int64 (n,) of the boxes to learn from, image by image."""
        labels = (self._targets(self.store.boxes(int(position)))[1] for position in self.positions)
        return [row[row >= 0] for row in labels]

    def picture_sizes(self) -> np.ndarray:
        """int32 (n, 2): height and width of each picture."""
        return np.asarray(self.store.index.sizes[self.positions])

    def objects(self) -> np.ndarray:
        """float32 (n, 5): width, height, height and width of the picture, number of the picture; no crowds."""
        return object_table(self.store, self.positions, self._relabel)

    def input_scale(self, size: tuple[int, int]) -> tuple[tuple[float, float], tuple[int, int]] | None:
        """What the transforms make of a picture of ``size`` (h, w): (sx, sy) and (h, w); None: more decides."""
        return input_scale(self.pipelines[0], size)

    def picture_sums(self) -> set[tuple[int, int]]:
        """What tells the pictures' files from each other."""
        return self.store.image_checksums(self.positions)

    def summary(self) -> str:
        """Images and boxes that are used, boxes by class, what was left out and why."""
        lines = [summary(self.store, self.positions, self.classes, self._relabel, self.dropped)]
        if self.absent_classes:
            lines.append(f"  classes that this file does not list: {listed(self.absent_classes)}")
        if self.unused_classes:
            lines.append(f"  classes of the file that are not used, nor their boxes: {listed(self.unused_classes)}")
        return "\n".join(lines)

    # ------------------------------------------------------------------------------------------ samples
    def _targets(self, record: BoxRecord) -> tuple[np.ndarray, np.ndarray]:
        """Boxes float32 (n, 4) and labels int64 (n,) to learn from, only the chosen classes; crowds only on request."""
        labels = record.labels if self._relabel is None else self._relabel[record.labels]
        boxes = record.boxes
        keep = labels >= 0 if self.crowds else ~record.iscrowd & (labels >= 0)
        if self.crowds:
            labels = np.where(record.iscrowd, ~labels, labels)
        if len(boxes):
            keep &= (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
        return boxes[keep], labels[keep].astype(np.int64)

    def _read(self, position: int) -> _Record:
        record = self.store.boxes(position)
        boxes, labels = self._targets(record)
        boxes.flags.writeable = labels.flags.writeable = False  # every sample of this image shares them
        return boxes, labels, record.as_stored, self.store.picture(position)

    def raw(self, index: int) -> Sample:
        """Image ``index`` without any transform; nothing is decoded yet."""
        position = int(self.positions[index])
        known = self._records.get(position)
        if known is None:
            if len(self._records) >= MAX_RECORDS:
                self._records.clear()
            known = self._records[position] = self._read(position)
        boxes, labels, as_stored, picture = known
        (height, width), full = picture.size, picture.full
        channels, bits, reduction = self.input_format.channels, self.bits, int(self._reductions[index])

        def load() -> Image:
            image = decode_picture(self.store.image_bytes(position), (height, width), as_stored, bits, reduction)
            return to_gray(image) if channels == 1 else image

        source = Source((height, width), lambda: self._cache.get(index, load), reduction)
        tile = Tile(source, 1.0, 1.0, 0.0, 0.0, (0.0, 0.0, float(width), float(height)))
        return Sample(
            index=index,
            img_id=picture.id,
            file_name=picture.file_name,
            orig_size=full,
            tiles=[tile],
            canvas=(height, width),
            boxes=boxes,
            labels=labels,
            img_size=(height, width),
            scale=(width / full[1], height / full[0]),  # of a picture that was stored smaller than its file
            channels=channels,
        )

    def leaf(self, index: int) -> tuple[CocoFromLMDB, int]:
        """The data set that has image ``index``, and its index there: data sets made of others give another."""
        return self, index

    def __getitem__(self, ref: SampleRef | int) -> dict[str, Any]:
        """The augmented sample; depends on ``ref`` alone."""
        return draw(self, ref if isinstance(ref, SampleRef) else plain_ref(self, int(ref)))

    def item(self, sample: Sample) -> dict[str, Any]:
        """What the collation gets of a sample."""
        assert sample.tensor is not None
        boxes, labels = np.array(sample.boxes, np.float32), np.array(sample.labels, np.int64)
        item = {
            "img": sample.tensor,
            "gt_boxes": torch.from_numpy(boxes[labels >= 0] if self.crowds else boxes),
            "gt_labels": torch.from_numpy(labels[labels >= 0] if self.crowds else labels),
            "img_id": sample.img_id,
            "orig_size": sample.orig_size,
            "img_size": sample.img_size,
            "scale_factor": sample.scale,
        }
        if self.crowds:
            item["gt_ignore"] = torch.from_numpy(boxes[labels < 0])
        if sample.border is not None:
            item["border"] = sample.border
        if sample.unfinished is not None:
            item["unfinished"] = sample.unfinished
        if self.test_mode:
            item["file_name"] = sample.file_name
        return item


def _with_tensor(transforms: list[Any]) -> list[Any]:
    for transform in transforms:
        if not callable(transform):
            raise UserError(
                f"transforms: {transform!r} is not a transform (a callable, or a dict with a type); "
                "write dict(type=...)"
            )
    return transforms if any(isinstance(t, ToTensor) for t in transforms) else [*transforms, ToTensor()]
