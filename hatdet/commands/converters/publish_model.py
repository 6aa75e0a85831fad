"""A checkpoint without what only training needs, its hash in its name.

python tools/model_converters/publish_model.py work_dirs/x/float-checkpoint-best.pth.tar rtmdet_mine.pth

writes rtmdet_mine-1a2b3c4d.pth: the first eight digits of its SHA-256. Optimizer, schedules and random states are left
out; weights, classes and what the stages know of the model stay.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError, did_you_mean

TRAINING = (
    "raw_state_dict", "ema_state_dict", "optimizer", "optimizer_names", "optimizer_type", "scheduler",
    "param_schedulers", "message_hub", "rng", "progress", "pace", "epoch_end_pending", "callbacks", "batch_processor",
)  # fmt: skip
"""What only training reads."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("in_file", metavar="CHECKPOINT", help="to be published")
    parser.add_argument("out_file", metavar="FILE", help="its name; the hash is put before the suffix")
    parser.add_argument("--save-keys", "--save_keys", nargs="+", metavar="KEY",
                        help="keep these alone (default: all but what training needs)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint

    state = published(load_checkpoint(args.in_file), args.save_keys, args.in_file)
    target = Path(args.out_file)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    save_checkpoint(temporary, state)
    digest = hashlib.sha256(temporary.read_bytes()).hexdigest()[:8]
    suffix = "".join(target.suffixes[-2:]) if target.name.endswith(".pth.tar") else target.suffix
    final = target.with_name(f"{target.name.removesuffix(suffix)}-{digest}{suffix}")
    os.replace(temporary, final)
    print(f"wrote {final} ({final.stat().st_size / 1e6:.1f} MB), with {', '.join(state)}")


def published(state: Mapping[str, Any], keys: Sequence[str] | None, name: str) -> dict[str, Any]:
    """What of a checkpoint is published.

    Raises:
        UserError: a key that it does not have.
    """
    if keys is None:
        return {key: value for key, value in state.items() if key not in TRAINING}
    for key in keys:
        if key not in state:
            raise UserError(f"{name} has no {key!r}{did_you_mean(key, state)}; it has {', '.join(state)}")
    return {key: state[key] for key in keys}


main = command(__doc__, add_arguments, run)
