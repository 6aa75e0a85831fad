"""Compile the int8 model for an Arm Ethos-U and report what it costs there, operator by operator.

python tools/compile_perf.py --config CONFIG --out-dir DIR --opt 2
python tools/compile_perf.py CONFIG --target ethos-u65-256 --imgsz 192 192
python tools/compile_perf.py --model model_int8.tflite

The int8 file of the integer stage is taken (WORK_DIR/int_infer-model_int8.tflite); where it is missing or older than
the best checkpoint, it is exported first. Into DIR (default: WORK_DIR/compile_perf) go NAME_vela.tflite, its metadata,
and NAME_vela_perf.txt, .json and .html: latency, memory, and for each operator whether it runs on the NPU, its cycles,
MACs, SRAM, weights and utilisation. All numbers are estimates of Arm's compiler Vela (pip install 'hatdet[vela]'). A
model in another arithmetic than the NPU's, tflite_ref, is refused.

--opt is HAT's: 0 asks Vela for the least memory (--optimise Size), 1 and 2 for the least time (--optimise Performance).
Exit status 1: Vela is not installed, or operators are left to the CPU.
"""

from __future__ import annotations

import argparse
import sys

from hatdet.commands.shared.arguments import (
    add_config_arguments,
    add_imgsz,
    check_imgsz,
    check_verify,
    config_path,
    options_from_args,
)
from hatdet.commands.shared.process import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--out-dir", "--out_dir", metavar="DIR", help="default: WORK_DIR/compile_perf")
    parser.add_argument("--opt", type=int, choices=(0, 1, 2), default=2, help="0: least memory; 1, 2: least time (2)")
    parser.add_argument("--target", metavar="NAME", help="ethos-u55-32|64|128|256 or ethos-u65-256|512 (default: the"
                        " config's target, else ethos-u55-128)")  # fmt: skip
    parser.add_argument("--model", metavar="FILE", help="an int8 .tflite to compile; no config is needed then")
    parser.add_argument("--ckpt", metavar="FILE", help="export these weights, not the integer stage's best")
    add_imgsz(parser, "export for this height and width, or one for both")
    parser.add_argument("--verify", type=int, default=16, metavar="N",
                        help="images on which an exported file is compared (default: 16)")  # fmt: skip
    parser.add_argument("--system-config", "--system_config", metavar="NAME", help="Vela's (default: the target's)")
    parser.add_argument("--memory-mode", "--memory_mode", metavar="NAME", help="Vela's (default: the target's)")
    parser.add_argument("--vela-config", "--vela_config", metavar="FILE", help="an .ini of your own system")


def run(args: argparse.Namespace) -> int:
    check_imgsz(args)
    check_verify(args)

    from hatdet.commands.compile_perf.run import PerfRequest, compile_perf
    from hatdet.export.vela.compile import VelaMissing
    from hatdet.utils.logging import setup_logging

    setup_logging()
    request = PerfRequest(
        out_dir=args.out_dir, opt=args.opt, target=args.target, model=args.model, checkpoint=args.ckpt,
        image_size=args.imgsz, verify=args.verify, system_config=args.system_config, memory_mode=args.memory_mode,
        vela_config=args.vela_config,
    )  # fmt: skip
    path = config_path(args) if args.config or args.config_flag or args.model is None else None
    try:
        report = compile_perf(path, options_from_args(args), request)
    except VelaMissing as error:
        print(f"compile_perf.py: error: {error}", file=sys.stderr)
        return 1
    return 1 if report.result.cpu_operators else 0


main = command(__doc__, add_arguments, run)
