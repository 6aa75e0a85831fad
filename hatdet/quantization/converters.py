"""Converters: what turns the model of one stage into the model of the next. Each is a callable ``model -> model``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from hatdet.integer.agreement.together import arithmetic_named
from hatdet.integer.arithmetic import PROFILE
from hatdet.quantization.analysis.four_bits import check_budget
from hatdet.quantization.detector import QuantizedDetector, device_of, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.handover import begin_where_calibrated
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.quantization.loading import LoadCheckpoint as LoadCheckpoint  # one of them, to be found here too
from hatdet.quantization.normalization import fold_normalization
from hatdet.quantization.ptq.refine import Refinement, equalize_network
from hatdet.quantization.qat.live_bn import attach_bn
from hatdet.quantization.qat.network import QAT_FORWARDS
from hatdet.quantization.qat.observers import OBSERVERS
from hatdet.quantization.qat.weight_bits import QAT_SCALES, check_weight_bits
from hatdet.registry import register
from hatdet.utils.errors import UserError, did_you_mean

Converter = Callable[[nn.Module], nn.Module]
logger = logging.getLogger("hatdet")

QAT_MODES = ("fuse_bn", "with_bn")
QCONFIG_DEFAULTS: dict[str, Any] = {
    "activation_calibration_observer": "mse",
    "activation_qat_observer": "moving_average",
    "averaging_constant": 0.01,
    "equalize": False,
    "bias_correction": False,
    "weight_rounding": "nearest",
    "qat_forward": "integer",
    "keep_float": (),
    "int16_output": None,
    "arithmetic": PROFILE,
    "weight_bits": 8,
    "flash_budget": None,
    "qat_scales": "auto",
}


@register
class ModelConvertPipeline:
    """Calls converters in order.

    Args:
        converters: built converters, or None entries, which are skipped.
        qat_mode: ``fuse_bn``: batch normalization is folded before quantization, and QAT runs in the arithmetic that
            ships; ``with_bn``: it stays alive (``FuseBN`` then does nothing), QAT runs in fake quantization, and what
            is evaluated and exported is the folded integer model. The same in all stages of a config.
        qconfig_params: defaults for the quantizing converters: ``activation_calibration_observer``,
            ``activation_qat_observer`` (both one of ``min_max, moving_average, percentile, mse, kl, mix``),
            ``averaging_constant``, what calibration does to weights: ``equalize`` (cross-layer equalization,
            :mod:`~hatdet.quantization.ptq.equalization`), ``bias_correction``
            (:mod:`~hatdet.quantization.ptq.bias_correction`), ``weight_rounding`` (``nearest`` or ``adaround``,
            :mod:`~hatdet.quantization.ptq.adaround`), ``qat_forward``
            (``integer`` or ``fake_quant``), ``keep_float`` (names of layers that stay in float, such as
            ``["bbox_head.rtm_reg.0", "backbone.stem*"]``: to be evaluated, not exported),
            ``int16_output`` (True: the outputs have 16 bits; None: as the detector's head asks for),
            ``arithmetic`` (the kernels that the integers follow, of :mod:`hatdet.integer.profiles`: ``tflite_ref``,
            ``xnnpack`` or ``tflite_single``; or ``both``, short for ``tflite_ref+xnnpack``: exact in the first, with
            scales that make the second agree wherever they can; the same in all stages), ``weight_bits`` (8, 4, names
            of the layers whose weights have 4 bits, or ``auto``: calibration chooses them, and the later stages take
            them from its checkpoint), ``flash_budget`` (of ``auto``: bytes of weights and biases, or their share of
            those with 8 bits), ``qat_scales`` (of weights in QAT: ``learned``, ``observed``, or ``auto``: learned where
            they have 4 bits).

    Raises:
        UserError: an unknown mode, key or observer.
    """

    def __init__(
        self,
        *,
        converters: Sequence[Converter | None],
        qat_mode: str = "fuse_bn",
        qconfig_params: Mapping[str, Any] | None = None,
    ) -> None:
        if qat_mode not in QAT_MODES:
            raise UserError(f"unknown qat_mode {qat_mode!r}{did_you_mean(qat_mode, QAT_MODES)}")
        params = dict(qconfig_params or {})
        for key in params:
            if key not in QCONFIG_DEFAULTS:
                raise UserError(f"qconfig_params: unknown key {key!r}{did_you_mean(key, QCONFIG_DEFAULTS)}")
        live = qat_mode == "with_bn"
        self.converters = [c for c in converters if c is not None and not (live and isinstance(c, FuseBN))]
        for converter in self.converters:
            if isinstance(converter, _Quantizer):
                converter.configure(params)
                converter.live_bn = live

    def __call__(self, model: nn.Module) -> nn.Module:
        for converter in self.converters:
            model = converter(model)
        return model


@register
class FuseBN:
    """Folds batch normalization into the convolutions before it."""

    def __call__(self, model: nn.Module) -> nn.Module:
        logger.info("folded %d batch normalizations", fuse_bn(model, share=True))
        return model


class _Quantizer:
    """Common part of the converters that insert quantizers; own arguments win over the pipeline's."""

    observer_key = "activation_calibration_observer"
    live_bn = False
    trains = False

    def __init__(
        self, observer: str | None, averaging_constant: float | None, qat_forward: str | None, **own: bool | str | None
    ) -> None:
        given = {self.observer_key: observer, "averaging_constant": averaging_constant, "qat_forward": qat_forward}
        self.own = {key: value for key, value in {**given, **own}.items() if value is not None}
        self.configure({})

    def configure(self, defaults: Mapping[str, Any]) -> None:
        settings = {**QCONFIG_DEFAULTS, **defaults, **self.own}
        for key in ("activation_calibration_observer", "activation_qat_observer"):
            if settings[key] not in OBSERVERS:
                raise UserError(f"{key}: unknown observer {settings[key]!r}; use one of {', '.join(OBSERVERS)}")
        if settings["qat_forward"] not in QAT_FORWARDS:
            raise UserError(f"qat_forward is {settings['qat_forward']!r}; use one of {', '.join(QAT_FORWARDS)}")
        names = settings["keep_float"]
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise UserError(f"keep_float is {names!r}; it is a list of layer names, such as ['bbox_head.rtm_reg.0']")
        if settings["int16_output"] not in (True, False, None):
            raise UserError(f"int16_output is {settings['int16_output']!r}; use True, False or None (as the head says)")
        arithmetic_named(settings["arithmetic"])
        check_weight_bits(settings["weight_bits"])
        check_budget(settings["flash_budget"])
        if settings["qat_scales"] not in QAT_SCALES:
            raise UserError(f"qat_scales is {settings['qat_scales']!r}; use one of {', '.join(QAT_SCALES)}")
        Refinement.of(settings)
        self.settings = settings

    def quantize(self, model: nn.Module) -> QuantizedDetector:
        scales = self.settings["qat_scales"] if self.trains else "observed"
        if self.live_bn:
            if scales == "learned":
                raise UserError(
                    "qat_scales='learned' needs folded batch norms: set qat_mode='fuse_bn', or qat_scales='observed'"
                )
            scales = "observed"
            fold_normalization(model)
            logger.info("%d batch normalizations stay alive; the integer model folds them", attach_bn(model))
        else:
            fuse_bn(model, share=True)
            fold_normalization(model)
        return quantize_detector(
            model,
            observer=self.settings[self.observer_key],
            averaging_constant=float(self.settings["averaging_constant"]),
            qat_forward=self.settings["qat_forward"],
            keep_float=list(self.settings["keep_float"]),
            int16_output=self.settings["int16_output"],
            arithmetic=self.settings["arithmetic"],
            live_bn=self.live_bn,
            weight_bits=self.settings["weight_bits"],
            qat_scales=scales,
            flash_budget=self.settings["flash_budget"],
        )


@register
class Float2Calibration(_Quantizer):
    """Inserts observers: the model runs in float and records ranges until quantization is switched on.

    Args:
        observer: ``min_max, moving_average, percentile, mse, kl`` or ``mix``.
        equalize, bias_correction, weight_rounding: see :class:`ModelConvertPipeline`.
        convert_mode: only ``fx`` (torch.fx tracing).
    """

    def __init__(
        self,
        *,
        observer: str | None = None,
        averaging_constant: float | None = None,
        equalize: bool | None = None,
        bias_correction: bool | None = None,
        weight_rounding: str | None = None,
        convert_mode: str = "fx",
    ) -> None:
        check_convert_mode(convert_mode)
        super().__init__(
            observer, averaging_constant, None,
            equalize=equalize, bias_correction=bias_correction, weight_rounding=weight_rounding,
        )  # fmt: skip

    def __call__(self, model: nn.Module) -> nn.Module:
        refinement = Refinement.of(self.settings)
        if self.live_bn and refinement.changes_weights:
            raise UserError(
                "equalize, bias_correction and weight_rounding change folded weights, and with qat_mode='with_bn' "
                "there are none: leave them out, or set qat_mode='fuse_bn'"
            )
        quantized = self.quantize(model)
        quantized.refinement = refinement
        if refinement.equalize:
            equalize_network(quantized.quantized)
        quantized.set_observing(True)
        quantized.set_quantizing(False)
        return quantized


@register
class Float2QAT(_Quantizer):
    """Inserts quantizers for training in quantized arithmetic.

    Args:
        observer: how ranges follow the data in QAT; ``moving_average`` by default.
        averaging_constant: weight of a step's range in the moving average.
        qat_forward: ``integer`` (the arithmetic that ships) or ``fake_quant`` (torch.ao's).
        calibration_checkpoint: ranges to start from; where the file is absent, the first batch sets them.
        convert_mode: only ``fx``.
    """

    observer_key = "activation_qat_observer"
    trains = True

    def __init__(
        self,
        *,
        observer: str | None = None,
        averaging_constant: float | None = None,
        qat_forward: str | None = None,
        calibration_checkpoint: str | None = None,
        convert_mode: str = "fx",
    ) -> None:
        check_convert_mode(convert_mode)
        super().__init__(observer, averaging_constant, qat_forward)
        self.calibration_checkpoint = calibration_checkpoint

    def __call__(self, model: nn.Module) -> nn.Module:
        quantized = self.quantize(model)
        path = self.calibration_checkpoint
        if path is not None and os.path.isfile(path):
            begin_where_calibrated(quantized, path)
        elif path is not None and quantized.quantized.undecided:
            raise UserError(
                f"weight_bits='auto' is decided by the calibration, and there is no {path}: run the calibration stage, "
                "or name the layers in weight_bits"
            )
        elif path is not None:
            logger.info("no %s: the first batch sets the activation ranges", path)
        quantized.set_observing(True)
        quantized.set_quantizing(True)
        return quantized


@register
class QAT2Int:
    """Lowers the quantized model to the integer graph, run by the torch executor.

    Args:
        image_size: (h, w) for which the graph's shapes are recorded (the exported file has this input size).
    """

    def __init__(self, *, image_size: tuple[int, int] = (320, 320)) -> None:
        self.image_size = (int(image_size[0]), int(image_size[1]))

    def __call__(self, model: nn.Module) -> nn.Module:
        if not isinstance(model, QuantizedDetector):
            raise UserError("QAT2Int needs a quantized model: put Float2QAT or Float2Calibration before it")
        graph = model.int_graph(self.image_size)
        saved = graph.shared_weight_bytes_saved
        logger.info(
            "lowered to %d integer operators in the arithmetic %s, %d bytes of weights and biases%s",
            len(graph.ops), graph.profile.name, graph.weight_bytes,
            f"; sharing weights between levels saves {saved} bytes" if saved else "",
        )  # fmt: skip
        return IntegerDetector(detector=model.task, graph=graph, device=device_of(model))


def check_convert_mode(convert_mode: str) -> None:
    if convert_mode != "fx":
        raise UserError(f"convert_mode={convert_mode!r} is not available; use 'fx'")
