"""The files and the table that tools/quant_analysis.py leaves."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hatdet.engine.callbacks.monitor import is_measured
from hatdet.export.delivery import write_json
from hatdet.quantization.analysis.result import AnalysisResult, LayerRow
from hatdet.visualization.draw import Image
from hatdet.visualization.quant_report import write_report

CSV_NAME, JSON_NAME, HTML_NAME = "layers.csv", "quant_analysis.json", "quant_analysis.html"
SHOWN_LAYERS = 10


def write_outputs(result: AnalysisResult, folder: Path, pictures: Sequence[Image | None] = ()) -> list[Path]:
    """Write ``layers.csv``, ``quant_analysis.json`` and ``quant_analysis.html``, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write_csv(result.layers, folder / CSV_NAME),
        write_json(folder / JSON_NAME, record(result)),
        write_report(result, folder / HTML_NAME, pictures),
    ]


def record(result: AnalysisResult) -> dict[str, Any]:
    """The result as what JSON can hold: infinite decibels are the texts "inf" and "-inf", unknown ones null."""
    return _plain(
        {
            "reference": result.reference,
            "tested": result.tested,
            "images": result.images,
            "arithmetic": result.arithmetic or None,
            "sensitivity": result.measure,
            "outputs_sqnr": result.outputs_sqnr,
            "output_sqnr": result.output_sqnr,
            "metrics": result.metrics,
            "notes": result.notes,
            "input": result.source.plain(),
            "layers": [{**row.plain(), "codes": list(row.codes)} for row in result.layers],
            "mixed_precision": [row.name for row in result.mixed_precision()],
            "kept_float_curve": [{"layers": count, "outputs_sqnr": value} for count, value in result.curve],
            "worst_images": [row.plain() for row in result.worst_images],
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return None if isinstance(value, float) and math.isnan(value) else value


def _write_csv(rows: Sequence[LayerRow], path: Path) -> Path:
    text = io.StringIO(newline="")
    columns = [f.name for f in fields(LayerRow) if f.name not in ("advice", "codes")]
    writer = csv.DictWriter(text, [*columns, "advice", "advice_text"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.plain().items()})
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text.getvalue(), encoding="utf-8")
    os.replace(temporary, path)
    return path


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.9g}"
    return "" if value is None else value


def format_table(result: AnalysisResult, count: int = SHOWN_LAYERS) -> str:
    """The layers that matter most, for a console."""
    sensitive, ap = result.measure != "off", result.measure == "ap"
    header = (
        f"{'#':>3}  {'layer':<46} {'kind':<12} {'own dB':>7} {'flow dB':>7} {'max LSB':>8} {'clipped':>8} {'codes':>5}"
    )
    header += f" {'share':>6} {'kept dB':>7}" if sensitive else ""
    header += f" {'AP lost':>8}" if ap else ""
    lines = [header]
    for row in result.layers[:count]:
        clipped = f"{100 * (row.clipped_low + row.clipped_high):.2f}%"
        line = f"{row.rank:>3}  {_short(row.name, 46):<46} {row.kind:<12} {row.own_sqnr:>7.1f} {row.sqnr:>7.1f}"
        line += f" {row.max_lsb:>8.1f} {clipped:>8} {row.distinct_codes:>5}"
        line += f" {100 * row.noise_share:>5.1f}% {row.kept_gain:>+7.2f}" if sensitive else ""
        line += f" {'-' if math.isnan(row.ap_drop) else format(row.ap_drop, '.4f'):>8}" if ap else ""
        lines.append(line)
        lines += [f"       {advice.kind}: {advice.text}" for advice in row.advice]
    return "\n".join(lines)


def format_summary(result: AnalysisResult) -> str:
    """What the whole network loses, and what to keep float first."""
    each = ", ".join(f"{name} {value:.1f}" for name, value in result.output_sqnr.items())
    lines = [f"{result.tested} against {result.reference} on {result.images} images"]
    lines += [f"arithmetic of the integers: {result.arithmetic}"] if result.arithmetic else []
    lines.append(f"SQNR of the outputs: {result.outputs_sqnr:.1f} dB ({each})")
    for name, values in result.metrics.items():
        lines.append(f"{name}: AP {values['AP']:.4f}" if is_measured(values["AP"]) else f"{name}: AP not measured")
    if len(result.curve) > 1:
        shown = ", ".join(f"{count} layers {value:.1f} dB" for count, value in result.curve)
        lines.append(f"outputs with the most sensitive layers kept float: {shown}")
    return "\n".join([*lines, *(f"note: {note}" for note in result.notes)])


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else "..." + name[3 - length :]
