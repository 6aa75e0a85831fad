"""Runtimes at work on several images while torch computes: on a machine of more cores the slowest decides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch

from hatdet.export.runtimes.integer import Codes, LiteRTRuntime, Runtime, to_nhwc

AHEAD = 16
"""Images whose outputs are held at once."""
Outputs = Callable[[Runtime, int], dict[str, Codes]]
"""What a runtime gives of an image, by name."""


def images_ahead(codes: torch.Tensor, runtimes: Sequence[Runtime]) -> Iterator[tuple[int, torch.Tensor, Outputs]]:
    """Each image with its number among ``AHEAD`` ones, at which the runtimes are at work meanwhile."""
    for start in range(0, len(codes), AHEAD):
        part = codes[start : start + AHEAD]
        with _running(runtimes, to_nhwc(part)) as outputs_of:
            for number in range(len(part)):
                yield number, part[number : number + 1], outputs_of


@contextlib.contextmanager
def _running(runtimes: Sequence[Runtime], codes: Codes) -> Iterator[Outputs]:
    """Each runtime at work on (N, H, W, C) codes in a thread of its own, while torch computes here.

    Gives:
        the outputs of a runtime for an image, by name, once they are there.
    """
    pools: list[ThreadPoolExecutor] = []
    found: dict[str, Callable[[int], list[Codes]]] = {}
    for runtime in runtimes:
        pools.append(pool := ThreadPoolExecutor(1))
        if isinstance(runtime, LiteRTRuntime):  # image by image: what is not begun when this ends is not run
            each = [pool.submit(runtime.run, codes[i : i + 1]) for i in range(len(codes))]
            found[runtime.name] = partial(_of_each, each)
        else:  # all at once: it spreads them over processes
            whole = pool.submit(runtime.run, codes)
            found[runtime.name] = partial(_of_all, whole)
    try:
        yield lambda runtime, number: dict(zip(runtime.output_names, found[runtime.name](number), strict=True))
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)


def _of_each(runs: Sequence[Future[list[Codes]]], number: int) -> list[Codes]:
    return runs[number].result()


def _of_all(run: Future[list[Codes]], number: int) -> list[Codes]:
    return [values[number : number + 1] for values in run.result()]
