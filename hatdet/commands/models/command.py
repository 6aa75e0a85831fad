"""Models by what they cost on a device and how good they were: hatdet's own table, or one of your runs.

hatdet models
hatdet models --flash 1024 --arena 512
hatdet models --board grove-vision-ai-v2
hatdet models work_dirs/* --json mine.json
hatdet models runs/* --json hatdet/commands/models/models.json --markdown docs/models.md

A RUN is the folder of a run with all stages, predict's scores of int_infer and an export with --verify and --evaluate:
its int8 file is measured (parameters, MACs, flash, activations, arena of TensorFlow Lite Micro, Vela's estimates for
ethos-u55-128 and ethos-u65-256) and its scores are read; nothing is trained. A run whose file does not score what the
integer model did makes no row.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of runs (default: the table that comes along)")
    parser.add_argument("--data", metavar="NAME", help="name of the runs' data set (default: that of its folder)")
    parser.add_argument("--json", metavar="FILE", help="add the runs to this table; without runs: read it")
    parser.add_argument("--markdown", metavar="FILE", help="write the table as a page")
    parser.add_argument("--board", metavar="NAME", help="only models that fit a board's flash and RAM, as far as known")
    parser.add_argument("--flash", type=float, metavar="KIB", help="only files of at most so many KiB")
    parser.add_argument("--arena", type=float, metavar="KIB", help="only models with an arena of at most so many KiB")


def run(args: argparse.Namespace) -> None:
    from hatdet.commands.models import rows as table
    from hatdet.commands.models.fitting import Limits, board_limits
    from hatdet.commands.models.text import markdown, terminal

    for name in ("flash", "arena"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name} {value:g}: give the KiB that there are, a number above 0")
    file = Path(args.json) if args.json is not None else None
    if args.runs:
        from hatdet.commands.models.measure import row_of

        new = [row_of(Path(folder), args.data) for folder in args.runs]
        found: Sequence[table.Row] = table.merged(table.read(file) if file is not None and file.is_file() else [], new)
        if file is not None:
            table.write(found, file)
            print(f"written: {file}: {len(found)} rows")
    else:
        if args.data is not None:
            raise UserError("--data names the data set of runs; name their folders too")
        found = table.read(file) if file is not None else table.shipped()
    limits = board_limits(args.board) if args.board is not None else Limits()
    limits = limits.within(args.flash and 1024 * args.flash, args.arena and 1024 * args.arena)
    fitting = [row for row in found if limits.hold(row)]
    if not fitting:
        raise UserError(f"none of the {len(found)} rows fits; `hatdet models` without limits lists them all")
    if args.markdown is not None:
        Path(args.markdown).write_text(markdown(fitting), encoding="utf-8")
        print(f"written: {args.markdown}")
    print(terminal(fitting))


main = command(__doc__, add_arguments, run)
