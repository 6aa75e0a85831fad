"""The page of tools/quant_analysis.py: which layers lose accuracy, and what to do about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from hatdet.quantization.analysis.result import AnalysisResult, LayerRow
from hatdet.visualization.charts import bar_chart, line_chart
from hatdet.visualization.draw import Image
from hatdet.visualization.report import HtmlReport

TOP = 10
_STYLE = """<style>
table.layers { font-size: 13px; width: 100%; } .layers th { cursor: pointer; position: sticky; top: 0;
background: var(--page); } .layers th, .layers td { padding: 3px 7px; }
.layers th[data-order="up"]::after { content: " \\25B2"; } .layers th[data-order="down"]::after
{ content: " \\25BC"; } .layers td.name { text-align: left; white-space: normal; overflow-wrap: anywhere;
min-width: 26em; } .layers td.kinds { text-align: left; }
.card { border: 1px solid var(--line); background: var(--card); border-radius: 6px; padding: 8px 14px; margin: 10px 0;
} .card h3 { margin: 0 0 4px; font-size: 15px; overflow-wrap: anywhere; } .card p { margin: 4px 0; }
.card svg { vertical-align: middle; max-width: 512px; } .card svg text { fill: var(--soft); }
.card svg rect { fill: var(--faint); } .card svg path { stroke: var(--bar); } .numbers { color: var(--soft);
font-size: 13px; } .tag { background: #b3261e; color: #fff; border-radius: 3px; padding: 0 6px; font-size: 12px;
margin-right: 6px; } .wide { overflow-x: auto; }
@media (max-width: 600px) { .layers td.name { min-width: 12em; } .card { overflow-x: auto; }
.card svg { width: 512px; max-width: none; } }
</style>"""
_SCRIPT = """<script>
for (const table of document.querySelectorAll("table.layers"))
  table.querySelectorAll("th").forEach((head, column) => head.addEventListener("click", () => {
    const up = head.dataset.order !== "up";
    for (const other of table.querySelectorAll("th")) delete other.dataset.order;
    head.dataset.order = up ? "up" : "down";
    const key = row => row.cells[column].dataset.v, body = table.tBodies[0];
    const compare = (a, b) => {
      const x = Number(key(a)), y = Number(key(b));
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      if (Number.isNaN(x) || Number.isNaN(y)) return (up ? 1 : -1) * key(a).localeCompare(key(b));
      return up ? x - y : y - x;
    };
    body.append(...[...body.rows].sort(compare));
  }));
</script>"""


class QuantReport(HtmlReport):
    """A report with a table that sorts by a click on a heading; without a browser's scripts it is a plain table."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._blocks.append(_STYLE)

    def layer_table(self, header: Sequence[tuple[str, str]], rows: Sequence[Sequence[tuple[str, float | str]]]) -> None:
        """A sortable table.

        Args:
            header: (heading, explanation shown on hovering). rows: (text, value to sort by); the second cell of a
                row is a name, the last one tags.
        """
        head = "".join(f'<th title="{escape(note)}">{escape(text)}</th>' for text, note in header)
        body = []
        for row in rows:
            cells = []
            for column, (text, value) in enumerate(row):
                css = ' class="name"' if column == 1 else ' class="kinds"' if column == len(row) - 1 else ""
                cells.append(f'<td{css} data-v="{escape(_sort_key(value))}">{escape(text)}</td>')
            body.append("<tr>" + "".join(cells) + "</tr>")
        table = f'<table class="layers"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
        self._blocks.append(f'<div class="wide">{table}</div>{_SCRIPT}')

    def card(self, row: LayerRow) -> None:
        """One layer: what is wrong, what to do, its numbers and how it uses its codes."""
        advice = [f'<p><span class="tag">{escape(a.kind)}</span>{escape(a.text)}</p>' for a in row.advice]
        advice = advice or ["<p>nothing unusual: its error is that of rounding to 8 bits</p>"]
        self._blocks.append(
            f'<div class="card"><h3>{row.rank}. {escape(row.name)} <span class="numbers">({escape(row.kind)}, '
            f"layer {row.index}{', output' if row.is_output else ''})</span></h3>{''.join(advice)}"
            f'<p class="numbers">{escape(_numbers(row))}</p>{code_histogram(row.codes)}</div>'
        )


def code_histogram(codes: Sequence[int], width: int = 512, height: int = 46) -> str:
    """How often each of the 256 codes is used, -128 left, 127 right. SVG, or nothing.

    Heights are square roots, relative to the second most frequent code: the most frequent one is often a zero that
    would leave nothing of the others.
    """
    if not any(codes):
        return ""
    top, step = math.sqrt(sorted(codes)[-2] or max(codes)), width / len(codes)
    bars = []
    for i, count in enumerate(codes):
        if count:
            h = min(height, max(1.0, height * math.sqrt(count) / top))
            bars.append(f"M{(i + 0.5) * step:.1f} {height}v{-h:.1f}")
    used = sum(1 for c in codes if c)
    title = f"{used} of {len(codes)} codes are used"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height + 14}" '
        f'viewBox="0 0 {width} {height + 14}" font-family="sans-serif" font-size="10" fill="#555">'
        f"<title>{title}</title>"
        f'<rect width="{width}" height="{height}" fill="#f6f6f6"/><path d="{"".join(bars)}" stroke="#2463b8" '
        f'stroke-width="{step:.1f}"/><text y="{height + 11}">-128</text><text x="{width}" y="{height + 11}" '
        f'text-anchor="end">127</text><text x="{width / 2}" y="{height + 11}" text-anchor="middle">{title}</text></svg>'
    )


def write_report(result: AnalysisResult, path: str | Path, pictures: Sequence[Image | None] = ()) -> Path:
    """Write the page.

    Args:
        pictures: one for each of ``result.worst_images``, or None.
    """
    report = QuantReport(f"Quantization: {result.tested} against {result.reference}")
    _summary(report, result)
    report.heading("The layers that matter")
    for row in result.layers[:TOP]:
        report.card(row)
    _charts(report, result)
    _mixed_precision(report, result)
    report.heading("All layers")
    report.text("A click on a heading sorts; hovering over it explains it.")
    report.layer_table(*_table(result))
    _images(report, result, pictures)
    return report.write(path)


def _summary(report: QuantReport, result: AnalysisResult) -> None:
    report.text(
        f"{result.images} validation images. SQNR of the outputs: {_db(result.outputs_sqnr)}. "
        "Own: the error that a layer makes by itself, on the reference's inputs. Accumulated: as it flows through the "
        "network." + (f" Integers follow the arithmetic {result.arithmetic}." if result.arithmetic else "")
    )
    report.table(["output", "SQNR"], [[name, _db(value)] for name, value in result.output_sqnr.items()])
    if result.metrics:
        keys = [k for k in ("AP", "AP50", "AP75") if all(k in v for v in result.metrics.values())]
        report.table(["stage", *keys], [[n, *(f"{v[k]:.4f}" for k in keys)] for n, v in result.metrics.items()])
    for note in result.notes:
        report.text(f"Note: {note}")


def _charts(report: QuantReport, result: AnalysisResult) -> None:
    report.heading("Along the network")
    rows = sorted(result.layers, key=lambda row: row.index)
    series = {
        "own": [(float(r.index), r.own_sqnr) for r in rows],
        "accumulated": [(float(r.index), r.sqnr) for r in rows],
    }
    report.chart(line_chart(series, "SQNR of every layer (dB)", "layer", "dB", width=900))
    if result.measure != "off":
        share = {_label(row): 100 * row.noise_share for row in result.layers[:15] if row.noise_share > 0}
        report.chart(bar_chart(share, "Share of the noise at the outputs (%), layers alone", 1, 620))


def _mixed_precision(report: QuantReport, result: AnalysisResult) -> None:
    if result.measure == "off":
        return
    report.heading("Mixed precision: what to keep float first")
    report.text(
        "Layers by what they cost at the outputs when only they are quantized. The curve keeps the first ones of this "
        "list float, as keep_float would, in the otherwise integer network. Such a model can be evaluated, not "
        "exported: it tells what more bits would be worth."
    )
    if len(result.curve) > 1:
        points = [(float(count), value) for count, value in result.curve]
        finite = [p for p in points[:-1] if math.isfinite(p[1])]  # the last one, all float, would flatten the rest
        report.chart(line_chart({"outputs": finite}, "SQNR of the outputs over layers kept float", "layers", "dB"))
        report.table(["layers kept float", "SQNR of the outputs"], [[str(n), _db(v)] for n, v in result.curve])
    first = [row.name for row in result.mixed_precision()[:5]]
    if first:
        report.preformatted(f'--cfg-options "keep_float={first!r}"')


def _images(report: QuantReport, result: AnalysisResult, pictures: Sequence[Image | None]) -> None:
    if not result.worst_images:
        return
    report.heading("The images that suffer most")
    report.text("Change: sum over detections of how much their score changed; one that came or went counts in full.")
    header = ["file", "change of detections", "SQNR of the outputs", result.reference, result.tested]
    report.table(
        header,
        [
            [r.file_name or str(r.img_id), f"{r.score_change:.3f}", _db(r.sqnr), f"{r.reference_boxes} boxes",
             f"{r.tested_boxes} boxes"]
            for r in result.worst_images
        ],
    )  # fmt: skip
    for row, picture in zip(result.worst_images, pictures, strict=False):
        if picture is not None:
            report.picture(picture, f"{row.file_name}: change {row.score_change:.3f}, {_db(row.sqnr)}")


_COLUMNS: tuple[tuple[str, str, str, str], ...] = (
    ("own dB", "own_sqnr", ".1f", "SQNR of the layer alone, on the reference's inputs"),
    ("flow dB", "sqnr", ".1f", "SQNR of the tensor as it flows, with the errors of all layers before"),
    ("cosine", "cosine", ".5f", "cosine of the accumulated tensors"),
    ("max LSB", "max_lsb", ".1f", "largest accumulated error in units of the scale"),
    ("own LSB", "own_max_lsb", ".1f", "largest own error in units of the scale"),
    ("mean error", "mean_error", ".2g", "mean of tested - reference: a bias"),
    ("min", "low", ".3g", "smallest value of the reference"),
    ("max", "high", ".3g", "largest value of the reference"),
    ("scale", "scale", ".3g", "real value of one code"),
    ("zero", "zero_point", "d", "code of the real 0"),
    ("clip low", "clipped_low", ".2%", "share of the reference's values below the range"),
    ("clip high", "clipped_high", ".2%", "share of the reference's values above the range"),
    ("codes", "distinct_codes", "d", "how many of the 256 codes occur"),
    ("weights dB", "weight_sqnr", ".1f", "SQNR of the weights"),
    ("worst ch. dB", "weight_worst_sqnr", ".1f", "SQNR of the weights of the worst output channel"),
    ("by weights", "weight_noise_share", ".0%", "part of the own error that the rounding of the weights makes"),
    ("noise share", "noise_share", ".1%", "part in the noise at the outputs when layers are quantized one by one"),
    ("alone dB", "alone_sqnr", ".1f", "SQNR of the outputs when only this layer is quantized"),
    ("kept dB", "kept_gain", "+.2f", "dB of the outputs won when only this layer is kept float"),
    ("AP lost", "ap_drop", ".4f", "AP lost when only this layer is quantized"),
    ("AP won", "ap_gain", "+.4f", "AP won when only this layer is kept float"),
)


def _table(
    result: AnalysisResult,
) -> tuple[list[tuple[str, str]], list[list[tuple[str, float | str]]]]:
    rows = [*result.layers, result.source]
    columns = [c for c in _COLUMNS if any(_known(getattr(row, c[1])) for row in rows)]
    header = [("rank", "1 matters most"), ("layer", "module path"), ("at", "position in the network"), ("kind", "")]
    header += [(title, note) for title, _, _, note in columns] + [("findings", "")]
    body: list[list[tuple[str, float | str]]] = []
    for row in rows:
        cells: list[tuple[str, float | str]] = [
            (str(row.rank or "–"), row.rank or math.inf), (row.name, row.name), (str(row.index), row.index),
            (row.kind, row.kind),
        ]  # fmt: skip
        for _, name, form, _ in columns:
            value = getattr(row, name)
            cells.append((format(value, form) if _known(value) else "–", value if _known(value) else ""))
        kinds = ", ".join(a.kind for a in row.advice)
        body.append([*cells, (kinds, kinds)])
    return header, body


def _known(value: float | int | None) -> bool:
    return value is not None and not math.isnan(value)


def _sort_key(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(float(value))


def _numbers(row: LayerRow) -> str:
    parts = [f"own {_db(row.own_sqnr)}", f"accumulated {_db(row.sqnr)}", f"values {row.low:.4g} to {row.high:.4g}"]
    if _known(row.scale):
        parts.append(f"scale {row.scale:.4g}, zero point {row.zero_point}")
        parts.append(f"clipped {row.clipped_low:.2%} below, {row.clipped_high:.2%} above")
    if _known(row.noise_share):
        parts.append(f"{row.noise_share:.1%} of the noise at the outputs")
        parts.append(f"kept float: {row.kept_gain:+.2f} dB")
    if _known(row.ap_drop):
        parts.append(f"AP lost {row.ap_drop:.4f}, won {row.ap_gain:+.4f}")
    if _known(row.weight_sqnr):
        parts.append(f"weights {_db(row.weight_sqnr)}, worst channel {_db(row.weight_worst_sqnr)}")
    return "; ".join(parts)


def _db(value: float) -> str:
    return "unknown" if math.isnan(value) else "exact" if value == math.inf else f"{value:.1f} dB"


def _label(row: LayerRow) -> str:
    """Position and the end of the module path, as long as a bar chart has room for."""
    text = f"{row.index} {row.name}"
    return text if len(text) <= 27 else f"{row.index} …{row.name[-(25 - len(str(row.index))) :]}"
