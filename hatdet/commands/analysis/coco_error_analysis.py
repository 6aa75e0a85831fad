"""Where AP is lost, class by class: precision over recall as errors of one kind after another are forgiven.

python tools/analysis_tools/coco_error_analysis.py results.json work_dirs/errors --ann annotations/val.json

C75, C50: as detected, at IoU 0.75 and 0.5. Loc: at IoU 0.1, misplaced boxes forgiven. Sim: confusions inside a
supercategory forgiven too. Oth: confusions of all classes. BG: detections of nothing. FN: missed objects, so 1.
(Hoiem et al., "Diagnosing error in object detectors", ECCV 2012, as COCO's own analysis has it.)
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

FORGIVEN = "hatdet_forgiven"
STEPS = ("C75", "C50", "Loc", "Sim", "Oth", "BG", "FN")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", metavar="RESULTS.json", help="detections (tools/test.py CONFIG MODEL --results FILE)")
    parser.add_argument("out_dir", metavar="DIR", help="a chart for each class, one of all, and errors.json")
    parser.add_argument("--ann", default="data/coco/annotations/instances_val2017.json", help="COCO annotations")
    parser.add_argument("--types", nargs="+", choices=("bbox",), default=["bbox"], help="only bbox")
    parser.add_argument("--score-thr", "--score_thr", type=float, help="leave detections below it out")


def run(args: argparse.Namespace) -> None:
    from hatdet.commands.analysis.data import read_results

    results = read_results(args.result)
    if args.score_thr is not None:
        results = [one for one in results if float(one["score"]) >= args.score_thr]
    if not results:
        raise UserError(f"{args.result} has no detections to analyse; give another file, or a lower --score-thr")
    if not Path(args.ann).is_file():
        raise UserError(f"no annotations at {args.ann}; name those of the images with --ann")
    curves = analyse(json.loads(Path(args.ann).read_text(encoding="utf-8")), results)
    folder = Path(args.out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    areas = {name: {step: area(points) for step, points in of.items()} for name, of in curves.items()}
    for name, of in curves.items():
        (folder / f"{_file_name(name)}.svg").write_text(_chart(name, of), encoding="utf-8")
    (folder / "errors.json").write_text(json.dumps(areas, indent=2) + "\n", encoding="utf-8")
    print(table(areas))
    print(f"wrote {folder}")


def analyse(truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Precision at 101 recalls after each step, of every class with objects and of ``all`` (their mean)."""
    names = {int(c["id"]): str(c["name"]) for c in truth["categories"]}
    groups = {int(c["id"]): c.get("supercategory") or c["name"] for c in truth["categories"]}
    present = sorted({int(a["category_id"]) for a in truth["annotations"] if not a.get("iscrowd")})
    curves = {}
    plain = precision(truth, results, present, (0.75, 0.5, 0.1))
    for number, category in enumerate(present):
        similar = {c for c in names if groups[c] == groups[category] and c != category}
        found = dict(zip(("C75", "C50", "Loc"), plain[:, :, number].tolist(), strict=True))
        for step, others in (("Sim", similar), ("Oth", set(names) - {category})):
            forgiving, same = forgive(truth, results, category, others)
            found[step] = precision(forgiving, same, [category], (0.1,))[0, :, 0].tolist()
        found["BG"] = [1.0 if value > 0 else 0.0 for value in found["Oth"]]
        found["FN"] = [1.0] * len(found["BG"])
        curves[names[category]] = found
    if not curves:
        raise UserError("the annotations hold no object; give those of the images with --ann")
    mean = {s: [sum(v) / len(v) for v in zip(*(of[s] for of in curves.values()), strict=True)] for s in STEPS}
    return {"all": mean, **curves}


def forgive(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], category: int, others: set[int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects of ``others`` stand for ``category`` and count neither way, so that detections on them are no errors."""
    annotations = []
    for one in truth["annotations"]:
        if one["category_id"] in others:
            annotations.append({**one, "category_id": category, FORGIVEN: True})
        elif one["category_id"] == category:
            annotations.append(one)
    return {**truth, "annotations": annotations}, [one for one in results if one["category_id"] == category]


def precision(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], categories: Sequence[int], ious: Sequence[float]
) -> Any:
    """(IoUs, 101 recalls, categories) of COCO's evaluation, 0 where a recall is not reached."""
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints of its progress
        there = COCO()
        there.dataset = copy.deepcopy(truth)
        there.createIndex()
        images = {int(image["id"]) for image in truth["images"]}
        kept = [dict(one) for one in results if int(one["image_id"]) in images]
        found = there.loadRes(kept) if kept else there.loadRes([_nothing(truth, categories)])
        evaluation = COCOeval(there, found, "bbox")
        prepare = evaluation._prepare

        def prepare_and_forgive() -> None:  # it asks for iscrowd alone, which has another overlap
            prepare()
            _ignore(evaluation)

        evaluation._prepare = prepare_and_forgive
        parameters = evaluation.params
        parameters.catIds, parameters.iouThrs = list(categories), np.array(ious)
        parameters.maxDets, parameters.areaRng, parameters.areaRngLbl = [100], [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return np.maximum(evaluation.eval["precision"][:, :, :, 0, 0], 0)


def _ignore(evaluation: Any) -> None:
    """Let forgiven objects count neither way."""
    for objects in evaluation._gts.values():
        for one in objects:
            one["ignore"] = one["ignore"] or one.get(FORGIVEN, False)


def _nothing(truth: dict[str, Any], categories: Sequence[int]) -> dict[str, Any]:
    """A detection that hits nothing: an empty list of results is refused."""
    image = truth["images"][0]["id"]
    return {"image_id": image, "category_id": categories[0], "bbox": [-9.0, -9.0, 1.0, 1.0], "score": 0.0}


def area(points: Sequence[float]) -> float:
    """Under the curve: the mean over the recalls."""
    return sum(points) / len(points)


def table(areas: dict[str, dict[str, float]]) -> str:
    """A line a class."""
    lines = [f"{'class':<24}" + "".join(f"{step:>8}" for step in STEPS)]
    lines += [f"{name[:23]:<24}" + "".join(f"{of[step]:>8.3f}" for step in STEPS) for name, of in areas.items()]
    return "\n".join(lines)


def _chart(name: str, of: dict[str, list[float]]) -> str:
    from hatdet.visualization.charts import line_chart

    lines = {f"{s} {area(of[s]):.3f}": [(i / 100, value) for i, value in enumerate(of[s])] for s in STEPS}
    return line_chart(lines, f"{name}: precision as errors are forgiven", "recall", "precision", (0, 1), (0, 1))


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


main = command(__doc__, add_arguments, run)
