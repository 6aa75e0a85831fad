"""Scoring a model on a loader."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.progress import set_position
from hatdet.utils import distributed
from hatdet.utils.seed import preserved_rng_state


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The model in eval mode inside; after it every module as it was (frozen ones stay in eval mode)."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def scored_model(model: nn.Module) -> nn.Module:
    """What evaluation runs: the model's own ``evaluation_model()`` (the integer model) where it has one."""
    method = getattr(model, "evaluation_model", None)
    return method() if callable(method) else model


def bind_metric(metric: Any, data_loader: Any) -> None:
    """Let a metric find its ground truth: one without a source of its own takes the loader's data set."""
    if callable(bind := getattr(metric, "bind", None)):
        bind(getattr(data_loader, "dataset", None))


def evaluate(
    *,
    model: nn.Module,
    data_loader: Any,
    metric: Any,
    batch_processor: BasicBatchProcessor,
    device: torch.device,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Run the model over the loader and score it. The model's mode and all random generators stay as they were.

    Processes that share the work give their parts to rank 0; all of them get the same values.

    Args:
        metric: ``reset, update, compute, state, merge``, optionally ``bind`` (docs/contracts.md, section 5).
        on_batch: called with the number of finished batches.

    Returns:
        the metric's values.
    """
    metric.reset()
    bind_metric(metric, data_loader)
    with preserved_rng_state(), evaluation_mode(model):
        distributed.broadcast_module(model)  # running statistics differ between processes
        network = scored_model(model).eval()
        set_position(data_loader, epoch=0, start=0)
        for number, batch in enumerate(data_loader, start=1):
            metric.update(batch_processor.predict(network, batch, device), batch)
            if on_batch is not None:
                on_batch(number)
    return gather_values(metric)


def gather_values(metric: Any) -> dict[str, float]:
    """Merge the parts of all processes and compute once."""
    if distributed.get_world_size() == 1:
        return dict(metric.compute())
    states = distributed.all_gather(metric.state())
    values: dict[str, float] | None = None
    if distributed.is_main_process():
        metric.merge(states)
        values = dict(metric.compute())
    result = distributed.broadcast(values)
    assert result is not None
    return result
