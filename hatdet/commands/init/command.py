"""Look at a data set and write a config for it, with the reason of each line.

hatdet init my_data
hatdet init my_data --target ethos-u55-128 --out bottles.py
hatdet init my_data --board raspberry-pi
hatdet init my_data --flash 1024 --ram 512

DATA is a folder that training reads: COCO format under the usual names (annotations/instances_train2017.json and
train2017/, names without the year, Roboflow's train/_annotations.coco.json), YOLO (or its data.yaml), Pascal VOC, or
LabelMe, with pictures to train with and pictures to validate with. Nothing is trained or packed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError
from hatdet.utils.starting.program import spoken

if TYPE_CHECKING:
    from hatdet.commands.models.fitting import Limits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="folder of the data set, or data.yaml")
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="device: tflite, litert-xnnpack, ethos-u55-32|64|128|256, ethos-u65-256|512, onnx (default: the board's, "
        "else tflite)",
    )
    parser.add_argument("--board", metavar="NAME", help="a board, which says the target (check_model.py --board list)")
    parser.add_argument(
        "--model",
        choices=("fomo", "pico-03m", "pico-06m", "nano", "tiny", "s"),
        help="the network, instead of the proposed one; fomo finds points, for counting",
    )
    parser.add_argument("--flash", type=float, metavar="KIB", help="the device has so much flash for the model")
    parser.add_argument("--ram", type=float, metavar="KIB", help="the device has so much RAM for the model")
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help="memory that a training may use (default: the GPU's, or what the machine has free)",
    )
    parser.add_argument("--out", metavar="FILE", help="the config (default: DATA's name with .py, in this folder)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file where it is there")
    parser.add_argument("--dry-run", action="store_true", help="print the config instead of writing it")


def run(args: argparse.Namespace) -> None:
    from hatdet.commands.init import choices, reading, text
    from hatdet.commands.models.rows import shipped
    from hatdet.export.targets.boards import board_target, get_board
    from hatdet.export.targets.table import DEFAULT_TARGET, get_target

    device = (
        board_target(get_board(args.board), args.target)
        if args.board is not None
        else get_target(args.target or DEFAULT_TARGET)
    )
    target = device.name
    if args.memory is not None and not 0 < args.memory < float("inf"):
        raise UserError(f"--memory {args.memory:g}: give the GiB that a training may use, a number above 0")
    limits = device_limits(args)
    root = Path(args.data).expanduser()
    name = (root.parent if root.is_file() else root).resolve().name or "data"
    out = Path(args.out or f"{name}.py".replace("-", "_").replace(" ", "_"))
    if out.suffix != ".py":
        raise UserError(f"--out {out}: a config is a Python file; give a name that ends with .py")
    if out.exists() and not args.overwrite and not args.dry_run:
        raise UserError(f"{out} is there already; give --overwrite to replace it, or --out FILE for another name")
    data = reading.survey(root)
    images = len(data.train)
    network = choices.model(target, images)
    if args.model is not None:
        network = choices.Choice(args.model, "as asked for (--model)")
    size, epochs = choices.imgsz(data.train, target), choices.epochs(images)
    if network.value == choices.POINTS:
        size = choices.points_imgsz(data.train)
    network, size = choices.fitted(network, size, limits, shipped(), asked=args.model is not None)
    memory = free_mib() if args.memory is None else 1024 * args.memory
    batch = choices.batch_size(images, int(str(epochs.value)), str(network.value), max(size.value), memory)  # type: ignore[call-overload]
    arithmetic = choices.arithmetic(target, device.arithmetic)
    recipe = choices.recipe(images, int(str(epochs.value)))
    chosen = {"model": network, "imgsz": size, "epochs": epochs, "recipe": recipe, "batch_size": batch}
    chosen["arithmetic"] = arithmetic
    config = text.config_text(data, chosen, target)
    print("\n".join(text.findings(data, chosen)))
    if lacking := choices.misfit(network, size, limits, shipped()):
        print(f"warning: {lacking}")
    if args.dry_run:
        print(f"\n{config}", end="")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(config, encoding="utf-8")
    print(f"\nwrote {out}; next:", *(f"  {spoken(line)}" for line in text.next_steps(out)), sep="\n")


def device_limits(args: argparse.Namespace) -> Limits:
    """What the board has, as far as it is known, and what the command line says of it.

    Raises:
        UserError: a number that is no memory.
    """
    from hatdet.commands.models.fitting import Limits, board_limits

    for name in ("flash", "ram"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name} {value:g}: give the KiB that there are, a number above 0")
    limits = board_limits(args.board) if args.board is not None else Limits()
    return limits.within(args.flash and 1024 * args.flash, args.ram and 1024 * args.ram)


def free_mib() -> float:
    """Memory that a training may use: the first GPU's, else what is free here."""
    import torch

    from hatdet.utils.environment import free_memory

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory) / 2**20
    return free_memory() / 2**20


main = command(__doc__, add_arguments, run)
