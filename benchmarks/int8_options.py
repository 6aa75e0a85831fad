"""What each option of calibration and QAT is worth, from one float model: AP of the integer model for every option and
seed, how far its outputs are from those of the float model, and the table of medians.

python -m benchmarks.int8_options --config CONFIG --float CHECKPOINT --out FOLDER --rows calibration qat \\
    --seeds 0 1 2 --cfg-options data_root=my_data/ num_classes=3
python -m benchmarks.int8_options --out FOLDER FOLDER2 --table

The seed is that of the images that calibration draws, and of QAT's order and augmentation; the float model is one.
Cells that differ in what is done after the ranges are known share one pass over the images; those that are in
FOLDER/cells.jsonl already are not measured again.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import logging
import math
import shutil
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.config.options import parse_options
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.evaluation import evaluate
from hatdet.engine.run import prepared, train
from hatdet.engine.stages import best_checkpoint, predictor_config, trainer_config
from hatdet.quantization.ptq.refine import Refinement
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.seed import seed_everything

Options = dict[str, Any]
REFINEMENTS: dict[str, Options] = {
    "": {},
    "bias_correction": {"bias_correction": True},
    "adaround": {"weight_rounding": "adaround"},
    "adaround + bias_correction": {"weight_rounding": "adaround", "bias_correction": True},
}
"""What is done to the weights once the ranges are known."""
BATCHES = 2
"""Of the validation, whose outputs are compared with the float model's."""
QAT: dict[str, Options] = {
    "": {},
    "no EMA": {"qat_ema": False},
    "damping 0.5": {"qat_oscillation_damping": 0.5},
    "float model as teacher": {"qat_teacher": "float"},
    "learned scales (LSQ)": {"qat_scales": "learned"},
    "adaround + bias_correction": {"weight_rounding": "adaround", "bias_correction": True},
}
"""Options of the whole road to QAT's end, calibration included."""
OPTIONS = {"calibration": REFINEMENTS, "qat": QAT}
"""By row."""


class Cells:
    """What was measured, a line of JSON a cell."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "cells.jsonl"
        self.rows: list[dict[str, Any]] = []
        if self.file.is_file():
            self.rows = [json.loads(line) for line in self.file.read_text().splitlines()]

    def has(self, **key: Any) -> bool:
        return any(all(row.get(name) == value for name, value in key.items()) for row in self.rows)

    def add(self, values: Mapping[str, float], seconds: float, noise: float | None = None, **key: Any) -> None:
        decibels = {} if noise is None else {"dB": round(noise, 2)}
        row = {**key, **decibels, "AP": values["AP"], "AP50": values["AP50"], "seconds": round(seconds, 1)}
        self.rows.append(row)
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


class Refined(Callback):
    """At the end of a calibration: scores every refinement of the ranges that were found."""

    def __init__(self, cells: Cells, key: Mapping[str, Any], names: Sequence[str]) -> None:
        self.cells, self.measured, self.names = cells, dict(key), names

    def on_epoch_end(self, loop: Any) -> None:
        model = loop.model
        found = copy.deepcopy(model.state_dict())
        images = [model.preprocess(b["img"]) for b in itertools.islice(loop.val_data_loader, BATCHES)]
        model.set_quantizing(False)
        reference = outputs(model, images)
        for name in self.names:
            model.load_state_dict(found)
            model.set_observing(False)
            model.set_quantizing(True)
            begin = time.perf_counter()
            model.refinement = Refinement(**REFINEMENTS[name])
            loop._refine()
            took = time.perf_counter() - begin
            values = evaluate(
                model=model, data_loader=loop.val_data_loader, metric=loop.val_metrics,
                batch_processor=loop.batch_processor, device=loop.device,
            )  # fmt: skip
            noise = signal_to_noise(reference, outputs(model.evaluation_model(), images))
            self.cells.add(values, took, noise, **self.measured, option=name)


@torch.no_grad()
def outputs(model: Any, images: Sequence[Tensor]) -> list[Tensor]:
    """Each raw map of a model on all images, as one row of numbers."""
    model.eval()
    maps = [model.run_network(x) for x in images]
    return [torch.cat([one.flatten() for one in kind]) for kind in zip(*maps, strict=True)]


def signal_to_noise(reference: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """10 log10(energy of the deviations from the mean / energy of the error), the mean over the outputs."""
    ratios = [
        float((a - a.mean()).square().sum() / (a - b).square().sum().clamp(min=1e-30))
        for a, b in zip(reference, other, strict=True)
    ]
    return statistics.mean(10.0 * math.log10(ratio) for ratio in ratios)


def float_row(config: Config, checkpoint: Path, cells: Cells) -> None:
    if cells.has(row="float"):
        return
    name, cfg = predictor_config(config, "float", checkpoint)
    begin = time.perf_counter()
    values = Builder(config).build(cfg, name).predict()
    cells.add(values, time.perf_counter() - begin, row="float", observer="", option="", seed=0)


def calibration_row(config: Config, cells: Cells, observer: str, seed: int, names: Iterable[str]) -> None:
    """One pass over the images, and every option that is not measured yet."""
    key = {"row": "calibration", "observer": observer, "seed": seed}
    missing = [name for name in names if not cells.has(**key, option=name)]
    if not missing:
        return
    cfg = trainer_config(prepared(config, "calibration"), "calibration", seed=seed)
    cfg["callbacks"] = []
    seed_everything(seed)
    trainer = Builder(config).build(cfg, "calibration_trainer")
    trainer.add_callback(Refined(cells, key, missing))
    trainer.fit()


def qat_row(config: Config, cells: Cells, observer: str, seed: int, name: str) -> None:
    """Calibration and QAT as the two commands run them."""
    key: dict[str, Any] = {"row": "qat", "observer": observer, "seed": seed, "option": name}
    if cells.has(**key):
        return
    begin = time.perf_counter()
    train(config, "calibration", seed=seed)
    train(config, "qat", seed=seed)
    values = load_checkpoint(best_checkpoint(config, "qat"))["metrics"]  # what ships, not the last epoch
    cells.add(values, time.perf_counter() - begin, **key)


def table(cells: Sequence[dict[str, Any]], title: str) -> list[str]:
    """Markdown rows: medians over seeds, with the difference to float in points of AP."""
    float_ap = next((row["AP"] for row in cells if row["row"] == "float"), None)
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in cells:
        groups.setdefault((row["row"], row["observer"], row["option"]), []).append(row)
    lines = []
    for (kind, observer, option), rows in groups.items():
        values = [row["AP"] for row in sorted(rows, key=lambda row: row["seed"])]
        middle = statistics.median(values)
        apart = "" if float_ap is None or kind == "float" else f"{100 * (middle - float_ap):+.2f}"
        shown = ", ".join(f"{value:.4f}" for value in values)
        seconds = statistics.median(row["seconds"] for row in rows)
        ap50 = statistics.median(row["AP50"] for row in rows)
        noise = [row["dB"] for row in rows if "dB" in row]
        decibels = f"{statistics.median(noise):.1f}" if noise else ""
        last = [f"{middle:.4f}", apart, f"{ap50:.4f}", decibels, f"{seconds:.0f}"]
        cell = [title, kind, observer, option or "-", shown, *last]
        lines.append(f"| {' | '.join(cell)} |")
    return lines


HEAD = [
    "| model | stage | observer | option | AP by seed | median | to float, points | AP50 | dB | s |",
    "|---|---|---|---|---|---|---|---|---|---|",
]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config")
    parser.add_argument("--float", dest="checkpoint", metavar="CHECKPOINT", help="float weights")
    parser.add_argument("--out", nargs="+", required=True, metavar="FOLDER", help="with --table: any number of them")
    parser.add_argument("--rows", nargs="+", choices=OPTIONS, default=["calibration"])
    parser.add_argument("--observers", nargs="+", default=["mse"])
    parser.add_argument("--options", nargs="+", help="of the tables in this file; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="show what was measured, measure nothing")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(words)
    if args.table:
        print("\n".join([*HEAD, *(line for f in args.out for line in table(Cells(Path(f)).rows, Path(f).name))]))
        return 0
    if args.config is None or args.checkpoint is None:
        parser.error("--config and --float say what is measured")
    known = [name for row in args.rows for name in OPTIONS[row]]
    if unknown := [name for name in args.options or () if name not in known]:
        parser.error(f"--options {unknown[0]!r}: with --rows {' '.join(args.rows)} there are {known}")
    logging.basicConfig(level=logging.WARNING)
    folder, cells = Path(args.out[0]), Cells(Path(args.out[0]))
    given = {**parse_options(args.cfg_options), "work_dir": str(folder / "run"), "run_pictures": False}
    start = folder / "run" / "float-checkpoint-best.pth.tar"
    start.parent.mkdir(exist_ok=True)
    shutil.copyfile(args.checkpoint, start)
    float_row(load_config(args.config, given), start, cells)
    for row in args.rows:
        names = [name for name in OPTIONS[row] if args.options is None or name in args.options]
        for observer in args.observers:
            for seed in args.seeds:
                one = {**given, "calibration_observer": observer, "seed": seed}
                if row == "calibration":
                    calibration_row(load_config(args.config, one), cells, observer, seed, names)
                for name in names if row == "qat" else ():
                    qat_row(load_config(args.config, one | QAT[name]), cells, observer, seed, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
