"""What quantization costs layer by layer, and what the model costs on a device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hatdet.commands.report.reading import RunFacts
from hatdet.commands.report.training import CHART, number
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.profiles.table import PROFILES
from hatdet.visualization.charts import line_chart
from hatdet.visualization.page.blocks import bar_table, chart, charts, facts, heading, missing, paragraph, table
from hatdet.visualization.page.page import Page

TOP = 10


def quantization_section(page: Page, run: RunFacts) -> None:
    """The layers that lose the most."""
    found = run.quantization
    if found is None:
        command = run.lacks("quantization by layer", run.command("quant-analysis"))
        text = "Which layers lose accuracy to quantization was not measured."
        page.section("Quantization by layer", missing(text, command))
        return
    rows = sorted(found["layers"], key=lambda row: row["index"])
    lines = {
        "own error": [(float(r["index"]), _decibels(r["own_sqnr"])) for r in rows],
        "accumulated": [(float(r["index"]), _decibels(r["sqnr"])) for r in rows],
    }
    title = "Signal to noise of every layer, dB (higher is better)"
    svg = line_chart(lines, title, "layer", "dB", **CHART)  # type: ignore[arg-type]
    text = (
        f"{found['tested']} against {found['reference']} on {found['images']} pictures: outputs at "
        f"{_shown(found['outputs_sqnr'])}. The layers that matter most:"
    )
    shares = [row["noise_share"] or 0.0 for row in found["layers"][:TOP]]
    top = max(shares, default=0.0) or 1.0
    layers = [
        (row["name"], share / top, f"{share:.1%}", _shown(row["own_sqnr"]), row["kind"], row["advice"] or "–")
        for row, share in zip(found["layers"][:TOP], shares, strict=True)
    ]
    header = ["layer", "", "noise share", "own", "kind", "finding"]
    advice = [row for row in found["layers"][:TOP] if row["advice_text"]]
    gaps = "Gaps are layers that make no error of their own."
    blocks = [paragraph(text), charts(bar_table(header, layers), chart(svg, title, list(lines), gaps))]
    blocks += [paragraph(f"{row['name']}: {row['advice_text']}", "soft") for row in advice[:3]]
    blocks += [paragraph(f"Note: {note}", "soft") for note in found["notes"]]
    blocks.append(paragraph("All layers: quant_analysis/quant_analysis.html in the run's folder.", "soft"))
    page.section("Quantization by layer", *blocks, wide=True)


def _decibels(value: Any) -> float:
    """Of the json: "inf" is exact, null unknown; both break the line."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def _shown(value: Any) -> str:
    return f"{value:.1f} dB" if isinstance(value, (int, float)) else "exact" if value == "inf" else "unknown"


def deployment_section(page: Page, run: RunFacts) -> None:
    """Size, memory, latency, other kernels."""
    if run.model is None:
        command = run.lacks("the file for the device", run.command("export", "--evaluate"))
        text = "There is no int8 .tflite in the folder: size, memory and latency are not known."
        page.section("Deployment", missing(text, command))
        return
    blocks = [paragraph(run.model.name), facts(run.memory)]
    run.absent += [f"{name}: {text}" for name, text in run.memory.items() if text.startswith("not ")]
    if (run.export or {}).get("ok") is False:
        blocks.append(paragraph("The checks of the export did not all pass; export says which.", "bad"))
    blocks += [heading("Estimated latency"), *_latency(run), heading("Other kernels"), *_drift(run)]
    page.section("Deployment", *blocks, double=True)


def _latency(run: RunFacts) -> list[str]:
    if not run.vela:
        command = run.lacks("latency on an Ethos-U", run.command("compile-perf"))
        text = "Not estimated. For an Arm Ethos-U, Vela does; on this machine, `hatdet benchmark` measures."
        return [missing(text, command)]
    rows = []
    for found in run.vela:
        totals = found["totals"]
        operators = f"{totals['operators'] - totals['cpu_operators']} of {totals['operators']}"
        rows.append(
            [found["target"], f"{totals['latency_ms']:.2f} ms", f"{totals['fps']:.1f}",
             f"{totals['sram_bytes'] / 1024:.0f} KiB", f"{totals['flash_bytes'] / 1024:.0f} KiB", operators]
        )  # fmt: skip
    note = f"Estimates of Vela {run.vela[0]['vela']} for the system it was told, not measurements."
    if any(found["totals"]["cpu_operators"] for found in run.vela):
        note += " The part that is left to the CPU is not in them."
    header = ["target", "latency", "pictures/s", "SRAM", "flash", "operators on the NPU"]
    return [table(header, rows), paragraph(note, "soft")]


def _drift(run: RunFacts) -> list[str]:
    """What LiteRT's other kernels, for which the model is not made, make of the same file."""
    record: Mapping[str, Any] = run.export or {}
    parity: Mapping[str, Any] = record.get("parity") or {}
    evaluation: Mapping[str, Any] = record.get("evaluation") or {}
    profile = PROFILES.get(str(record.get("profile")), PROFILES[PROFILE])
    drift, scored = parity.get("default_kernels"), evaluation.get("tflite_default_kernels")
    if drift and drift.get("tensors") == []:
        drift = None  # they were left out, or refused the file
    usual = "reference" if profile.litert == "default" else "default"
    other = str((drift or {}).get("kernels", usual))  # of an arithmetic that LiteRT has not: its reference ones
    own = "reference" if other == "default" else "default"
    blocks = []
    if drift:
        rounded = (
            f"round otherwise: {drift['differing_share']:.1%} of the output values differ, by at most "
            f"{drift['max_lsb']} steps" if drift["max_lsb"] else "gave the same output values"
        )  # fmt: skip
        blocks.append(paragraph(f"The model is made for {profile.kernels}. LiteRT's {other} kernels {rounded}."))
    if second := parity.get("second"):
        first, *others = (line.strip() for line in second["text"])
        blocks.append(paragraph(f"{first[:1].upper()}{first[1:]} {'; '.join(others)}".strip() + "."))
    if scored:
        rows = [[name, number(values, "AP"), number(values, "AP50"), number(values, "AP75")] for name, values in
                ((own, evaluation["tflite"]), (other, scored))]  # fmt: skip
        blocks.append(table(["kernels", "AP", "AP50", "AP75"], rows))
    if not drift or not scored:
        command = run.lacks("drift under other kernels", run.command("export", "--verify", "16", "--evaluate"))
        what = "What other kernels make of its scores" if drift else "What other kernels make of the file"
        blocks.append(missing(f"{what} was not measured.", command))
    return blocks
