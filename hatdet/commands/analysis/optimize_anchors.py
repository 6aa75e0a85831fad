"""Anchor sizes that fit a data set, for detectors whose anchors are base sizes (YOLOv3).

python tools/analysis_tools/optimize_anchors.py CONFIG --algorithm k-means --output-dir work_dirs/anchors

k-means: centres of the boxes' sizes by 1 - IoU (YOLO9000, arXiv 1612.08242); differential_evolution: the sizes of which
each box finds a better one on average; v5-k-means: k-means, then mutations for the share that an anchor of at most
four times the sides covers. The numbers go into anchor_generator.base_sizes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Sizes = NDArray[np.float64]

MOST_SIDES = 4.0
"""An anchor covers a box whose sides are at most so many times longer or shorter (v5-k-means)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--algorithm", choices=("k-means", "differential_evolution", "v5-k-means"),
                        default="differential_evolution", help="default: differential_evolution")  # fmt: skip
    parser.add_argument("--input-shape", "--input_shape", nargs="+", type=int, default=[608, 608], metavar="N",
                        help="width and height of the network's input (default: 608 608)")  # fmt: skip
    parser.add_argument("--iters", type=int, default=1000, help="iterations (default: 1000)")
    parser.add_argument("--num-anchors", "--num_anchors", type=int, help="default: as many as the config has, or 9")
    parser.add_argument("--output-dir", "--output_dir", metavar="DIR", help="anchor_optimize_result.json goes there")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0)")
    parser.add_argument("--device", default="cpu", help="means nothing: numpy does this")


def run(args: argparse.Namespace) -> None:
    if len(args.input_shape) > 2 or min(args.input_shape) < 1 or args.iters < 1:
        raise UserError(
            "--input-shape takes one or two positive numbers, width and height, --iters at least 1; correct them"
        )
    config = load_from_args(args)
    width, height = args.input_shape * 2 if len(args.input_shape) == 1 else args.input_shape

    from hatdet.commands.analysis.data import load_loader

    levels = _levels(config)
    count = args.num_anchors or sum(levels) or 9
    sizes = box_sizes(load_loader(config, "train").dataset, width, height)
    if len(sizes) < count:
        raise UserError(f"{len(sizes)} boxes cannot say {count} anchors; use more images, or --num-anchors")
    anchors = optimize(sizes, count, args.algorithm, args.iters, args.seed)
    order = anchors[(anchors[:, 0] * anchors[:, 1]).argsort()]
    print(f"mean IoU of {len(sizes)} boxes with the best of {count} anchors: {mean_iou(sizes, order):.4f}")
    rounded = [[round(float(w)), round(float(h))] for w, h in order]
    base_sizes = _by_level(rounded, levels if sum(levels) == count else [])
    print(f"base_sizes = {base_sizes}")
    if args.output_dir:
        target = Path(args.output_dir) / "anchor_optimize_result.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(rounded) + "\n", encoding="utf-8")
        print(f"wrote {target}")


def _levels(config: Any) -> list[int]:
    """Anchors of each level, coarsest first as the config has them; empty where it has no base sizes."""
    head = (config.get("model") or {}).get("bbox_head") or {}
    generator = head.get("anchor_generator") or head.get("prior_generator") or {}
    base = generator.get("base_sizes") or []
    return [len(level) for level in base if isinstance(level, (list, tuple))]


def _by_level(sizes: list[list[int]], levels: list[int]) -> list[list[list[int]]]:
    """Large anchors for the first level, which is the coarsest; all in one where there are no levels."""
    if not levels:
        return [sizes]
    found, rest = [], sizes
    for number in levels:
        found.append(rest[len(rest) - number :])
        rest = rest[: len(rest) - number]
    return found


def box_sizes(dataset: Any, width: int, height: int) -> Sizes:
    """(n, 2) width and height of all boxes as a picture that fits into ``width`` x ``height`` has them."""
    import numpy as np

    content = dataset.coco_annotations()
    scales = {int(i["id"]): min(width / i["width"], height / i["height"]) for i in content["images"]}
    kept = [a for a in content["annotations"] if not a.get("iscrowd") and min(a["bbox"][2:]) > 0]
    return np.array([[side * scales[int(a["image_id"])] for side in a["bbox"][2:]] for a in kept]).reshape(-1, 2)


def iou(sizes: Sizes, anchors: Sizes) -> Sizes:
    """(n, k) of boxes and anchors with one centre."""
    import numpy as np

    inside = np.minimum(sizes[:, None], anchors[None]).prod(axis=2)
    return inside / (sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - inside)  # type: ignore[no-any-return]


def mean_iou(sizes: Sizes, anchors: Sizes) -> float:
    """Of each box with its best anchor."""
    return float(iou(sizes, anchors).max(axis=1).mean())


def optimize(sizes: Sizes, count: int, algorithm: str, iterations: int, seed: int) -> Sizes:
    """(count, 2) width and height of the anchors."""
    import numpy as np

    random = np.random.default_rng(seed)
    if algorithm == "differential_evolution":
        return evolve(sizes, count, iterations, random)
    centres = k_means(sizes, count, iterations, random)
    return centres if algorithm == "k-means" else mutate(sizes, centres, iterations, random)


def k_means(sizes: Sizes, count: int, iterations: int, random: Any) -> Sizes:
    """Lloyd's iterations with 1 - IoU as the distance, from boxes that are drawn."""
    import numpy as np

    centres = sizes[random.choice(len(sizes), count, replace=False)].copy()
    nearest = np.full(len(sizes), -1)
    for _ in range(iterations):
        now = iou(sizes, centres).argmax(axis=1)
        if (now == nearest).all():
            break
        nearest = now
        for k in range(count):
            if (nearest == k).any():
                centres[k] = sizes[nearest == k].mean(axis=0)
    return centres


def evolve(sizes: Sizes, count: int, iterations: int, random: Any) -> Sizes:
    """Differential evolution (best/1/bin; Storn and Price, 1997) of the mean best IoU."""
    import numpy as np

    low, high = sizes.min(axis=0), sizes.max(axis=0)
    people = low + (high - low) * random.random((15, count, 2))
    fitness = np.array([mean_iou(sizes, one) for one in people])
    for _ in range(iterations):
        for i in range(len(people)):
            a, b = people[random.choice(len(people), 2, replace=False)]
            mutant = np.clip(people[fitness.argmax()] + random.uniform(0.5, 1.0) * (a - b), low, high)
            trial = np.where(random.random((count, 2)) < 0.7, mutant, people[i])
            value = mean_iou(sizes, trial)
            if value >= fitness[i]:
                people[i], fitness[i] = trial, value
    return people[fitness.argmax()]  # type: ignore[no-any-return]


def mutate(sizes: Sizes, anchors: Sizes, iterations: int, random: Any) -> Sizes:
    """Keep random changes of the anchors that raise how well they cover the boxes."""
    import numpy as np

    def fitness(candidates: Sizes) -> float:
        ratio = sizes[:, None] / candidates[None]
        worst = np.minimum(ratio, 1 / ratio).min(axis=2).max(axis=1)
        return float((worst * (worst > 1 / MOST_SIDES)).mean())

    return climb(anchors, fitness, iterations, random)


def climb(anchors: Sizes, fitness: Callable[[Sizes], float], iterations: int, random: Any) -> Sizes:
    """The best of ``iterations`` factors around 1 on nine sides in ten."""
    import numpy as np

    best, value = anchors, fitness(anchors)
    for _ in range(iterations):
        change = np.where(random.random(anchors.shape) < 0.9, random.random() * random.normal(0, 0.1, anchors.shape), 0)
        trial = best * np.clip(1 + change, 0.3, 3.0)
        if (found := fitness(trial)) > value:
            best, value = trial, found
    return best


main = command(__doc__, add_arguments, run)
