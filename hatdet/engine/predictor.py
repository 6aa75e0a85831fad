"""Scoring a finished model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.checkpoints.bits import settle_bits
from hatdet.engine.checkpoints.classes import check_classes, pipeline_classes
from hatdet.engine.checkpoints.following import followed
from hatdet.engine.checks.config import check_input
from hatdet.engine.evaluation import evaluate
from hatdet.engine.processes.device import choose_device
from hatdet.registry import register
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, load_state
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.logging import live_line

logger = logging.getLogger("hatdet")


@register
class Predictor:
    """Converts a model, loads weights into the converted model, and evaluates it on a loader.

    Args:
        model: a detector.
        data_loader: the data to score on.
        val_metrics: the metric.
        batch_processor: how a batch is moved and the model called.
        model_convert_pipeline: a callable ``model -> model``.
        checkpoint_path: weights for the *converted* model; None: the pipeline has loaded them.
        tta: wraps the finished model for test-time augmentation, e.g. ``dict(type="TTA")``.
        device: None: this process's GPU, or the CPU.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        data_loader: Any,
        val_metrics: Any,
        batch_processor: BasicBatchProcessor | None = None,
        model_convert_pipeline: Callable[[nn.Module], nn.Module] | None = None,
        checkpoint_path: str | Path | None = None,
        tta: Callable[[nn.Module], nn.Module] | None = None,
        device: torch.device | str | int | None = None,
    ) -> None:
        self.model, self.data_loader, self.val_metrics = model, data_loader, val_metrics
        self.batch_processor = batch_processor or BasicBatchProcessor(need_grad_update=False)
        self.model_convert_pipeline = model_convert_pipeline
        self.checkpoint_path = checkpoint_path
        self.tta = tta
        self.known_classes: KnownClasses | None = None  # of a model file that is put in the place of the network
        self.stand_in: Callable[[nn.Module], nn.Module] | None = None  # makes what is scored in the model's place
        self.device = choose_device(device)

    def predict(self) -> dict[str, float]:
        """Evaluate.

        Returns:
            the metric's values.

        Raises:
            UserError: the weights do not fit the model, or the model not the data.
        """
        self.prepare()
        scored = self.model if self.stand_in is None else self.stand_in(self.model)
        total = len(self.data_loader)
        begin = time.perf_counter()
        with live_line() as show:

            def on_batch(number: int) -> None:
                if show is not None:
                    show(f"evaluating: {number} of {total} batches")

            values = evaluate(
                model=scored,
                data_loader=self.data_loader,
                metric=self.val_metrics,
                batch_processor=self.batch_processor,
                device=self.device,
                on_batch=on_batch,
            )
        logger.info("evaluated %d batches in %.1f s", total, time.perf_counter() - begin)
        return values

    def check_data(self, known: KnownClasses | None = None) -> None:
        """Number the data's labels by the classes of the weights; compare them and the pixels with the model's.

        Args:
            known: classes of the weights; None: of ``known_classes``, or of the checkpoint that the pipeline loads.
        """
        known = known or self.known_classes or pipeline_classes(self.model_convert_pipeline)
        check_classes(self.model, None, self.data_loader, known)
        settle_bits(self.model, [self.data_loader], known)
        check_input(self.model, validation=self.data_loader)

    def prepare(self) -> nn.Module:
        """Convert the model, load the weights, move it to the device; returns it."""
        state = load_checkpoint(self.checkpoint_path) if self.checkpoint_path is not None else None
        self.check_data(KnownClasses.of(state, str(self.checkpoint_path)) if state is not None else None)
        if self.model_convert_pipeline is not None:
            self.model = self.model_convert_pipeline(self.model)
        if state is not None:
            weights = followed(self.model, state, state.get("state_dict", state), str(self.checkpoint_path))
            report = load_state(self.model, weights, source=str(self.checkpoint_path))
            logger.info("loaded %s: %s", self.checkpoint_path, report)
        self.model = self.batch_processor.prepare_model(self.model, self.device)
        if self.tta is not None:
            self.model = self.tta(self.model)
        return self.model
