"""Convert RTMDet checkpoints between MMDetection, MMYOLO and hatdet.

python tools/convert_checkpoint.py rtmdet_tiny.pth tmp_pretrained_models/rtmdet_tiny.pth.tar --from mmdet
python tools/convert_checkpoint.py float-checkpoint-best.pth.tar rtmdet_mine.pth --to mmdet

Names change, numbers do not. MMDetection's m, l and x predict exp(raw) * stride, everything else raw * stride: which
one holds is stored in the file (exp_on_reg) and applied when it is loaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="the checkpoint to read")
    parser.add_argument("target", help="the file to write")
    layouts = ["auto", "mmdet", "mmyolo"]
    parser.add_argument("--from", dest="layout", choices=layouts, default="auto", help="who wrote it")
    parser.add_argument("--to", choices=["hatdet", "mmdet"], default="hatdet", help="who shall read it")
    parser.add_argument("--weights", choices=["ema", "raw"], default="ema", help="averaged weights, or the optimizer's")
    parser.add_argument("--exp-on-reg", choices=["true", "false"], help="where the file does not say it")


def run(args: argparse.Namespace) -> None:
    exp_on_reg = None if args.exp_on_reg is None else args.exp_on_reg == "true"
    print(convert(args.source, args.target, args.layout, args.to, args.weights, exp_on_reg))


def convert(
    source: str | Path,
    target: str | Path,
    layout: str = "auto",
    to: str = "hatdet",
    weights: str = "ema",
    exp_on_reg: bool | None = None,
) -> str:
    """Convert one file; returns what to print.

    Args:
        layout: ``auto``, ``mmdet`` or ``mmyolo``: who wrote ``source``.
        to: ``hatdet`` or ``mmdet``.
        weights: ``ema`` or ``raw``.
        exp_on_reg: put into the file; None: as the source says.

    Raises:
        UserError: the file is not what it is said to be, its weights are not finite, or
            source and target are one file.
    """
    from hatdet.utils.checkpoints.checkpoint import save_checkpoint
    from hatdet.utils.checkpoints.foreign_checkpoint import converted, layout_of, read_foreign, to_mmdet
    from hatdet.utils.finite import refuse_not_finite

    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise UserError(f"{source} is both source and target; name another target")
    state = read_foreign(source)
    found = layout_of(state)
    if layout != "auto" and found == "mmyolo" != layout:
        raise UserError(f"{source} has MMYOLO's names (bbox_head.head_module); use --from mmyolo")
    if layout == "mmyolo" != found:
        raise UserError(f"{source} has no MMYOLO names (bbox_head.head_module); use --from mmdet")
    layout = found if layout == "auto" else layout
    result = converted(state, layout, weights)
    refuse_not_finite(result["state_dict"], f"the weights in {source}", "take an earlier checkpoint, or train again")
    if layout == "hatdet" and isinstance(state.get("metadata"), dict):
        result["metadata"] = {**state["metadata"], **({} if to == "hatdet" else {"source": "hatdet"})}
    if exp_on_reg is not None:
        result["metadata"]["exp_on_reg"] = exp_on_reg
    save_checkpoint(target, to_mmdet(result) if to == "mmdet" else result)
    known = result["metadata"].get("exp_on_reg")
    note = "" if known is not None or to != "hatdet" else "; exp_on_reg is not known: say it with --exp-on-reg"
    return f"{target}: {len(result['state_dict'])} tensors of {layout}, exp_on_reg {known}{note}"


main = command(__doc__, add_arguments, run)
