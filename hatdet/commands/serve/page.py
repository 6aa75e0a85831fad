"""The page: a place for a picture, a slider, and a panel for each model; ``page.js`` fills it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from hatdet.visualization.page.page import document

if TYPE_CHECKING:
    from hatdet.commands.serve.server import Model

LIMIT = 64 << 20
"""Bytes of a picture's file."""
STYLE = """<style>
#drop { display: block; border: 2px dashed var(--line); border-radius: 8px; padding: 1.2rem; text-align: center;
cursor: pointer; margin: .6rem 0; } #drop.over, #drop:focus-within { border-color: var(--bar); }
#drop input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.bar { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; margin: 0 0 1rem; position: sticky; top: 0;
background: var(--page); padding: .4rem 0; z-index: 1; } .bar input { flex: 1 1 130px; max-width: 480px; }
output { font-variant-numeric: tabular-nums; min-width: 3em; display: inline-block; }
.view { position: relative; background: var(--faint); border-radius: 4px; overflow: hidden; }
.view img, .view svg { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.view rect { fill: none; stroke: var(--c); vector-effect: non-scaling-stroke; stroke-width: 2px; }
.view rect.off, .list li[hidden] { display: none; } .list { list-style: none; padding: 0; font-size: 14px;
columns: 9em; }
.list i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; background: var(--c);
margin-right: .45em; vertical-align: -1px; }
</style>"""


def page(models: Sequence[Model], threshold: float) -> str:
    """The whole page of some models; names of files and classes are escaped."""
    panels = "\n".join(panel(number, model) for number, model in enumerate(models))
    return document("What the models find", f"""{STYLE}
<label id="drop">Drop a picture here, paste one, or <b>choose one</b><input type="file" accept="image/*"
data-limit="{LIMIT}"></label>
<p id="said" role="status" class="soft">Pictures stay on this machine.</p>
<div class="bar"><label for="least">Least score</label>
<input id="least" type="range" min="0.05" max="1" step="0.01" value="{threshold:g}"><output for="least"></output></div>
<main>
{panels}
</main>
<script src="/page.js"></script>""")  # fmt: skip


def panel(number: int, model: Model) -> str:
    """One model: what it is, the picture with boxes, how many of each class."""
    return (
        f'<section class="model" data-model="{number}"><h2>{escape(str(model.path.name))}</h2>'
        f'<p class="soft">{escape(model.kind)}, {escape(model.runtime)}; {len(model.names)} classes</p>'
        '<div class="view" hidden><img alt=""><svg aria-hidden="true"></svg></div>'
        '<p class="count" role="status"></p><ul class="list"></ul></section>'
    )
