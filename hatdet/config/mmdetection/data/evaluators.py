"""Evaluators as hatdet's metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.config.mmdetection.data.steps import bare
from hatdet.config.mmdetection.reader import Reader
from hatdet.utils.errors import ConfigError

VOC = "mmdet.VOCMetric"
_BOXES = ("bbox",)
_PROPOSALS = ("proposal", "proposal_fast")


def translate_evaluator(value: Any, path: str) -> tuple[dict[str, Any], list[str]]:
    """The metric of ``val_evaluator``, and notes.

    The ground truth is the data set's own: what ``ann_file`` names is the same file in MMDetection's configs.
    """
    evaluators = [value] if isinstance(value, dict) else list(value or [])
    notes: list[str] = []
    chosen: list[dict[str, Any]] = []
    for i, evaluator in enumerate(evaluators):
        reader = Reader(dict(evaluator), path if isinstance(value, dict) else f"{path}.{i}")
        kind = bare(reader.take("type", object), reader.path)
        if kind in ("DumpDetResults", "DumpResults"):
            notes.append(f"{reader.path}: {kind}: detections are written with --out of tools/test.py")
        elif kind == "CocoMetric":
            chosen += _coco(reader, notes)
        elif kind == "VOCMetric":
            for key in ("collect_device", "prefix"):
                reader.take(key, object, None)
            chosen.append({"type": VOC, **reader.values})
        else:
            raise ConfigError(f"{reader.path}.type: {kind!r} has no counterpart; use CocoMetric(metric='bbox')")
    return _one(chosen), notes


def _one(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One metric that measures what all do."""
    each = [metric for i, metric in enumerate(found) if metric not in found[:i]]
    if len(each) > 1:
        return {"type": "Metrics", "metrics": each}
    return each[0] if each else {"type": "COCODetectionMetric"}


def _coco(reader: Reader, notes: list[str]) -> list[dict[str, Any]]:
    metrics = reader.take("metric", (str, list, tuple), "bbox")
    metrics = [metrics] if isinstance(metrics, str) else list(metrics)
    results = metrics_of(metrics, f"{reader.path}.metric", notes)
    if reader.take("format_only", bool, False):
        notes.append(f"{reader.path}.format_only: detections are scored all the same; tools/test.py --out writes them")
    classwise = reader.take("classwise", bool, False)
    limits = reader.take("proposal_nums", (list, tuple), None)  # of boxes MMDetection reads them too, and takes 100
    prefix = reader.take("outfile_prefix", str, None)
    for result in results:
        proposals = result["type"] == "COCOProposalMetric"
        if not classwise and not proposals:
            result["classwise"] = False
        if limits is not None and proposals:
            result["proposal_nums"] = list(limits)
        if prefix is not None:
            result["results_file"] = f"{prefix}.{'proposal' if proposals else 'bbox'}.json"
    if reader.take("iou_thrs", object, None) is not None:
        raise ConfigError(f"{reader.path}.iou_thrs: COCO's ten thresholds are fixed; leave it out")
    for key in ("ann_file", "metric_items", "file_client_args", "backend_args", "collect_device", "prefix",
                "sort_categories", "use_mp_eval"):  # fmt: skip
        reader.take(key, object, None)
    reader.finish()
    return results


def metrics_of(metrics: Sequence[str], path: str, notes: list[str]) -> list[dict[str, Any]]:
    """The metrics for MMDetection's names of metrics, that of boxes before that of proposals."""
    wrong = [name for name in metrics if name not in (*_BOXES, *_PROPOSALS)]
    if [name for name in wrong if name != "segm"] or not metrics:
        raise ConfigError(f"{path}: {list(metrics)!r} has no counterpart; use 'bbox'")
    if "segm" in wrong:
        notes.append(f"{path}: only boxes are scored, not masks")
    proposals = [{"type": "COCOProposalMetric"}] if any(name in _PROPOSALS for name in metrics) else []
    boxes = [{"type": "COCODetectionMetric"}] if any(name not in _PROPOSALS for name in metrics) else []
    return [*boxes, *proposals]


def evaluation_of(value: Mapping[str, Any] | None, dataset: Any = None) -> tuple[dict[str, Any], list[str]]:
    """The metric of version 2's ``evaluation``; its interval is the schedule's.

    Args:
        dataset: what is scored; the year in its folder's name says how Pascal VOC's mAP is measured.
    """
    reader = Reader(dict(value or {}), "evaluation")
    notes: list[str] = []
    metrics = reader.take("metric", (str, list, tuple), "bbox")
    if metrics in ("mAP", ["mAP"], ("mAP",)):
        mode = "11points" if "VOC2007" in str(dataset) else "area"
        return {"type": VOC, "iou_thrs": reader.take("iou_thr", object, 0.5), "eval_mode": mode}, notes
    results = metrics_of([metrics] if isinstance(metrics, str) else list(metrics), "evaluation.metric", notes)
    classwise = reader.take("classwise", bool, False)
    for result in results:
        if not classwise and result["type"] == "COCODetectionMetric":
            result["classwise"] = False
    return _one(results), notes
