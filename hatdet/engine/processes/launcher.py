"""How a command's processes are started and how they find each other."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

import torch

from hatdet.engine.processes.device import parse_ids, select_gpus
from hatdet.utils import distributed
from hatdet.utils.errors import UserError
from hatdet.utils.logging import setup_logging
from hatdet.utils.starting import program


@contextlib.contextmanager
def processes(launcher: str = "none", ids: str | None = None, command: Sequence[str] | None = None) -> Iterator[None]:
    """Inside, this process has its GPU and its place in the group.

    Under torchrun (``--launcher pytorch``, or simply found in the environment) it joins the group. With several
    ``ids`` and several GPUs here it starts itself again under torchrun, one process a GPU. The log goes to the
    console; only rank 0's.

    Args:
        launcher: ``none`` or ``pytorch``.
        ids: ``"0,1"``: GPUs to use; None: those that are visible.
        command: what to start again, default this command line.

    Raises:
        UserError: ``pytorch`` outside of torchrun.
    """
    under_torchrun = distributed.launched_by_torchrun()
    setup_logging()
    if launcher == "pytorch" and not under_torchrun and "RANK" not in os.environ:
        raise UserError("--launcher pytorch: start it as `torchrun --nproc-per-node N tools/train.py ...`")
    numbers = parse_ids(ids)
    if not under_torchrun or int(os.environ.get("LOCAL_RANK", "0")) == 0:
        select_gpus(numbers)
    elif numbers:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, numbers))
    if len(numbers) > 1 and not under_torchrun and torch.cuda.is_available():
        restart(len(numbers), list(command or program.again()))
    if under_torchrun:
        distributed.initialize()
        setup_logging()
    try:
        yield
    finally:
        distributed.shutdown()


def restart(count: int, command: list[str]) -> None:
    """Replace this process by torchrun with ``count`` processes of the same command line."""
    sys.stdout.flush()
    arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *command]
    os.execv(sys.executable, [sys.executable, *arguments])
