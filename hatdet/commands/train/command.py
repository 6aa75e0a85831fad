"""Train one stage of a config.

python tools/train.py --stage float --config configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py
python tools/train.py configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py --cfg-options num_classes=2 epochs=150
torchrun --nproc-per-node 2 tools/train.py --stage float --config CONFIG

The stages, in order: float, calibration, qat. A model that the config's target cannot run is refused before anything
starts (target=ethos-u55-128, see tools/check_model.py). Logs, results.csv, TensorBoard events and the resolved config
go to work_dirs/CONFIG/STAGE/. An interrupted training goes on with the same command and --resume. A folder that holds
a run takes no other one: --overwrite moves it aside, --work-dir auto takes a new one (work_dirs/CONFIG-2, -3, ...).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
from typing import TYPE_CHECKING

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.config.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--stage", choices=("float", "calibration", "qat"), default="float", help="default: float")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint, if there is one")
    parser.add_argument("--overwrite", action="store_true",
                        help="start the float training anew: a run in the work dir is moved aside")  # fmt: skip
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--auto-scale-lr", "--auto_scale_lr", action="store_true", help="scale the learning rate with the batch size"
    )
    parser.add_argument("--launcher", choices=("none", "pytorch"), default="none", help="pytorch: under torchrun")
    parser.add_argument("-ids", "--ids", metavar="N[,N]", help="GPUs to use")
    parser.add_argument("--log", nargs="+", choices=("mlflow", "wandb", "clearml"), default=[],
                        help="write the run to these trackers too; their own variables say where")  # fmt: skip
    parser.add_argument("--seed", type=int, help="seed of the initial weights and of the order of the data")


def run(args: argparse.Namespace) -> None:
    if args.resume and args.overwrite:
        raise UserError("--resume continues a run, --overwrite starts it anew: give one of them")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        raise UserError(f"--seed {args.seed}: give a number from 0 to 2^63 - 1")
    auto = args.work_dir == "auto"
    if auto and (args.resume or args.overwrite or args.stage != "float"):
        raise UserError("--work-dir auto makes a folder for a new float training; name the folder of the run instead")
    if args.overwrite and args.stage != "float":
        print(f"--overwrite says nothing to the stage {args.stage}, which can be run again as it is", flush=True)
    args.work_dir = None if auto else args.work_dir
    config = load_from_args(args)
    if args.seed is not None and "seed" in config:  # reaches the samplers too
        args.cfg_options.append(f"seed={args.seed}")
        config = load_from_args(args)

    from hatdet.commands.shared.required_target import require_target
    from hatdet.engine.processes.launcher import processes
    from hatdet.engine.run import train
    from hatdet.engine.workdir import numbered

    with contextlib.ExitStack() as stack:
        stack.enter_context(processes(args.launcher, args.ids))
        if auto:
            args.work_dir = str(stack.enter_context(numbered(config)))
            config = load_from_args(args)
        train(
            config,
            args.stage,
            resume=args.resume,
            overwrite=args.overwrite,
            amp=args.amp,
            auto_scale_lr=args.auto_scale_lr,
            seed=args.seed,
            trackers=list(dict.fromkeys(args.log)),
            check=lambda prepared: require_target(prepared, args.stage),
        )
        logging.getLogger("hatdet").info("next: %s", next_command(config, args.stage))


def next_command(config: Config, stage: str) -> str:
    """What a project goes on with after a stage: the next one that the config has; after QAT the file for the device;
    of a config that has no other stage, the numbers."""
    from hatdet.engine.stages import TRAIN_STAGES, command_line, other_command_line

    later = TRAIN_STAGES[TRAIN_STAGES.index(stage) + 1 :]
    for following in later:
        if f"{following}_trainer" in config:
            return command_line(config, following)
    if stage == "float":
        return other_command_line(config, "predict", ("--stage", stage))
    return other_command_line(config, "export", last=("--verify", "16"))


main = command(__doc__, add_arguments, run)
