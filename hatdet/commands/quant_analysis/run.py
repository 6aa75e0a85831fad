"""The body of ``tools/quant_analysis.py``: where does quantization lose accuracy, and what helps?"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from hatdet.commands.quant_analysis.ap import VariantMetrics
from hatdet.commands.quant_analysis.images import WorstImages, image_rows
from hatdet.commands.quant_analysis.output import write_outputs
from hatdet.commands.quant_analysis.stages import DEFAULT_STAGES, LoadedStage, load_stage, parse_spec
from hatdet.config.config import Config
from hatdet.engine.checkpoints.lineage import adopted_stage
from hatdet.engine.progress import set_position
from hatdet.engine.stages import work_dir_of
from hatdet.quantization.analysis.layers import LayerComparison, OutputNoise, decibels
from hatdet.quantization.analysis.result import AnalysisResult, build_rows
from hatdet.quantization.analysis.sensitivity import FLOAT, INTEGER, Ablation, IslandCurve, Sensitivity, Variant
from hatdet.quantization.analysis.stage import StageNetwork
from hatdet.utils.errors import UserError
from hatdet.utils.logging import live_line
from hatdet.utils.seed import preserved_rng_state

DEFAULT_IMAGES = 16
AP_LAYERS = 20
PIXELS_AT_A_TIME = 4 * 320 * 320
"""Every value of the network is kept for so many pixels of input at a time: what bounds the memory."""
logger = logging.getLogger("hatdet")


@dataclass(frozen=True)
class Settings:
    """What to do. ``num_images`` None: all. ``ap_layers``: for how many layers AP is measured, the noisiest first."""

    stages: tuple[str, str] = DEFAULT_STAGES
    num_images: int | None = DEFAULT_IMAGES
    sensitivity: str = "sqnr"
    ap_layers: int = AP_LAYERS
    checkpoints: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what cannot be done before anything is loaded.

        Raises:
            UserError: with what is allowed.
        """
        for spec in self.stages:
            parse_spec(spec)
        if self.stages[0] == self.stages[1]:
            raise UserError(f"--stages {self.stages[0]} {self.stages[1]}: name two different stages")
        if self.num_images is not None and self.num_images < 1:
            raise UserError(f"--num-images {self.num_images}: at least 1 is needed")
        if self.ap_layers < 1:
            raise UserError(f"--ap-layers {self.ap_layers}: at least 1 is needed")
        unused = set(self.checkpoints) - {parse_spec(spec)[0] for spec in self.stages}
        if unused:
            raise UserError(
                f"--ckpt names {', '.join(sorted(unused))}, but --stages are {' and '.join(self.stages)}; "
                "name files of these stages only"
            )


def quant_analysis(config: Config, settings: Settings, out: str | Path | None = None) -> AnalysisResult:
    """Compare two stages layer by layer, measure what each layer costs, write CSV, JSON and HTML.

    Args:
        out: folder for the files; None: ``work_dir/quant_analysis``.

    Returns:
        what was found.

    Raises:
        UserError: a stage cannot be loaded, or there are no images.
    """
    settings.check()
    stages = [parse_spec(spec)[0] for spec in settings.stages]
    for stage in stages:
        config = adopted_stage(config, stage, settings.checkpoints.get(stage))
    reference, tested = (load_stage(config, spec, settings.checkpoints) for spec in settings.stages)
    with preserved_rng_state():
        run = _Run(reference, tested, settings)
        result = run.result()
        pictures = run.worst.pictures(run.dataset, (reference.spec, tested.spec))
    folder = Path(out) if out is not None else work_dir_of(config, "quant_analysis")
    write_outputs(result, folder, pictures)
    return result


class _Run:
    """One analysis: passes over the images, each of which fills some of the numbers."""

    def __init__(self, reference: LoadedStage, tested: LoadedStage, settings: Settings) -> None:
        self.settings = settings
        self.loader = tested.predictor.data_loader
        self.dataset = getattr(self.loader, "dataset", None)
        self.processor, self.device = tested.predictor.batch_processor, tested.predictor.device
        first = next(iter(self.pieces()), None)
        if first is None:
            raise UserError("the validation data has no images to analyse; add some")
        size = (int(first["img"].shape[2]), int(first["img"].shape[3]))
        self.reference, self.tested = (
            StageNetwork(name=stage.spec, model=stage.model, mode=stage.mode, image_size=size)
            for stage in (reference, tested)
        )
        self.notes: list[str] = []
        self.worst = WorstImages()
        self.comparison = LayerComparison(self.reference, self.tested)
        self.outputs = OutputNoise()
        self.images = 0
        self.metrics = (
            VariantMetrics(tested.predictor.val_metrics, self.dataset) if settings.sensitivity == "ap" else None
        )
        self.image_size = size

    def pieces(self) -> Iterator[dict[str, Any]]:
        """The images, a few at a time, on the device."""
        set_position(self.loader, epoch=0, start=0)
        left = self.settings.num_images
        for batch in self.loader:
            batch = self.processor.prepare_batch(batch, self.device)
            count, _, height, width = batch["img"].shape
            step = max(1, PIXELS_AT_A_TIME // (height * width))
            for start in range(0, count, step):
                stop = min(count, start + step, start + left if left is not None else count)
                yield {key: _slice(value, count, start, stop) for key, value in batch.items()}
                if left is not None:
                    left -= stop - start
                    if left <= 0:
                        return

    def result(self) -> AnalysisResult:
        """Do everything."""
        self._compare()
        integer = self._integer_stage()
        sensitivity: Sensitivity | None = None
        ap: dict[str, tuple[float, float]] = {}
        metrics: dict[str, Mapping[str, float]] = {}
        curve: list[tuple[int, float]] = []
        if integer is not None:
            ablation = Ablation(integer)
            sensitivity = self._sensitivity(ablation)
            order = sorted(sensitivity.alone, key=lambda out: -sensitivity.shares()[out])
            if self.metrics is not None:
                ap, metrics = self._average_precision(ablation, order[: self.settings.ap_layers])
            curve = self._curve(ablation, order, sensitivity)
        rows, source = build_rows(self.comparison, sensitivity, ap)
        names = self.tested.model.task.output_names
        each = {n: decibels(s, e) for n, s, e in zip(names, self.outputs.signal, self.outputs.noise, strict=True)}
        return AnalysisResult(
            reference=self.reference.name, tested=self.tested.name, images=self.images,
            measure=self.settings.sensitivity if integer is not None else "off", layers=rows, source=source,
            outputs_sqnr=self.outputs.sqnr, output_sqnr=each, worst_images=self.worst.rows, curve=curve,
            metrics=metrics, notes=self.notes, arithmetic=self._arithmetic(integer),
        )  # fmt: skip

    def _compare(self) -> None:
        for batch in _shown(self.pieces(), "comparing layers"):
            inputs = [stage.model.preprocess(batch["img"]) for stage in (self.reference, self.tested)]
            maps = self.comparison.update(inputs[0], inputs[1])
            self.outputs.update(*maps)
            found = tuple(
                stage.model.predict(m, batch) for stage, m in zip((self.reference, self.tested), maps, strict=True)
            )
            for row, a, b in image_rows(batch, maps, (found[0], found[1])):
                self.worst.add(row, a, b)
            self.images += len(batch["img"])
        self._note_weights()

    def _note_weights(self) -> None:
        """Two stages of differing weights: their difference is not quantization alone."""
        for out in self.tested.steps:
            ops = self.reference.float_ops[out], self.tested.float_ops[out]
            if ops[0].weight is not None and not (ops[0].weight == ops[1].weight).all():
                stage = self.tested.name.split(":")[0]
                other = "qat" if stage == "int_infer" else stage
                self.notes.append(
                    f"{self.reference.name} and {self.tested.name} have different weights (training went on between "
                    f"them), so the errors hold that too; --stages {other}:float {self.tested.name} shows quantization "
                    "alone. What layers cost at the outputs is measured with the weights of the quantized stage."
                )
                return

    def _integer_stage(self) -> StageNetwork | None:
        """The stage whose layers are ablated: the tested one in integers, or the reference where only that has them."""
        if self.settings.sensitivity == "off":
            return None
        for stage in (self.tested, self.reference):
            if stage.mode == "integer":
                return stage
        for stage in (self.tested, self.reference):
            if stage.model.can_evaluate:
                return StageNetwork(
                    name=f"{stage.name} (integer)", model=stage.model, mode="integer", image_size=self.image_size
                )
        self.notes.append("neither stage has activation ranges: there are no layers to quantize one by one")
        return None

    def _arithmetic(self, integer: StageNetwork | None) -> str:
        """That of what is ablated, else of a stage in integers."""
        stages = (integer, self.tested, self.reference)
        return next((s.model.arithmetic for s in stages if s is not None and s.mode == "integer"), "")

    def _sensitivity(self, ablation: Ablation) -> Sensitivity:
        found = Sensitivity()
        for batch in _shown(self.pieces(), f"quantizing {len(ablation.outputs)} layers one by one"):
            exact: tuple[Tensor, ...] = ()
            for variant, maps in ablation.variants(ablation.stage.model.preprocess(batch["img"])):
                exact = maps if variant == FLOAT else exact
                found.update(variant, exact, maps)
        return found

    def _average_precision(
        self, ablation: Ablation, layers: Sequence[str]
    ) -> tuple[dict[str, tuple[float, float]], dict[str, Mapping[str, float]]]:
        """(AP lost alone, AP won kept float) by layer, and the values of the float and the integer network."""
        assert self.metrics is not None
        model = ablation.stage.model
        for batch in _shown(self.pieces(), f"AP of {len(layers)} layers"):
            for variant, maps in ablation.variants(model.preprocess(batch["img"]), layers):
                self.metrics.update(variant, model.predict(maps, batch), batch)
        base = {variant: self.metrics.compute(variant) for variant in (FLOAT, INTEGER)}

        def ap(variant: Variant) -> float:
            assert self.metrics is not None
            return self.metrics.compute(variant)["AP"]

        found = {
            out: (base[FLOAT]["AP"] - ap(("alone", out)), ap(("kept", out)) - base[INTEGER]["AP"]) for out in layers
        }
        name = ablation.stage.name
        return found, {f"{name} (weights in float)": base[FLOAT], name: base[INTEGER]}

    def _curve(self, ablation: Ablation, order: Sequence[str], sensitivity: Sensitivity) -> list[tuple[int, float]]:
        curve = IslandCurve(ablation, order)
        for batch in _shown(self.pieces(), "keeping the most sensitive layers float"):
            curve.update(ablation.stage.model.preprocess(batch["img"]))
        return [(0, sensitivity.integer.sqnr), *((count, noise.sqnr) for count, noise in curve.noise.items())]


def _slice(value: Any, count: int, start: int, stop: int) -> Any:
    if isinstance(value, (Tensor, list, tuple)) and len(value) == count:
        return value[start:stop]
    return value


def _shown(pieces: Iterable[dict[str, Any]], what: str) -> Iterator[dict[str, Any]]:
    """Pass on, with a live line of progress."""
    logger.info("%s", what)
    done = 0
    with live_line() as show:
        for piece in pieces:
            yield piece
            done += len(piece["img"])
            if show is not None:
                show(f"{what}: {done} images")
