"""Which configs, options and commands `digests.py` runs: small pictures, few steps, every stage and every writer."""

from __future__ import annotations

from dataclasses import dataclass

TRAIN_IMAGES, VAL_IMAGES = 21, 6  # one training picture is empty: 10 steps an epoch with a batch of 2
FEW_IMAGES = 4  # for the large networks: 2 steps

FLOAT = "float-checkpoint-best.pth.tar"
COMMANDS = {
    "float": "train.py --stage float",
    "calibration": "train.py --stage calibration",
    "qat": "train.py --stage qat",
    "predict float": "predict.py --stage float {metric}.results_file=predicted/float.json",
    "predict": "predict.py --stage int_infer {metric}.results_file=predicted/int_infer.json",
    "predict tta": "predict.py --stage float --tta {metric}.results_file=predicted/tta.json",
    "export": "export.py --stage int_infer --format tflite onnx vela --emit-decoder --verify 0",
    "export calibration": "export.py --stage calibration --format tflite onnx --emit-decoder --verify 0",
    "export raw": "export.py --stage calibration --format tflite onnx --verify 0",
    "export float": f"export.py {FLOAT} --out-dir float_files --format tflite onnx torchscript --verify 0",
    "export decoded": f"export.py {FLOAT} --out-dir decoded --format tflite onnx torchscript --decode --verify 0",
    "export script": f"export.py {FLOAT} --out-dir decoded --format torchscript --decode --verify 0",
    "verify": "export.py --format tflite onnx --verify 2 --intermediates --evaluate --out-dir verified",
    "verify float": f"export.py {FLOAT} --format tflite onnx torchscript --verify 2 --decode --out-dir verified",
    "onnx": "export_onnx.py --stage float --opset 11 --simplify --preprocess --verify 0 --out options.onnx",
    "quantization": f"quantization.py {FLOAT} --out quantization.json",
    "analysis": "quant_analysis.py --num-images 2 --out analysis",
    "alignment": "align_bpu_validation.py --num-images 2 --runtimes torch litert tflm onnx",
    "alignment default": "align_bpu_validation.py --num-images 2 --runtimes torch litert onnx",
    "perf": "compile_perf.py --target ethos-u65-256 --verify 0 --out-dir perf",
    "check": "check_model.py --json",
    "calops": "calops.py --depth 9 --input-shape 1,3,64,64",
    "infer": "infer.py --model-inputs imgs:../data/val2017 --save-path drawn --score-thr 0",
}
"""What follows ``tools/``; the config, ``--work-dir .`` and the case's options are added."""
PRINTED = ("check", "calops")
"""Commands whose output is compared."""

_INTEGER = ("float", "calibration", "qat", "predict float", "predict", "export")
_FILES = (*_INTEGER, "export float")
_ALL = (*_FILES, "export decoded")
_LARGE = ("float", "calibration", "predict", "export calibration")
_CHECKS = ("verify", "verify float", "onnx", "analysis", "alignment", "perf", "check", "calops", "infer")

_SMALL = "imgsz=(64,64) num_classes=4 workers=0"
_SHORT = (
    f"{_SMALL} data_root=../data/ epochs=2 val_interval=2 batch_size=2 val_batch_size=2 qat_epochs=2 warmup_steps=4 "
    "run_pictures=False"
)
_ANY = f"{_SHORT} calibration_steps=4 lr=1e-2 base_batch_size=8"
_ANY_LARGE = f"{_ANY} data_root=../few/ epochs=1 calibration_steps=2"
_RTMDET, _RTMDET_LARGE = f"{_ANY} recipe=large", f"{_ANY_LARGE} recipe=large"  # which "auto" leaves for few pictures
_LITE0 = f"{_ANY_LARGE} pretrained=None"  # whether the package is installed does not count
_TINY = f"{_SHORT} calibration_step=4 lr=1e-3"
_TUTORIAL = (
    f"{_SMALL} data_root=../packed/ epochs=2 batch_size_per_gpu=2 calibration_step=4 qat_epochs=2 "
    "num_train_samples=20 lr=1e-3"
)
_MMDETECTION = (
    "img_scale=(96,64) data_root=../few/ num_classes=4 epochs=1 data.samples_per_gpu=2 data.workers_per_gpu=0 "
    "model.backbone.init_cfg=None model.backbone.frozen_stages=-1 model.backbone.norm_eval=False optimizer.lr=0.002"
)
_CLASSIFIER = f"{_SMALL} data_root=../folders/ epochs=2 batch_size=2 lr=0.01 warmup_epochs=0.5"

_NANO = "rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"
_RETINANET_TINY = "detection/retinanet/retinanet_vargnetv2_tiny_coco.py"


@dataclass(frozen=True)
class Case:
    """A config with options, and the names of the commands that it goes through.

    Attributes:
        config: relative to ``configs/``.
        options: values for ``--cfg-options``, separated by blanks; of two of one name the last.
        metric: the config's name of its validation metric; None: its detections cannot be asked for.
    """

    config: str
    options: str
    commands: tuple[str, ...] = _FILES
    metric: str | None = "metric"

    def arguments(self, command: str, config: str) -> list[str]:
        """Name and arguments of a tool for a command, run in the case's folder; ``config`` is a path from there."""
        words = COMMANDS[command].format(metric=self.metric).split()
        flags = [word for word in words[1:] if "results_file=" not in word]
        given = [*self.options.split(), *(word for word in words if "results_file=" in word and self.metric)]
        options = {word.split("=")[0]: word for word in given}
        return [words[0], config, *flags, "--work-dir", ".", "--cfg-options", *options.values()]


def _variant(options: str, commands: tuple[str, ...] = _INTEGER) -> Case:
    return Case(_NANO, f"{_RTMDET} {options}", commands)


CASES = {
    "nano_ncadc_relu6": Case(_NANO, _RTMDET, (*_FILES, "predict tta", *_CHECKS)),
    "nano_relu": Case("rtmdet/rtmdet_nano_8xb32_300e_coco_relu.py", _RTMDET),
    "nano_relu_q": Case("rtmdet/rtmdet_nano_8xb32_300e_coco_relu_q.py", _RTMDET, ("float", "quantization")),
    "nano_hardswish": Case("rtmdet/rtmdet_nano_8xb32_300e_coco_hardswish.py", _RTMDET),
    "nano_silu": Case("rtmdet/rtmdet_nano_8xb32_300e_coco_silu.py", _RTMDET),
    "nano_small_data": Case("rtmdet/rtmdet_nano_ncadc_relu6_small_data.py", _ANY, _INTEGER),
    "tiny": Case("rtmdet/rtmdet_tiny_8xb32_300e_coco.py", _RTMDET, (*_INTEGER, "export decoded")),
    "s": Case("rtmdet/rtmdet_s_8xb32_300e_coco.py", _RTMDET_LARGE, (*_LARGE, "export decoded")),
    "m": Case("rtmdet/rtmdet_m_8xb32_300e_coco.py", _RTMDET_LARGE, _LARGE),
    "l": Case("rtmdet/rtmdet_l_8xb32_300e_coco.py", _RTMDET_LARGE, _LARGE),
    "x": Case("rtmdet/rtmdet_x_8xb32_300e_coco.py", _RTMDET_LARGE, _LARGE),
    "older_nano": Case("rtmdet_nano_8xb32_300e_coco.py", _RTMDET, _INTEGER),
    "older_s": Case("rtmdet_s_8xb32_300e_coco.py", _RTMDET_LARGE, _LARGE),
    "older_m": Case("rtmdet_m_8xb32_300e_coco.py", _RTMDET_LARGE, _LARGE),
    "older_l": Case("rtmdet_l_8xb32_300e_coco.py", _RTMDET_LARGE, _LARGE),
    "mnv4": Case("rtmdet_mnv4_8xb32_300e_coco.py", _RTMDET_LARGE, (*_LARGE, "qat", "export", "export float")),
    "retinanet": Case(
        "detection/retinanet/retinanet_vargnetv2_fpn_mscoco.py",
        _TUTORIAL,
        (*_FILES, "export script", "check"),
        "val_metrics",
    ),
    "retinanet_tiny": Case(
        _RETINANET_TINY, _TINY, (*_FILES, "export script", "analysis", "alignment", "infer"), "val_metrics"
    ),
    "retinanet_tiny_bgr": Case(
        _RETINANET_TINY, f"{_TINY} int16_output=False input_color=bgr", _INTEGER, "val_metrics"
    ),
    "retinanet_tiny_gray": Case(_RETINANET_TINY, f"{_TINY} input_color=gray", _INTEGER, "val_metrics"),
    "retinanet_r50": Case(
        "retinanet/retinanet_r50_fpn_1x_coco.py",
        _MMDETECTION,
        ("float", "calibration", "predict", "export raw"),  # its pictures turn, so that no decoder can be written
        None,
    ),
    "classifier": Case("classification/vargnetv2_imagenet.py", _CLASSIFIER, ("float",)),
    "mmdetection": Case("mmdetection/small_data_256_int8.py", _ANY, ("float", "calibration")),
    **{
        name: Case(f"mmdetection/{name}_int8.py", _ANY, _INTEGER)
        for name in ("atss", "centernet", "fcos", "gfl", "ssdlite", "tood", "yolov3", "yolox")
    },
    "pico_03m": Case("rtmdet/rtmdet_pico_03m.py", _ANY, _FILES),
    "pico_06m": Case("rtmdet/rtmdet_pico_06m.py", _ANY, _INTEGER),
    "fomo": Case("fomo/fomo_mobilenetv2_035.py", _ANY, _INTEGER, None),
    "fomo_gray": Case("fomo/fomo_mobilenetv2_035_gray_96.py", _ANY, _INTEGER, None),
    **{
        f"lite0_{name.split('/')[0]}": Case(f"{name}_efficientnet_lite0_small_data.py", _LITE0, _LARGE)
        for name in ("rtmdet/rtmdet", "yolox/yolox", "picodet/picodet")
    },
    "lite0_retinanet": Case(
        "detection/retinanet/retinanet_efficientnet_lite0_coco.py", f"{_TINY} pretrained=None", _LARGE, "val_metrics"
    ),
    **{
        f"yolox_{name}": Case(f"yolox/yolox_{name}.py", _ANY, _INTEGER)
        for name in ("nano_8xb8_300e_coco", "nano_8xb8_300e_coco_relu6", "nano_relu6_small_data")
    },
    **{
        f"yolox_{name}": Case(f"yolox/yolox_{name}.py", _ANY_LARGE, _LARGE)
        for name in ("tiny_8xb8_300e_coco", "tiny_8xb8_300e_coco_relu6", "tiny_relu6_small_data")
    },
    **{
        f"picodet_{name}": Case(f"picodet/picodet_{name}.py", _ANY, _INTEGER)
        for name in ("xs", "s", "xs_npu", "s_npu", "xs_npu_fine", "s_npu_fine", "s_esnet")
    },
    **{
        f"nanodet_{name}": Case(f"nanodet/nanodet_plus_{name}.py", _ANY, _INTEGER)
        for name in (
            "m_300e_coco", "m_300e_coco_relu6", "m_relu6_small_data", "m_1.5x_300e_coco", "m_0.5x_relu6_small_data"
        )
    },
    "gray": _variant("input_color=gray", (*_INTEGER, "export decoded")),
    "int16_output": _variant("int16_output=True", (*_INTEGER, "analysis", "alignment")),
    "with_bn": _variant("qat_mode=with_bn"),
    "xnnpack": _variant(
        "arithmetic=xnnpack", ("float", "calibration", "qat", "predict", "verify", "analysis", "alignment default")
    ),
    "fake_quant": _variant("qat_forward=fake_quant", ("float", "calibration", "qat", "predict")),
    "keep_float": _variant("keep_float=['backbone.stem*'] target=None", ("float", "calibration", "qat", "predict")),
    "wide": _variant(
        "imgsz=(64,96) pixel_mean=110.0 pixel_std=58.0 bgr_to_rgb=True exp_on_reg=True share_conv=True "
        "use_depthwise=True spp_pooling=chained_3x3",
        _ALL,
    ),
    "recipe": _variant("multi_scale=(0.5,1.0) amp=True random_pop=True clip_grad_norm=35", ("float",)),
    **{
        name: _variant(f"calibration_observer={name} epochs=1", ("float", "calibration"))
        for name in ("min_max", "moving_average", "percentile", "kl", "mix")
    },
}
