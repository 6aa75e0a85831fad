from __future__ import annotations

import torch

from hatdet.utils import distributed


def test_a_single_process_needs_no_group() -> None:
    assert (distributed.get_rank(), distributed.get_world_size(), distributed.is_main_process()) == (0, 1, True)
    assert distributed.all_gather({"a": 1}) == [{"a": 1}]
    assert distributed.broadcast("x") == "x"
    value = torch.ones(2)
    assert distributed.reduce_mean(value) is value
    distributed.barrier()
    distributed.shutdown()
