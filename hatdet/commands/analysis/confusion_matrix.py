"""What is taken for what: the confusion matrix of detections, as a picture and as numbers.

python tools/analysis_tools/confusion_matrix.py CONFIG results.json work_dirs/matrix

The detections are COCO results (tools/test.py CONFIG MODEL --results results.json).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("prediction_path", metavar="RESULTS.json", help="detections of the validation images")
    parser.add_argument("save_dir", metavar="DIR", help="confusion_matrix.svg and confusion_matrix.json go there")
    parser.add_argument("--score-thr", "--score_thr", type=float, default=0.3, help="lowest score (default: 0.3)")
    parser.add_argument("--tp-iou-thr", "--tp_iou_thr", type=float, default=0.5, help="IoU of a match (default: 0.5)")
    parser.add_argument("--nms-iou-thr", "--nms_iou_thr", type=float, help="suppress among the detections first")


def run(args: argparse.Namespace) -> None:
    for name in ("score_thr", "tp_iou_thr"):
        if not 0 <= getattr(args, name) <= 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: give a number between 0 and 1")
    config = load_from_args(args)

    from hatdet.commands.analysis.data import truth_and_found
    from hatdet.metrics.curves import confusion_matrix
    from hatdet.visualization.charts import matrix_chart

    truth, found, classes = truth_and_found(config, args.prediction_path)
    if args.nms_iou_thr is not None:
        found = suppressed(found, args.nms_iou_thr)
    matrix = confusion_matrix(truth, found, len(classes), args.score_thr, args.tp_iou_thr)
    names = [*classes, "(none)"]
    title = f"Rows: truth, columns: detected (score >= {args.score_thr:g}, IoU >= {args.tp_iou_thr:g})"
    folder = Path(args.save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "confusion_matrix.svg").write_text(matrix_chart(matrix, names, title), encoding="utf-8")
    (folder / "confusion_matrix.json").write_text(json.dumps({"names": names, "matrix": matrix.tolist()}) + "\n")
    print(f"{int(matrix[:-1, :-1].trace())} of {int(matrix[:-1].sum())} objects found and named; wrote {folder}")


def suppressed(found, threshold):  # type: ignore[no-untyped-def]
    """The detections that no better one of its class and image overlaps by more than ``threshold``."""
    import numpy as np
    import torch

    from hatdet.ops.nms import batched_nms

    group = np.unique(np.stack((found.image_ids, found.labels)), axis=1, return_inverse=True)[1].reshape(-1)
    boxes, scores = (torch.from_numpy(v).float() for v in (found.boxes, found.scores))
    kept = np.zeros(len(found), bool)
    kept[batched_nms(boxes, scores, torch.from_numpy(group), threshold).numpy()] = True
    return found.select(kept)


main = command(__doc__, add_arguments, run)
