"""Find values for options by short trainings, each chosen by what the others gave.

hatdet tune my_config.py --trials 20
hatdet tune my_config.py --trials 20 --search lr=1e-4..1e-2:log mixup_prob=0..0.5 activation=ReLU6,Hardswish
hatdet tune my_config.py --trials 40             # the same study goes on

--search names options of the config: a range (NAME=LOW..HIGH, with :log for rates; whole numbers stay whole) or values
(NAME=A,B,C). Without it lr, weight_decay and mixup_prob are searched, as far as the config has them. A trial is the
float stage with fewer epochs; one that falls behind the others is ended early. The study is kept in
work_dirs/CONFIG/tune/study.db: the same command goes on after Ctrl-C, and with a larger --trials. `hatdet runs
work_dirs/CONFIG/tune` compares the trials. Needs optuna: pip install 'hatdet[tune]'.
"""

from __future__ import annotations

import argparse
import importlib.util
from typing import TYPE_CHECKING

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.commands.tune.study import Tuning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--trials", type=int, required=True, metavar="N", help="how many, those of earlier calls included"
    )
    parser.add_argument(
        "--search", nargs="+", default=[], metavar="NAME=...", help="options and what is tried for them"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="of a trial (default: a third of the config's)")
    parser.add_argument("--key", default="AP", metavar="NAME", help="what is made as large as possible (default: AP)")
    parser.add_argument("--no-prune", action="store_true", help="let every trial train to its end")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of values (default: 0)")


def run(args: argparse.Namespace) -> None:
    for name in ("trials", "epochs"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: give a number of at least 1")
    if importlib.util.find_spec("optuna") is None:
        raise UserError("tuning needs optuna, which is not installed: pip install 'hatdet[tune]'")
    from hatdet.commands.tune.search import default_space, parse

    space = parse(args.search) or None
    config = load_from_args(args)
    config.validate("float_trainer")

    from hatdet.commands.tune.study import Tuning
    from hatdet.engine.processes.recipe import decided
    from hatdet.engine.stages import work_dir_of
    from hatdet.utils.locks import locked_file

    folder = work_dir_of(config, "tune")
    folder.mkdir(parents=True, exist_ok=True)
    with locked_file(folder / ".lock", f"the study in {folder}", wait=False):
        config = decided(config)  # for the whole training: shorter trials must not take another recipe
        default = space or default_space(config)
        tuning = Tuning(
            config, space, default, key=args.key, epochs=args.epochs, prune=not args.no_prune, seed=args.seed
        )
        searched = ", ".join(f"{name} {part}" for name, part in tuning.space.items())
        print(f"{args.trials} trials of {tuning.epochs} epochs, {len(tuning.ended())} done: {searched}", flush=True)
        try:
            tuning.run(args.trials)
        except KeyboardInterrupt as error:
            error.args = ("the same command goes on with this trial",)
            raise
        finally:
            table = tuning.write_table()
    _conclude(tuning, str(table))


def _conclude(tuning: Tuning, table: str) -> None:
    from hatdet.commands.runs.table import number
    from hatdet.config.options import option_words
    from hatdet.engine.stages import other_command_line

    best = tuning.best_first()
    if not best:
        raise UserError("no trial has measured anything; look at their logs, and at the validation data")
    print()
    for trial in best[:5]:
        value = number(trial.user_attrs["best"])
        print(f"{tuning.key} {value}  {option_words(tuning.options_of(trial))}  ({trial.user_attrs['folder']})")
    words = option_words(tuning.options_of(best[0]))
    line = other_command_line(tuning.config, "train")
    print(f"written: {table}")
    print(f"next: {line}{'' if '--cfg-options' in line else ' --cfg-options'} {words}")


main = command(__doc__, add_arguments, run)
