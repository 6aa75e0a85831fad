"""Data sets made of others: one after the other, several times, rare classes more often."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hatdet.data.datasets.drawing import draw, plain_ref
from hatdet.data.samplers import SampleRef
from hatdet.data.transforms.sample import Sample
from hatdet.registry import register
from hatdet.utils.errors import UserError


class MappedDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Pictures of other data sets in an order of its own, each through its own data set's transforms.

    Partners of Mosaic and the like come from all of them. Pictures are numbered by their first place here (``img_id``),
    classes from 1.

    Args:
        datasets: the others; they learn the same classes: all that any of them has.
        table: int64 (n, 2): for each picture the data set's number and the index in it.
    """

    def __init__(self, datasets: Sequence[Any], table: NDArray[np.int64]) -> None:
        self.datasets, self.table = list(datasets), table
        names = list(dict.fromkeys(str(name) for data in self.datasets for name in data.classes))
        if any(list(data.classes) != names for data in self.datasets):
            self.use_classes(names)
        self.test_mode = bool(self.datasets[0].test_mode)
        self.pipelines = self.datasets[0].pipelines
        self.window = max(int(data.window) for data in self.datasets)
        self.input_format = self.datasets[0].input_format
        for data in self.datasets[1:]:
            if not self.input_format.fits(data.input_format):
                raise UserError(
                    f"one data set gives pictures in {self.input_format}, another in {data.input_format}; end their "
                    "transforms alike"
                )
        _, first, self._picture = np.unique(table, axis=0, return_index=True, return_inverse=True)
        self._first = np.sort(first)
        self._number = first[self._picture.reshape(-1)]

    # ------------------------------------------------------------------------------------------ classes
    def use_classes(self, names: Sequence[str]) -> None:
        """See :meth:`hatdet.data.datasets.coco_lmdb.CocoFromLMDB.use_classes`."""
        for data in self.datasets:
            data.use_classes(names)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label."""
        return tuple(self.datasets[0].classes)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Numbers of the classes in :meth:`coco_annotations`."""
        return tuple(range(1, len(self.classes) + 1))

    @property
    def listed_classes(self) -> tuple[str, ...]:
        """All names of all files."""
        return tuple(dict.fromkeys(name for data in self.datasets for name in data.listed_classes))

    @property
    def unused_classes(self) -> tuple[str, ...]:
        """Names that no data set uses."""
        return tuple(dict.fromkeys(name for data in self.datasets for name in data.unused_classes))

    @property
    def class_source(self) -> str:
        """The files that name the classes."""
        return ", ".join(dict.fromkeys(str(data.class_source) for data in self.datasets))

    # --------------------------------------------------------------------------------------- about pictures
    def __len__(self) -> int:
        return len(self.table)

    @property
    def num_images(self) -> int:
        """Pictures, repetitions counted."""
        return len(self.table)

    @property
    def bits(self) -> int:
        """How many bits of 16-bit pictures are used; setting it sets all."""
        return max(int(data.bits) for data in self.datasets)

    @bits.setter
    def bits(self, value: int) -> None:
        for data in self.datasets:
            data.bits = value

    @property
    def deep_images(self) -> int:
        """How many 16-bit pictures there are."""
        return sum(int(data.deep_images) for data in self.datasets)

    @property
    def fingerprint(self) -> str:
        """Digest of pictures, annotations and order."""
        digest = hashlib.sha256(self.table.tobytes())
        for data in self.datasets:
            digest.update(data.fingerprint.encode())
        return digest.hexdigest()

    def _gathered(self, per_dataset: Sequence[Sequence[Any]]) -> list[Any]:
        return [per_dataset[number][index] for number, index in self.table.tolist()]

    def image_labels(self) -> list[np.ndarray]:
        """The labels int64 (n,) of each picture's boxes."""
        return self._gathered([data.image_labels() for data in self.datasets])

    def picture_sizes(self) -> NDArray[np.int64]:
        """int64 (n, 2): height and width of each picture."""
        return np.array(self._gathered([data.picture_sizes().tolist() for data in self.datasets]), np.int64)

    def objects(self) -> np.ndarray:
        """See the method of the same name there; each picture once."""
        tables, offset = [], 0
        for data in self.datasets:
            own = np.array(data.objects())
            own[:, 4] += offset
            tables.append(own)
            offset += len(data)
        return np.concatenate(tables)

    def input_scale(self, size: tuple[int, int]) -> tuple[tuple[float, float], tuple[int, int]] | None:
        """See there; of the first data set."""
        return self.datasets[0].input_scale(size)  # type: ignore[no-any-return]

    def picture_sums(self) -> set[tuple[int, int]]:
        """What tells the pictures' files from each other."""
        return set().union(*(data.picture_sums() for data in self.datasets))

    def summary(self) -> str:
        """What is used, data set by data set."""
        lines = [f"{type(self).__name__}: {len(self)} pictures an epoch"]
        return "\n".join([*lines, *(data.summary() for data in self.datasets)])

    def coco_annotations(self) -> dict[str, Any]:
        """The ground truth of all pictures as one COCO dict, each once."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, data in enumerate(self.datasets):
            content = data.coco_annotations()
            labels = {category: label for label, category in enumerate(data.category_ids)}
            used = {int(index): int(place) for place in self._first for n, index in [self.table[place]] if n == number}
            places = {image["id"]: used[i] for i, image in enumerate(content["images"]) if i in used}
            images += [{**im, "id": places[im["id"]]} for im in content["images"] if im["id"] in places]
            for box in content["annotations"]:
                if box["image_id"] in places:
                    category = labels[box["category_id"]] + 1
                    known = {"id": len(annotations) + 1, "image_id": places[box["image_id"]], "category_id": category}
                    annotations.append({**box, **known})
        categories = [{"id": i + 1, "name": name, "supercategory": ""} for i, name in enumerate(self.classes)]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    # ------------------------------------------------------------------------------------------ samples
    def leaf(self, index: int) -> tuple[Any, int]:
        """The data set that has picture ``index``, and its index there."""
        number, own = (int(v) for v in self.table[index])
        return self.datasets[number].leaf(own)  # type: ignore[no-any-return]

    def raw(self, index: int) -> Sample:
        """Picture ``index`` without any transform."""
        data, own = self.leaf(index)
        sample: Sample = data.raw(own)
        sample.index, sample.img_id = index, int(self._number[index])
        return sample

    def __getitem__(self, ref: SampleRef | int) -> dict[str, Any]:
        """The augmented sample; depends on ``ref`` alone."""
        return draw(self, ref if isinstance(ref, SampleRef) else plain_ref(self, int(ref)))


@register(scope="mmdet")
class ConcatDataset(MappedDataset):
    """Data sets one after the other.

    Args:
        datasets: at least one.
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        if not datasets:
            raise UserError("ConcatDataset: datasets is empty; give at least one")
        parts = [np.column_stack([np.full(len(data), i), np.arange(len(data))]) for i, data in enumerate(datasets)]
        super().__init__(datasets, np.concatenate(parts).astype(np.int64))


@register(scope="mmdet")
class RepeatDataset(MappedDataset):
    """A data set several times: a longer epoch, with fewer pauses between epochs.

    Args:
        dataset: any.
        times: how often each picture comes in an epoch.
    """

    def __init__(self, dataset: Any, times: int) -> None:
        if times < 1:
            raise UserError(f"RepeatDataset: times must be at least 1, got {times}")
        indices = np.tile(np.arange(len(dataset)), times)
        super().__init__([dataset], np.column_stack([np.zeros_like(indices), indices]).astype(np.int64))


@register(scope="mmdet")
class ClassBalancedDataset(MappedDataset):
    """A data set whose pictures with rare classes come several times (LVIS, arXiv 1908.03195, section 4.1).

    A class that a share f of the pictures have counts ``max(1, sqrt(oversample_thr / f))``; a picture comes as often as
    its largest count says, rounded up.

    Args:
        dataset: has ``image_labels()``.
        oversample_thr: share of the pictures below which a class is rare.
    """

    def __init__(self, dataset: Any, oversample_thr: float) -> None:
        if not 0 < oversample_thr <= 1:
            raise UserError(f"ClassBalancedDataset: oversample_thr must be above 0, at most 1, got {oversample_thr}")
        labels = [np.unique(row) for row in dataset.image_labels()]
        with_class = np.bincount(np.concatenate([*labels, np.zeros(0, np.int64)]).astype(np.int64))
        factors = [1.0 if not n else max(1.0, math.sqrt(oversample_thr * len(labels) / n)) for n in with_class.tolist()]
        times = [math.ceil(max((factors[label] for label in row), default=1.0)) for row in labels]
        indices = np.repeat(np.arange(len(labels)), times)
        super().__init__([dataset], np.column_stack([np.zeros_like(indices), indices]).astype(np.int64))
