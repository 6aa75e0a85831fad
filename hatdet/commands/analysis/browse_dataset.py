"""The training images as the network gets them, with their boxes, one file an image.

python tools/analysis_tools/browse_dataset.py CONFIG --output-dir work_dirs/browse --number 20
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--output-dir", "--output_dir", metavar="DIR", help="default: WORK_DIR/browse")
    parser.add_argument("--number", type=int, default=50, help="how many images; 0: all (default: 50)")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="whose images (default: train)")
    parser.add_argument("--not-show", "--not_show", action="store_true", help="means nothing: no window is opened")
    parser.add_argument("--show-interval", "--show_interval", type=float, help="means nothing, as above")


def run(args: argparse.Namespace) -> None:
    if args.number < 0:
        raise UserError(f"--number {args.number} is negative; give 0, which means all, or more")
    config = load_from_args(args)

    import numpy as np

    from hatdet.commands.analysis.data import load_loader
    from hatdet.data.transforms.batch.finish import finished_item
    from hatdet.engine.progress import set_position
    from hatdet.visualization.draw import draw_boxes
    from hatdet.visualization.pictures import write_image

    folder = Path(args.output_dir or Path(str(config["work_dir"])) / "browse")
    loader = load_loader(config, args.split)
    set_position(loader, epoch=0, start=0)
    dataset, count = loader.dataset, 0
    references = itertools.chain.from_iterable(loader.batch_sampler)
    for reference in itertools.islice(references, args.number or None):
        sample = finished_item(dataset[reference])
        image = np.ascontiguousarray(sample["img"].numpy().transpose(1, 2, 0))
        drawn = draw_boxes(image, sample["gt_boxes"].numpy(), sample["gt_labels"].numpy(), dataset.classes)
        write_image(folder / f"{count:05d}_{int(sample['img_id'])}.jpg", drawn)
        count += 1
    print(f"wrote {count} images to {folder}")


main = command(__doc__, add_arguments, run)
