"""What may run the integer model in an evaluation in place of the torch executor: LiteRT, once it is proved equal."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from torch import Tensor, nn

from hatdet.export.evaluate import TFLiteDetector
from hatdet.export.runtimes.integer import Codes, to_nhwc
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.utils.errors import UserError, did_you_mean

logger = logging.getLogger("hatdet")
ENGINES = ("torch", "litert")
PROVED = 16
"""Pictures at the beginning of an evaluation whose outputs are compared, all of them."""
EVERY = 100
"""After these one picture in so many is compared."""


def check_engine(name: str, stage: str, tta: bool = False) -> None:
    """Refuse an engine that is none, or that cannot run what is to be evaluated.

    Raises:
        UserError: naming what is allowed.
    """
    if name not in ENGINES:
        raise UserError(f"unknown engine {name!r}{did_you_mean(name, ENGINES)}; there are {', '.join(ENGINES)}")
    if name == "litert" and stage != "int_infer":
        raise UserError(f"--engine litert runs integer models, not stage {stage!r}; use --stage int_infer")
    if name == "litert" and tta:
        raise UserError("--engine litert takes images of one size; leave --tta or --engine litert out")


class LiteRTEngine:
    """Makes of an integer detector one that LiteRT's default kernels run (``Predictor.stand_in``).

    Args:
        proved: pictures that are compared at the beginning; every: of the others, one in so many.
        workers: images run at a time; None: one a CPU core.
    """

    def __init__(self, proved: int = PROVED, every: int = EVERY, workers: int | None = None) -> None:
        self.proved, self.every, self.workers = proved, every, workers
        self._made: ProvedDetector | None = None

    def __call__(self, model: nn.Module) -> nn.Module:
        """
        Raises:
            UserError: the model's arithmetic is not that of the default kernels, or parts of it are float.
        """
        assert isinstance(model, IntegerDetector), type(model)
        profile = model.graph.profile
        if profile.litert != "default":
            slow = "the kernels that compute so are slower in LiteRT than the torch executor"
            raise UserError(
                f"--engine litert needs arithmetic='xnnpack'; this model has {profile.name!r}, and "
                f"{slow if profile.litert else 'LiteRT has no kernels that compute so'}: leave --engine out"
            )
        model.graph.refuse_islands("a .tflite file")
        self._made = ProvedDetector(model, self.proved, self.every, self.workers)
        return self._made

    def record(self) -> dict[str, Any]:
        """What ran, and what was compared."""
        made = self._made
        assert made is not None
        return {
            "engine": "litert", "runtime": made.runtime, "pictures": made.seen, "pictures_compared": made.compared,
            "values_compared": made.values, "values_differing": 0,
        }  # fmt: skip

    def line(self) -> str:
        """The same in words."""
        r = self.record()
        return (
            f"{r['runtime']} equal to the torch executor on {r['pictures_compared']} of {r['pictures']} pictures: "
            f"{r['values_compared']} output values compared, 0 differing"
        )


class ProvedDetector(TFLiteDetector):
    """Boxes from the integer model's file under LiteRT's default kernels, compared with the torch executor on the way:
    all outputs of the first pictures, then of one in ``every``.

    Raises:
        UserError: a value differs; no metric is computed then.
    """

    def __init__(self, model: IntegerDetector, proved: int, every: int, workers: int | None = None) -> None:
        graph = model.graph
        super().__init__(detector=model.task, model=write(graph), kernels="default", workers=workers)
        self.runtime = self._runtimes[0].name
        self._referee = IntExecutor(graph)
        self._names = graph.outputs
        self._proved, self._every = max(1, proved), max(1, every)
        self.seen = self.compared = self.values = 0

    def results(self, codes: Tensor) -> list[Codes]:
        made = super().results(codes)
        chosen = [i for i in range(len(codes)) if self._is_compared(self.seen + i)]
        if chosen:
            expected = [to_nhwc(values) for values in self._referee(codes[chosen].cpu())]
            for name, ours, theirs in zip(self._names, expected, made, strict=True):
                self._refuse(name, ours, theirs[chosen])
            self.compared += len(chosen)
            self.values += sum(values.size for values in expected)
        self.seen += len(codes)
        return made

    def _is_compared(self, number: int) -> bool:
        return number < self._proved or (number - self._proved) % self._every == self._every - 1

    def _refuse(self, name: str, ours: Codes, theirs: Codes) -> None:
        lsb = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        if count := int(np.count_nonzero(lsb)):
            raise UserError(
                f"{self.runtime} differs from the torch executor in {count} of {lsb.size} values of output {name!r}, "
                f"by at most {int(lsb.max())}, after {self.compared} equal pictures; evaluate without --engine litert"
            )
