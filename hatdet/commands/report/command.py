"""Write one HTML page on a run.

What was trained, how good it is, where it fails, and what it costs on the device.

python tools/report.py work_dirs/my_config
python tools/report.py work_dirs/my_config --stage float -o float.html

Reads the files of the run, neither data nor model: scores, curves, confusions and the worst pictures that
`tools/predict.py` and `tools/train.py` left, the layers of `tools/quant_analysis.py`, the checks of `tools/export.py`,
the estimates of `tools/compile_perf.py`. A part that is not there is named with the command that makes it. The page is
one file without scripts, for phones, wide screens, light and dark, and paper.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.arguments import STAGES
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work_dir", type=Path, metavar="WORK_DIR", help="folder of the run: work_dirs/CONFIG")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: WORK_DIR/report.html")
    parser.add_argument(
        "--stage", choices=STAGES, help="whose detections are shown (default: the last stage that was evaluated)"
    )
    parser.add_argument(
        "--no-arena", action="store_true", help="do not run the .tflite in TensorFlow Lite Micro to measure its arena"
    )


def run(args: argparse.Namespace) -> None:
    out = args.out or args.work_dir / "report.html"
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out}: the report is HTML; give a name that ends with .html")

    from hatdet.commands.report.reading import read_run
    from hatdet.commands.report.write import run_page

    facts = read_run(args.work_dir, args.stage, arena=not args.no_arena)
    path = run_page(facts).write(out)
    print(f"written: {path}")
    for line in facts.absent:
        print(f"not in it: {line}")


main = command(__doc__, add_arguments, run)
