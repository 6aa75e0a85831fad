"""The body of ``tools/convert_checkpoint.py``."""

from __future__ import annotations

from pathlib import Path

from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.checkpoints.foreign_checkpoint import converted, layout_of, read_foreign, to_mmdet
from hatdet.utils.errors import UserError
from hatdet.utils.finite import refuse_not_finite


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
