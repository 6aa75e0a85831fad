"""Show what each transform of a config makes of its training pictures, as one contact sheet.

A row is a sample, a column a step: the file as it is, then the picture and its boxes after each transform, as the
network will get them. Samples are those of the first epoch, in its order; --late shows the transforms of the last
epochs. Where a picture has many boxes their colours say the classes.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hatdet.commands.data.pictures import draw_small, legend
from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.data.datasets.steps import Step
    from hatdet.visualization.draw import Image


MAX_CELL = 2048


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("-o", "--out", type=Path, default=Path("samples.jpg"), help="the sheet (samples.jpg)")
    parser.add_argument("--number", type=int, default=6, metavar="N", help="samples (6)")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="whose pictures (train)")
    parser.add_argument("--late", action="store_true", help="the late transforms, of the last epochs")
    parser.add_argument("--cell", type=int, default=240, metavar="PX", help="side of a picture in the sheet (240)")


def run(args: argparse.Namespace) -> None:
    if args.number < 1 or not 32 <= args.cell <= MAX_CELL:
        raise UserError(
            f"--number {args.number} --cell {args.cell}: give 1 sample or more, and 32 to {MAX_CELL} pixels"
        )
    if args.out.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
        raise UserError(f"--out {args.out}: the sheet is a picture; give a name that ends with .jpg or .png")
    config = load_from_args(args)

    from hatdet.commands.analysis.data import load_loader
    from hatdet.data.datasets.steps import draw_steps
    from hatdet.engine.progress import set_position
    from hatdet.visualization.pictures import write_image

    loader = load_loader(config, args.split)
    set_position(loader, epoch=0, start=0)
    dataset = loader.dataset
    references = itertools.islice(itertools.chain.from_iterable(loader.batch_sampler), args.number)
    rows = [draw_steps(dataset, one, args.late) for one in references]
    write_image(args.out, sheet(rows, dataset.classes, args.cell))
    print(f"wrote {args.out}: {len(rows)} samples, {' > '.join(step.name for step in rows[0])}")


def sheet(rows: Sequence[Sequence[Step]], names: Sequence[str], cell: int) -> Image:
    """Rows of steps, each under its name; a step that changed nothing says so."""
    import numpy as np

    from hatdet.visualization.draw import caption, grid

    columns = max(map(len, rows))
    cells = []
    for steps in rows:
        for number in range(columns):
            step = steps[min(number, len(steps) - 1)]
            same = number > 0 and _same(step, steps[number - 1])
            height, width = step.image.shape[:2]
            text = step.name if number else f"{step.name} {width}x{height}"
            cells.append(caption(_fitted(step, names, cell), f"{text} (no change)" if same else text))
    table = grid(cells, columns)
    return np.concatenate([table, legend(names, table.shape[1])])


def _same(step: Step, before: Step) -> bool:
    import numpy as np

    pairs = ((step.image, before.image), (step.boxes, before.boxes), (step.labels, before.labels))
    return all(np.array_equal(a, b) for a, b in pairs)


def _fitted(step: Step, names: Sequence[str], cell: int) -> Image:
    """The picture in a square of ``cell`` pixels, with its boxes."""
    import cv2
    import numpy as np

    height, width = step.image.shape[:2]
    scale = cell / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = cv2.resize(step.image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    labels = np.where(step.labels < 0, ~step.labels, step.labels)
    square = np.full((cell, cell, 3), 225, np.uint8)
    square[: size[1], : size[0]] = draw_small(image, step.boxes * scale, labels, names)  # type: ignore[arg-type]
    return square
