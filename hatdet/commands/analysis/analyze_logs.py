"""Curves and times of training runs.

python tools/analysis_tools/analyze_logs.py plot_curve work_dirs/a/float/results.csv --keys loss_cls AP --out curves.svg
python tools/analysis_tools/analyze_logs.py cal_train_time work_dirs/a/float/results.csv

A log is a run's results.csv (or the folder it is in), or the JSON lines of an MMDetection run (vis_data/scalars.json,
2.x: DATE.log.json).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError, did_you_mean

Columns = dict[str, list[tuple[float, float]]]
"""Name -> points (epoch, value)."""
SAME = {"bbox_mAP": "AP", "bbox_mAP_50": "AP50", "bbox_mAP_75": "AP75", "mAP": "AP"}
"""MMDetection's names of values, and ours."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    plot = tasks.add_parser("plot_curve", help="draw values over the epochs")
    plot.add_argument("json_logs", nargs="+", metavar="LOG", help="results.csv of a run, its folder, or JSON lines")
    plot.add_argument("--keys", nargs="+", default=["AP"], help="values drawn (default: AP; bbox_mAP is the same)")
    plot.add_argument("--title", default="", help="of the picture")
    plot.add_argument("--legend", nargs="+", help="a name for each curve, log after log")
    plot.add_argument("--out", metavar="FILE.svg", help="the picture (default: curves.svg beside the first log)")
    plot.add_argument("--start-epoch", "--start_epoch", type=int, default=1, help="leave earlier epochs out")
    times = tasks.add_parser("cal_train_time", help="seconds of an epoch: mean, slowest, fastest")
    times.add_argument("json_logs", nargs="+", metavar="LOG", help="as above")
    times.add_argument("--include-outliers", action="store_true", help="count the first epoch too, which warms up")


def run(args: argparse.Namespace) -> None:
    logs = {path: read_log(path) for path in args.json_logs}
    if args.task == "cal_train_time":
        for path, columns in logs.items():
            print(f"{path}\n{times_text(columns, args.include_outliers, path)}")
        return
    out = Path(args.out) if args.out else _folder(args.json_logs[0]) / "curves.svg"
    text = plot(logs, args.keys, args.legend, args.title, args.start_epoch)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(f"wrote {out}")


def read_log(path: str) -> Columns:
    """The values of a log by name, each over the epoch.

    Raises:
        UserError: there is no such log, or nothing in it.
    """
    file = Path(path)
    file = file / "results.csv" if file.is_dir() else file
    if file.suffix == ".csv":
        from hatdet.metrics.history import read_history, series

        columns = read_history(file)
        named = {name: series(columns, "epoch", name) for name in columns if name != "epoch"}
        found = {_short(name, named): points for name, points in named.items()}
    else:
        found = _json_lines(file)
    if not any(found.values()):
        raise UserError(
            f"{path} holds no values of epochs; give the results.csv of a run, or MMDetection's scalars.json"
        )
    return {SAME.get(name, name): points for name, points in found.items()}


def _short(name: str, all_names: Columns) -> str:
    """``train/loss_cls`` as ``loss_cls``, where no other column is called so."""
    short = name.rpartition("/")[2]
    return short if sum(other.rpartition("/")[2] == short for other in all_names) == 1 else name


def _json_lines(file: Path) -> Columns:
    """Of lines that are one JSON object each; means over an epoch of what is told several times in it."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"no log at {file}; give the results.csv of a run, or MMDetection's scalars.json") from None
    sums: dict[str, dict[float, list[float]]] = {}
    epoch = 0.0
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line) if line.strip() else {}
        except ValueError:
            raise UserError(f"{file}, line {number}: not JSON; give a log of one JSON object a line") from None
        if not isinstance(values, dict):
            continue
        validated = any(name.endswith("mAP") for name in values)  # MMEngine writes the epoch of these under step
        told = values.get("epoch", values.get("step") if validated else None)
        epoch = float(told) if isinstance(told, (int, float)) else epoch
        for name, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                sums.setdefault(name.rpartition("/")[2], {}).setdefault(epoch, []).append(float(value))
    return {name: [(e, sum(v) / len(v)) for e, v in sorted(of.items())] for name, of in sums.items()}


def times_text(columns: Columns, include_first: bool, path: str) -> str:
    """Lines about the seconds of the epochs.

    Raises:
        UserError: the log has no times.
    """
    points = columns.get("time/epoch") or columns.get("epoch") or columns.get("time") or []
    points = [p for p in points if p[0] >= 1]
    chosen = points if include_first or len(points) < 2 else points[1:]
    if not chosen:
        raise UserError(f"{path} has no times; give the results.csv of a run, or --include-outliers for one epoch")
    values = [value for _, value in chosen]
    slowest, fastest = max(chosen, key=lambda p: p[1]), min(chosen, key=lambda p: p[1])
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    return (
        f"slowest epoch {slowest[0]:g}, {slowest[1]:.4f} s\nfastest epoch {fastest[0]:g}, {fastest[1]:.4f} s\n"
        f"standard deviation {spread:.4f} s\nmean {mean:.4f} s\n"
    )


def plot(logs: dict[str, Columns], keys: Sequence[str], legend: Sequence[str] | None, title: str, start: int) -> str:
    """The chart as SVG text.

    Raises:
        UserError: a value that a log does not have, or another number of names than curves.
    """
    from hatdet.visualization.charts import line_chart

    curves: list[tuple[str, list[tuple[float, float]]]] = []
    for path, columns in logs.items():
        for key in (SAME.get(key, key) for key in keys):
            if key not in columns:
                near = did_you_mean(key, columns)
                raise UserError(f"{path} has no {key}{near}; it has {', '.join(sorted(columns))}; name one with --keys")
            name = f"{Path(path).stem if len(logs) > 1 else ''} {key}".strip()
            curves.append((f"{name} ({path})" if name in dict(curves) else name, columns[key]))
    if legend is not None and len(legend) != len(curves):
        raise UserError(f"--legend names {len(legend)} curves, there are {len(curves)}; name each, or leave it out")
    names = legend or [name for name, _ in curves]
    lines = {n: [p for p in points if p[0] >= start] for n, (_, points) in zip(names, curves, strict=True)}
    return line_chart(lines, title or ", ".join(keys), "epoch")


def _folder(path: str) -> Path:
    return Path(path) if Path(path).is_dir() else Path(path).parent


main = command(__doc__, add_arguments, run)
