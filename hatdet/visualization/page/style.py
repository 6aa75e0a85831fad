"""The one style sheet of all pages: from 390 pixels to a wide screen, light and dark as the reader's system is, and on
paper.

Colours are variables; charts name them through classes, so that an SVG keeps its own colours where it is a file.
"""

from __future__ import annotations

from collections.abc import Sequence

from hatdet.visualization.colors import DARK, LIGHT

_LIGHT = (
    "color-scheme: light; --ink: #1d2330; --soft: #565f6e; --line: #d6dbe2; --page: #ffffff; --card: #f6f7f9; "
    "--bar: #2463b8; --bad: #b3261e; --good: #17702f; --warn: #8a5a00; --faint: #e6e9ee;"
)
_DARK = (
    "color-scheme: dark; --ink: #e6e9ee; --soft: #a9b3c1; --line: #343d49; --page: #14181e; --card: #1c222b; "
    "--bar: #6aa5f0; --bad: #ff8a80; --good: #7bd494; --warn: #f0c060; --faint: #2a323d;"
)


def _series(colors: Sequence[str]) -> str:
    return " ".join(f".s{index} {{ --c: {color}; }}" for index, color in enumerate(colors))


STYLE = f"""
:root {{ {_LIGHT} }} {_series(LIGHT)}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} {_series(DARK)} }}
""" + """
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 1800px; color: var(--ink);
background: var(--page); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .3rem 0; } h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: .9rem 0 .3rem; } p { margin: .4rem 0; } a { color: var(--bar); }
ul { margin: .2rem 0; padding-left: 1.1rem; } .soft { color: var(--soft); } .bad { color: var(--bad); }
.good { color: var(--good); } .warn { color: var(--warn); } b.good, b.bad, b.warn, p.good, p.bad { font-weight: 600; }
code, pre { font: 13px/1.45 ui-monospace, monospace; } code { background: var(--faint); padding: 0 .25em;
border-radius: 3px; } pre { background: var(--faint); padding: .5rem .7rem; margin: .4rem 0; border-radius: 5px;
white-space: pre-wrap; } pre.wide { white-space: pre; overflow-x: auto; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .6rem 0 1rem; } nav a { padding: .25rem 0; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr)); }
main.flow { display: block; grid-template-columns: none; max-width: 1280px; margin: 0 auto; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; min-width: 0;
scroll-margin-top: .5rem; } section.wide { grid-column: 1 / -1; }
@media (min-width: 820px) { section.double { grid-column: span 2; } }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 3px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
vertical-align: top; } th { font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 6em; }
table.text td { white-space: normal; text-align: left; min-width: 7em; } table.text th { text-align: left; }
table.named td:first-child { overflow-wrap: break-word; min-width: 8.5em; } table.named td.bar { width: 20%;
min-width: 40px; }
td.bar { width: 30%; min-width: 60px; text-align: left; } td.bar div { height: 12px; background: var(--bar);
border-radius: 2px; margin-top: 5px; }
dl { display: grid; grid-template-columns: minmax(7.5em, max-content) 1fr; gap: .15rem .9rem; margin: .4rem 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
table.matrix { width: auto; } table.matrix td, table.matrix th { text-align: center; padding: 4px 7px;
min-width: 2.6em; } table.matrix th { font-weight: 400; } table.matrix tbody th { text-align: right;
padding-right: .6em; white-space: normal; min-width: 4.6em; max-width: 9em; position: sticky; left: 0;
background: var(--card); }
table.matrix td { border: 1px solid var(--card);
background: color-mix(in srgb, var(--bar) calc(55% * var(--v)), var(--page)); }
table.matrix td.wrong { background: color-mix(in srgb, var(--bad) calc(45% * var(--v)), var(--page)); }
.charts { display: grid; gap: 1rem; align-items: start;
grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
figure { margin: 0; min-width: 0; } figcaption { font-size: 14px; } figure.chart figcaption { font-weight: 600; }
svg { display: block; width: 100%; height: auto; } svg.chart { max-width: 520px; fill: var(--ink); }
main.flow figure { display: inline-block; max-width: 100%; margin: 0 .5rem .5rem 0; vertical-align: top; }
main.flow svg.chart { max-width: 100%; width: auto; }
@media (max-width: 700px) { main.flow figure { overflow-x: auto; } main.flow svg.chart { max-width: none; } }
svg.chart .grid { stroke: var(--line); } svg.chart .line { stroke: var(--c); } svg.chart .dot { fill: var(--c); }
svg.chart .area { fill: var(--faint); } svg.chart .mark { stroke: var(--soft); }
svg.heat { max-width: 360px; border: 1px solid var(--line); } svg.heat rect { fill: var(--bar); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; list-style: none; margin: .2rem 0; padding: 0;
font-size: 13px; } .legend i { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: .4em;
vertical-align: middle; background: var(--c); }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.pictures figure > img { width: 100%; height: 220px; object-fit: contain; background: var(--page);
border: 1px solid var(--line); border-radius: 4px; display: block; } figure img { max-width: 100%; height: auto; }
.shot { position: relative; } .shot img { position: absolute; left: 0; top: 0; max-width: none;
image-rendering: auto; } .shot svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.missing { border-left: 4px solid var(--warn); padding: .1rem 0 .1rem .8rem; margin: .4rem 0; }
@media print { body { padding: 0; max-width: none; font-size: 11pt; } nav { display: none; }
section { break-inside: avoid; } section.wide { break-inside: auto; } figure, tr { break-inside: avoid; }
section.double { grid-column: 1 / -1; } .scroll { overflow: visible; } th, td { white-space: normal; }
main { grid-template-columns: 1fr 1fr; gap: .6rem; } a { color: inherit; }
* { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
