"""What the commands' arguments share: the parser, the config, and the flags that several commands take."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any, NoReturn

from hatdet.utils.errors import UserError, did_you_mean
from hatdet.utils.starting import program

if TYPE_CHECKING:
    from hatdet.config.config import Config

EXIT_USER_ERROR = 2
STAGES = ("float", "calibration", "qat", "int_infer")


class Parser(argparse.ArgumentParser):
    """An argument parser that names the nearest flag for an unknown one; positionals may stand anywhere."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, but ``tool a --flag x b`` works where both positionals are optional."""
        if self._subparsers is not None:
            return super().parse_args(args, namespace)
        return self.parse_intermixed_args(args, namespace)

    def format_help(self) -> str:
        """As in argparse, with commands named as the user of this process types them."""
        return program.help_text(super().format_help())

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with status 2."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            words = message.removeprefix(prefix).split()
            flags = list(self._option_string_actions)
            hints = [did_you_mean(word.split("=")[0], flags) for word in words if word.startswith("-")]
            message += next((hint for hint in hints if hint), "; see --help")
        self.exit(EXIT_USER_ERROR, program.spoken(f"{self.prog}: error: {message}\n"))


def make_parser(description: str | None) -> Parser:
    """A parser whose help begins with ``description``, usually the tool's ``__doc__``, as it is written."""
    return Parser(
        prog=program.name(),
        description=(description or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a flag that is added later must not change what an abbreviation means
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``config`` (positional or ``--config``), ``--cfg-options K=V ...`` and ``--work-dir``."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="config file (a Python file)")
    parser.add_argument("--config", dest="config_flag", metavar="CONFIG", help="the same, as a flag")
    parser.add_argument(
        "--cfg-options",
        "--cfg_options",
        nargs="+",
        action="extend",
        default=[],
        metavar="K=V",
        help="values for names of the config (num_classes=2 'imgsz=(192,192)'), which reach every expression"
        " that uses them, or for keys inside it (float_trainer.optimizer.lr=1e-3)",
    )
    parser.add_argument(
        "--work-dir",
        "--work_dir",
        metavar="DIR",
        help="where results go (default: the config's work_dir, or work_dirs/CONFIG)",
    )


def add_imgsz(parser: argparse.ArgumentParser, help: str) -> None:
    """Accept ``--imgsz H W`` (or one number for both); see :func:`check_imgsz`."""
    flags = ("--imgsz", "--img-size", "--img_size")
    parser.add_argument(*flags, nargs="+", type=int, metavar="N", help=help)


def check_imgsz(args: argparse.Namespace) -> None:
    """Refuse what is no image size.

    Raises:
        UserError: three numbers, or one that is not positive.
    """
    if args.imgsz is not None and (len(args.imgsz) > 2 or min(args.imgsz) < 1):
        raise UserError(f"--imgsz takes one or two positive numbers (height width), got {args.imgsz}")


def check_verify(args: argparse.Namespace) -> None:
    """Refuse a ``--verify`` that is no number of images.

    Raises:
        UserError: it is negative.
    """
    if args.verify < 0:
        raise UserError(f"--verify takes a number of images, got {args.verify}: give 0 or more")


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Accept what SSCMA's users write (``--launcher none --local_rank 0``) for a command that one process runs."""
    parser.add_argument("--launcher", choices=("none",), default="none", help="only none: one process does this")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def check_json(path: str | None) -> None:
    """Refuse an ``--out`` that is not a json file.

    Raises:
        UserError: e.g. ``x.pkl``: loading a pickle can run code, so none is written.
    """
    if path is not None and not path.endswith(".json"):
        hint = " (a pickle can run code when it is read)" if path.endswith((".pkl", ".pickle")) else ""
        raise UserError(f"--out {path}: numbers are written as json{hint}; give a name that ends with .json")


def config_path(args: argparse.Namespace) -> str:
    """The config file named on the command line.

    Raises:
        UserError: none is named, or the positional and ``--config`` differ.
    """
    if args.config and args.config_flag and os.path.abspath(args.config) != os.path.abspath(args.config_flag):
        raise UserError(f"two configs: {args.config!r} and --config {args.config_flag!r}; give one of them")
    path = args.config or args.config_flag
    if not path:
        swallowed = [word for word in args.cfg_options if word.endswith(".py") and "=" not in word]
        hint = f"; put {swallowed[0]} before --cfg-options" if swallowed else "; give one, or --config FILE"
        raise UserError(f"no config file was given{hint}")
    return str(path)


def place_file_argument(args: argparse.Namespace, name: str) -> None:
    """Move the positional that follows the config to its place: with ``--config`` it is the first one.

    What is a Python file stays: it is a second config.
    """
    if getattr(args, name) is None and args.config_flag and args.config and not args.config.endswith(".py"):
        args.config, found = None, args.config
        setattr(args, name, found)


def take_file_argument(args: argparse.Namespace, name: str) -> str:
    """The positional that follows the config (:func:`place_file_argument`), which has to be there.

    Raises:
        UserError: it is missing.
    """
    place_file_argument(args, name)
    if getattr(args, name) is None:
        swallowed = [word for word in args.cfg_options if "=" not in word]
        hint = f"put {swallowed[0]} before --cfg-options" if swallowed else f"give its file: CONFIG {name.upper()}"
        raise UserError(f"no {name} was given; {hint}")
    return str(getattr(args, name))


def load_from_args(args: argparse.Namespace) -> Config:
    """Load the config that the arguments of :func:`add_config_arguments` describe."""
    from hatdet.config.load import load_config

    return load_config(config_path(args), options_from_args(args))


def options_from_args(args: argparse.Namespace) -> dict[str, object]:
    """The options of ``--cfg-options`` and ``--work-dir``."""
    from hatdet.config.options import parse_options

    options = dict(parse_options(args.cfg_options))
    if args.work_dir == "auto":
        raise UserError("--work-dir auto is for a new float training (tools/train.py); name the folder of the run")
    if args.work_dir is not None:
        options["work_dir"] = args.work_dir
    return options
