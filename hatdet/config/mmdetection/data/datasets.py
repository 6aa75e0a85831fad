"""MMDetection's data sets, and those around data sets, as hatdet's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatdet.config.mmdetection.data.steps import Pipeline, bare, translate_steps
from hatdet.config.mmdetection.data.steps2 import Modern, modernize
from hatdet.config.mmdetection.reader import Reader
from hatdet.registry import registered_names
from hatdet.utils.errors import ConfigError

_COCO = ("CocoDataset", "Objects365V1Dataset", "Objects365V2Dataset", "DeepFashionDataset")
_PREFIXES = ("img", "img_path", "sub_data_root")
_CONVERT = {
    "LVISV05Dataset": "its json is COCO's but for its scores, which count classes as annotated by picture; name it "
    "CocoDataset and be scored as on COCO",
    "CityscapesDataset": "convert it first: tools/dataset_converters/cityscapes.py, then CocoDataset",
    "OpenImagesDataset": "convert its csv files to a COCO json first, then CocoDataset",
    "OpenImagesChallengeDataset": "convert its txt files to a COCO json first, then CocoDataset",
    "WIDERFaceDataset": "convert its annotations to a COCO json first, then CocoDataset",
    "CrowdHumanDataset": "convert it first: tools/dataset_converters/crowdhuman2coco.py, then CocoDataset",
    "V3DetDataset": "its 13204 classes have scores of their own; name it CocoDataset to train on its json",
    "CocoPanopticDataset": "only boxes are learned; use the instances json with CocoDataset",
    "RefCocoDataset": "text is not an input here; use CocoDataset",
    "BaseDetDataset": "use CocoDataset with a COCO json",
    "CustomDataset": "write a COCO json and use CocoDataset",
}
_CONVERT["LVISV1Dataset"] = _CONVERT["LVISDataset"] = _CONVERT["LVISV05Dataset"]
_IGNORED = ("backend_args", "file_client_args", "serialize_data", "lazy_init", "max_refetch", "return_classes",
            "caption_prompt", "seg_prefix", "seg_suffix", "palette")  # fmt: skip


@dataclass
class Facts:
    """What data sets and their pipelines said besides."""

    classes: tuple[str, ...] | None = None
    pixels: dict[str, Any] | None = None
    color: str = "bgr"
    divisor: int = 1
    size: tuple[int, int] | None = None
    scales: list[tuple[int, int]] = field(default_factory=list)
    flip: bool = False
    transforms: list[dict[str, Any]] = field(default_factory=list)
    """of the last data set"""
    notes: list[str] = field(default_factory=list)


@dataclass
class DatasetTranslator:
    """Translates one tree of data sets.

    Args:
        version: 2 or 3.
        training: of the data that are learned from.
        late: makes the late pipeline: gets the steps of a data set (of the MultiImageMixDataset around it, where there
            is one) and gives those of the last epochs, in the config's own vocabulary; None: there is none.
        one_class: all classes count as one of this name; None: they do not.
    """

    version: int
    training: bool
    late: Callable[[list[Any]], list[Any]] | None = None
    one_class: str | None = None
    facts: Facts = field(default_factory=Facts)

    def translate(self, value: Any, path: str, outer: Sequence[Any] | None = None) -> dict[str, Any]:
        """hatdet's dict of a data set; a list of them (version 2) is one after the other.

        Args:
            outer: steps of a MultiImageMixDataset around it.
        """
        if isinstance(value, (list, tuple)):
            return self._several([self.translate(v, f"{path}.{i}", outer) for i, v in enumerate(value)])
        reader = Reader(dict(value), path)
        kind = bare(reader.take("type", object), path)
        if kind in ("RepeatDataset", "ClassBalancedDataset"):
            return self._around(kind, reader, outer)
        if kind == "ConcatDataset":
            parts = reader.take("datasets", (list, tuple))
            for key in ("separate_eval", "lazy_init", "ignore_keys"):
                reader.take(key, object, None)
            reader.finish()
            return self.translate(list(parts), f"{path}.datasets", outer)
        if kind == "MultiImageMixDataset":
            return self._mixed(reader)
        if isinstance(reader.values.get("ann_file"), (list, tuple)):  # version 2: several files in one
            return self.translate(_apart(kind, reader.values), path, outer)
        if kind in _COCO:
            return self._coco(reader, outer)
        if kind in ("VOCDataset", "XMLDataset"):
            return self._voc(reader, outer)
        if kind in registered_names():
            return self._own(kind, reader, outer)
        why = _CONVERT.get(kind, "use CocoDataset with a COCO json, or register a data set of that name")
        raise ConfigError(f"{path}.type: {kind} is not read here: {why}")

    # ------------------------------------------------------------------------------------- around others
    @staticmethod
    def _several(parts: list[dict[str, Any]]) -> dict[str, Any]:
        return parts[0] if len(parts) == 1 else {"type": "mmdet.ConcatDataset", "datasets": parts}

    def _around(self, kind: str, reader: Reader, outer: Sequence[Any] | None) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if kind == "RepeatDataset":
            options["times"] = reader.take("times", int)
        else:
            options["oversample_thr"] = reader.take("oversample_thr", (int, float))
            reader.take("filter_empty_gt", bool, True)
        for key in ("lazy_init",):
            reader.take(key, object, None)
        inner = reader.take("dataset", (dict, list))
        reader.finish()
        dataset = self.translate(inner, f"{reader.path}.dataset", outer)
        if not self.training:
            return dataset
        return {"type": f"mmdet.{kind}", "dataset": dataset, **options}

    def _mixed(self, reader: Reader) -> dict[str, Any]:
        steps = list(reader.take("pipeline", (list, tuple)))
        skipped = reader.take("skip_type_keys", (list, tuple), None) or ()
        reader.one_of("dynamic_scale", (None,), None)
        for key in ("max_refetch", "lazy_init"):
            reader.take(key, object, None)
        inner = reader.take("dataset", (dict, list))
        reader.finish()
        kept = [step for step in steps if bare(step.get("type"), f"{reader.path}.pipeline") not in skipped]
        return self.translate(inner, f"{reader.path}.dataset", kept)

    # ------------------------------------------------------------------------------------ with pictures
    def _coco(self, reader: Reader, outer: Sequence[Any] | None) -> dict[str, Any]:
        result = {"type": "CocoDataset", **self._place(reader), **self._common(reader)}
        return {**result, **self._transforms(reader, outer)}

    def _place(self, reader: Reader) -> dict[str, Any]:
        """Where json and pictures lie, relative to the folder of the data set."""
        ann_file, root = reader.take("ann_file", str), reader.take("data_root", str, None) or ""
        if self.version == 2:
            prefix = reader.take("img_prefix", str, "")
        else:
            given = reader.take("data_prefix", (dict, str), {})
            prefix = given if isinstance(given, str) else next((given[k] for k in _PREFIXES if k in given), "")
        if not root:
            root = os.path.dirname(prefix.rstrip("/")) or os.path.dirname(ann_file) or "."
            prefix = os.path.relpath(prefix, root) if prefix else ""
            ann_file = os.path.abspath(ann_file)
        return {"data_root": root, "ann_file": ann_file, "img_prefix": prefix or "."}

    def _common(self, reader: Reader) -> dict[str, Any]:
        """Classes, filters, and what means nothing here."""
        result: dict[str, Any] = {} if self.one_class is None else {"one_class": self.one_class}
        classes = self._classes(reader)
        if classes is not None:
            result["classes"] = list(classes)
            self.facts.classes = classes if self.one_class is None else (self.one_class,)
        result.update(self._filters(reader))
        count = reader.take("indices", (int,), None)
        if count is not None:
            result["num_samples"] = count
        if reader.take("proposal_file", str, None) is not None:
            raise ConfigError(f"{reader.path}.proposal_file: proposals from a file are not read; leave it out")
        for key in _IGNORED:
            if reader.take(key, object, None) is not None and key == "backend_args":
                self.facts.notes.append(f"{reader.path}.{key}: files are read from the disk alone")
        return result

    def _classes(self, reader: Reader) -> tuple[str, ...] | None:
        if self.version == 2:
            found = reader.take("classes", (list, tuple, str), None)
        else:
            meta = reader.take("metainfo", dict, None) or {}
            found = meta.get("classes", meta.get("CLASSES"))
        if isinstance(found, str):
            if not os.path.isfile(found):
                raise ConfigError(f"{reader.path}.classes: {found!r} is no file; give names: classes=({found!r},)")
            with open(found, encoding="utf-8") as file:
                found = file.read().splitlines()
        return None if found is None else tuple(str(name) for name in found)

    def _filters(self, reader: Reader) -> dict[str, Any]:
        test_mode = reader.take("test_mode", bool, False) or not self.training
        if self.version == 2:
            filters = {"filter_empty": reader.take("filter_empty_gt", bool, True), "min_size": 32}
        else:
            given = Reader(dict(reader.take("filter_cfg", dict, None) or {}), f"{reader.path}.filter_cfg")
            filters = {
                "filter_empty": given.take("filter_empty_gt", bool, False),
                "min_size": given.take("min_size", int, 0),
            }
            least = given.take("bbox_min_size", int, None)
            given.finish()
            if least is not None and self.training:
                reader.values["bbox_min_size"] = least
        return {"test_mode": True} if test_mode else {**filters, "crowds": True}

    def _voc(self, reader: Reader, outer: Sequence[Any] | None) -> dict[str, Any]:
        result = {"type": "mmdet.VOCDataset", **self._place(reader), **self._common(reader)}
        for key in ("img_subdir", "ann_subdir", "bbox_min_size"):
            value = reader.take(key, (str, int), None)
            if value is not None:
                result[key] = value
        return {**result, **self._transforms(reader, outer)}

    def _own(self, kind: str, reader: Reader, outer: Sequence[Any] | None) -> dict[str, Any]:
        """A registered data set: its own arguments, with our transforms."""
        made = self._transforms(reader, outer, finish=False)
        return {"type": kind, **reader.values, **made}

    # --------------------------------------------------------------------------------------- pipelines
    def _transforms(self, reader: Reader, outer: Sequence[Any] | None, finish: bool = True) -> dict[str, Any]:
        steps = list(reader.take("pipeline", (list, tuple), []))
        if finish:
            reader.finish()
        path = f"{reader.path}.pipeline"
        result = {"transforms": self._pipeline(steps, outer, path)}
        if self.late is not None and self.training:
            changed = self.late(steps if outer is None else list(outer))
            late = (changed, None) if outer is None else (steps, changed)
            result["late_transforms"] = self._pipeline(late[0], late[1], f"{path} (late)")
        return result

    def _pipeline(self, steps: Sequence[Any], outer: Sequence[Any] | None, path: str) -> list[dict[str, Any]]:
        inner = translate_steps(self._modern(steps, path), path)
        whole = inner
        if outer is not None:
            more = translate_steps(self._modern(outer, path), path, inner.transforms, inner.transforms)
            whole = Pipeline([*inner.transforms, *more.transforms], inner.color, [*inner.notes, *more.notes])
        self.facts.color = whole.color
        self.facts.notes += whole.notes
        self.facts.transforms = whole.transforms
        return whole.complete()

    def _modern(self, steps: Sequence[Any], path: str) -> Sequence[Any]:
        if self.version == 3:
            return steps
        modern: Modern = modernize(steps, path)
        facts = self.facts
        facts.pixels = modern.pixels or facts.pixels
        facts.divisor, facts.size = max(facts.divisor, modern.divisor), modern.size or facts.size
        facts.scales, facts.flip = modern.scales or facts.scales, facts.flip or modern.flip
        return modern.steps


def _apart(kind: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A data set for each file of one with several."""
    files, prefixes = values["ann_file"], values.get("img_prefix", "")
    if not isinstance(prefixes, (list, tuple)):
        prefixes = [prefixes] * len(files)
    pairs = zip(files, prefixes, strict=True)
    return [{"type": kind, **values, "ann_file": file, "img_prefix": prefix} for file, prefix in pairs]


def with_transforms(dataset: Mapping[str, Any], transforms: list[dict[str, Any]]) -> dict[str, Any]:
    """The same pictures, once each, through other transforms."""
    if "dataset" in dataset:
        return with_transforms(dataset["dataset"], transforms)
    if "datasets" in dataset:
        return {**dataset, "datasets": [with_transforms(part, transforms) for part in dataset["datasets"]]}
    kept = {key: value for key, value in dataset.items() if key not in ("transforms", "late_transforms", "crowds")}
    return {**kept, "transforms": transforms}
