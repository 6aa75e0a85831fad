"""Pictures with what was right and wrong in them: boxes and labels lie over the picture, sharp at any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from hatdet.visualization.labels import place_labels

COLORS = {
    "right": "#3ddc84", "missed": "#ffb000", "confused": "#ff8ad8", "false": "#ff5c5c", "double": "#c9a0ff",
    "ignored": "#c0c0c0",
}  # fmt: skip
WORDS = {
    "right": "right",
    "missed": "missed: an object that nothing was found at",
    "confused": "confused: found as another class",
    "false": "false: nothing is there, or the box fits too badly",
    "double": "double: an object that was found already",
}
UNITS, TALLEST = 400.0, 500.0
"""Width of a picture, and the most of its height, however small or large its file; text is 12 such units high."""
MOST_KINDS = 6
"""Of boxes without room for a label, so many kinds are named."""
_TEXT, _CHAR, _HIGH = 12.0, 7.3, 15.0


@dataclass(frozen=True)
class Mark:
    """A box: xyxy in the picture's pixels, what it is (:data:`COLORS`), its class, whether it is of the truth, and its
    score where it is not."""

    box: tuple[float, float, float, float]
    state: str
    kind: str
    truth: bool
    score: float | None = None

    @property
    def label(self) -> str:
        return self.kind if self.score is None else f"{self.kind} {self.score:.2f}"


def legend() -> str:
    """What the colours mean."""
    items = "".join(
        f'<li style="--c:{COLORS[state]}"><i></i>{escape(words)}</li>' for state, words in WORDS.items()
    )
    return f'<ul class="legend">{items}</ul>'


def shot(url: str, size: tuple[int, int], marks: Sequence[Mark], name: str, note: str) -> str:
    """A picture with its boxes; labels that have no place in it stand in its caption.

    Args:
        url: of the picture. size: its width and height in pixels. marks: of what is right, only the box is drawn.
    """
    scale = min(UNITS / size[0], TALLEST / size[1])
    width, height = size[0] * scale, size[1] * scale
    order = sorted(marks, key=lambda mark: mark.state == "right")  # the wrong ones get their labels first
    boxes = np.array([mark.box for mark in order], np.float64).reshape(-1, 4) * scale
    boxes = boxes.clip(0, [width, height, width, height])
    sizes = [(0.0, 0.0) if m.state == "right" else (_CHAR * len(m.label) + 6, _HIGH) for m in order]
    places = place_labels(boxes, sizes, (width, height))
    drawn = [_box(mark, box) for mark, box in reversed(list(zip(order, boxes.tolist(), strict=True)))]
    left_over: Counter[str] = Counter()
    for mark, place, (label_width, _) in zip(order, places, sizes, strict=True):
        if place is not None:
            drawn.append(_label(mark, place, label_width))
        elif mark.state != "right":
            left_over[f"{mark.state} {mark.kind}"] += 1
    frame = f'<svg viewBox="0 0 {width:.1f} {height:.1f}" aria-hidden="true">{"".join(drawn)}</svg>'
    style = f"aspect-ratio:{width:.1f}/{height:.1f};width:{100 * width / UNITS:.1f}%"
    image = f'<img alt="{escape(name)}: {escape(note)}" src="{url}" style="width:100%;height:100%">'
    unlabelled = escape(", ".join(f"{count} {what}" for what, count in left_over.most_common(MOST_KINDS)))
    unlabelled += ", ..." if len(left_over) > MOST_KINDS else ""
    more = f'<br><span class="soft">without room for a label: {unlabelled}</span>' if left_over else ""
    caption = f"<figcaption><b>{escape(name)}</b><br>{escape(note)}{more}</figcaption>"
    return f'<figure><div class="shot" style="{style}">{image}{frame}</div>{caption}</figure>'


def _box(mark: Mark, box: Sequence[float]) -> str:
    x1, y1, x2, y2 = box
    place = f'x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}" fill="none"'
    dash = ' stroke-dasharray="6 4"' if mark.truth else ""
    line = 1.4 if mark.state == "right" else 2.2
    return (
        f'<rect {place} stroke="#000" stroke-opacity=".45" stroke-width="{line + 1.6}"/>'
        f'<rect {place} stroke="{COLORS[mark.state]}" stroke-width="{line}"{dash}/>'
    )


def _label(mark: Mark, place: tuple[float, float], width: float) -> str:
    x, y = place
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_HIGH}" rx="2" fill="#101418"/>'
        f'<text x="{x + 3:.1f}" y="{y + _TEXT - 0.5:.1f}" font-size="{_TEXT}" font-family="ui-monospace, monospace" '
        f'fill="{COLORS[mark.state]}">{escape(mark.label)}</text>'
    )


def shots(figures: Sequence[str]) -> str:
    """Pictures beside each other."""
    return f'<div class="pictures">{"".join(figures)}</div>'


def said(counts: Mapping[str, int]) -> str:
    """How much was right and wrong, in words: "3 missed, 1 double; 5 right"."""
    wrong = [f"{counts[kind]} {kind}" for kind in ("missed", "confused", "false", "double") if counts.get(kind)]
    return f"{', '.join(wrong) or 'no mistake'}; {counts.get('right', 0)} right"
