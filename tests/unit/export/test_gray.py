"""Networks for pictures of one channel: quantization, files, decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hatdet.data.image_file import to_gray
from hatdet.data.transforms.geometry import Pad, Resize
from hatdet.data.transforms.tensor import ToTensor
from hatdet.export.calibrate import calibrate
from hatdet.export.decoder.body import bgr_to_gray, resize
from hatdet.export.decoder.input import preprocessing
from hatdet.export.decoder.model import decoder_model
from hatdet.export.images import apply_transforms
from hatdet.export.targets.check import check_model
from hatdet.export.targets.table import get_target
from hatdet.integer.graph import IntGraph
from hatdet.models.backbones.cspnext import CSPNeXt
from hatdet.models.backbones.mobilenetv2 import MobileNetV2
from hatdet.models.backbones.mobilenetv4 import MobileNetV4
from hatdet.models.backbones.resnet import ResNet
from hatdet.models.backbones.vargnetv2 import VargNetV2
from hatdet.models.detectors.rtmdet import RTMDet
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.profiling.calops import count_ops
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.quantization.stem import gray_stem
from hatdet.utils.errors import UserError
from tests.helpers.decoders import Decoders, file_metadata
from tests.helpers.retinanet import build_retinanet
from tests.helpers.rtmdet import build_rtmdet

SIZE = (64, 96)
FILES = [(64, 96), (128, 192), (480, 640), (61, 400), (333, 97), (1, 1), (1, 500), (95, 161)]


def gray_rtmdet() -> RTMDet:
    torch.manual_seed(0)
    detector = build_rtmdet(num_classes=3, widen_factor=0.125, deepen_factor=0.1, input_color="gray").eval()
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias)
    for conv in [*detector.bbox_head.rtm_cls, *detector.bbox_head.rtm_reg]:
        torch.nn.init.normal_(conv.weight, std=0.2)
    return detector


@pytest.fixture(scope="module")
def detector() -> RTMDet:
    return gray_rtmdet()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (3, 1, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def graph(detector: RTMDet, pixels: torch.Tensor) -> IntGraph:
    import copy

    model, _ = calibrate(copy.deepcopy(detector), [{"img": pixels}], 3, "min_max")
    return model.int_graph(SIZE)


@pytest.mark.parametrize(
    "backbone",
    [
        CSPNeXt(deepen_factor=0.1, widen_factor=0.125, in_channels=1),
        MobileNetV2(widen_factor=0.25, in_channels=1),
        MobileNetV4(in_channels=1),
        ResNet(depth=18, in_channels=1),
        VargNetV2(include_top=False, alpha=0.25, in_channels=1),
    ],
    ids=lambda b: type(b).__name__,
)
def test_every_backbone_takes_one_channel(backbone: Any) -> None:
    assert backbone.in_channels == 1
    maps = backbone.eval()(torch.zeros(1, 1, 64, 64))
    assert tuple(m.shape[1] for m in maps) == backbone.feature_info.channels


def test_a_detector_says_what_it_takes(detector: RTMDet) -> None:
    assert detector.input_channels == 1 and detector.input_format.color == "gray"
    facts = detector.metadata()
    assert facts["input_color"] == "gray" and facts["input_order"] == "GRAY"
    assert "input_color" not in build_rtmdet(widen_factor=0.125).metadata()  # files of colour networks are as before
    with pytest.raises(UserError, match=r"images have 3 channels \(input_color='bgr'\), but the backbone \(CSPNeXt\) "
                       "takes 1: set backbone.in_channels=3 or input_color='gray'"):  # fmt: skip
        RTMDet(**{name: getattr(detector, name) for name in ("backbone", "neck", "bbox_head", "preprocessor",
                  "assigner", "loss_cls", "loss_bbox", "post_process")})  # fmt: skip
    with pytest.raises(UserError, match=r"images have 1 channel \(input_color='gray'\), .* takes 3"):
        build_retinanet(input_color="gray")
    three = DataPreprocessor(mean=(1.0, 2.0, 3.0), std=1.0)
    gray = VargNetV2(include_top=False, alpha=0.25, in_channels=1)
    with pytest.raises(UserError, match="the preprocessor's mean has 3 numbers: write one number as mean"):
        build_retinanet(backbone=gray, preprocessor=three, input_color="gray")
    assert build_retinanet(backbone=gray, input_color="gray").metadata()["input_order"] == "GRAY"


def test_the_integer_input_has_one_channel(graph: IntGraph, detector: RTMDet, pixels: torch.Tensor) -> None:
    assert graph.tensors[graph.inputs[0]].shape == (1, *SIZE)
    assert (graph.qparams(graph.inputs[0]).scale, graph.qparams(graph.inputs[0]).zero_point) == (
        float(np.float32(1 / 255)),
        -128,
    )


def test_an_integer_model_of_other_pictures_is_refused(graph: IntGraph) -> None:
    with pytest.raises(UserError, match=r"takes images of 1 channel\(s\), the config's detector of 3: set input_color"):
        IntegerDetector(detector=build_rtmdet(num_classes=3, widen_factor=0.125), graph=graph)


def test_all_runtimes_agree(graph: IntGraph, pixels: torch.Tensor) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    from hatdet.export.runtimes.parity import check_parity
    from hatdet.export.tflite import int8 as tflite

    codes = (pixels.to(torch.int16) - 128).to(torch.int8)
    report = check_parity(graph, tflite.write(graph), codes)
    assert report.ok, report
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from hatdet.commands.align_bpu_validation.comparison import OnnxExact
    from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc

    assert to_nhwc(codes).shape == (3, *SIZE, 1)
    for one in to_nhwc(codes):
        pairs = zip(OnnxExact(graph).run(one[None]), LiteRTRuntime(tflite.write(graph)).run(one[None]), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_float_onnx_takes_one_channel(detector: RTMDet, pixels: torch.Tensor) -> None:
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from hatdet.export.onnx.evaluate import OnnxDetector
    from hatdet.export.onnx.file import open_session
    from hatdet.export.onnx.floating import write_float

    for preprocess in (False, True):
        data = write_float(detector, SIZE, preprocess=preprocess)
        session = open_session(data)
        assert session.get_inputs()[0].shape == [1, 1, *SIZE]
        given = pixels[:1].float() if preprocess else detector.preprocess(pixels[:1])
        found = session.run(None, {"images": given.numpy()})
        with torch.no_grad():
            for a, b in zip(found, detector.run_network(detector.preprocess(pixels[:1])), strict=True):
                assert np.abs(a - b.numpy()).max() <= 1e-4 * max(1.0, float(b.abs().max()))
    layout = OnnxDetector(detector=detector, model=data).layout
    layout.check_shapes(detector, "x.onnx")
    with pytest.raises(UserError, match=r"x.onnx takes images of 1 channel\(s\), the config's detector of 3"):
        layout.check_shapes(build_rtmdet(num_classes=3, widen_factor=0.125, deepen_factor=0.1), "x.onnx")


def test_check_model_and_calops(detector: RTMDet) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    assert check_model(detector, get_target("ethos-u55-128"), SIZE).ok
    assert count_ops(detector, (1, 1, *SIZE)).macs < count_ops(build_rtmdet(num_classes=3, widen_factor=0.125,
                     deepen_factor=0.1), (1, 3, *SIZE)).macs  # fmt: skip
    with pytest.raises(UserError, match=r"takes images of 1 channel\(s\) .*\(1, 3, 64, 96\): write 1,1,64,96"):
        count_ops(detector, (1, 3, *SIZE))


def test_decoders_take_gray_and_colour_pictures(detector: RTMDet, tmp_path: Path) -> None:
    transforms: list[Any] = [Resize(SIZE), Pad(SIZE), ToTensor(color="gray")]
    metadata = file_metadata(detector, SIZE, [(0.05, 0)] * 6)
    metadata["preprocessing"] = preprocessing(transforms, metadata)
    assert metadata["preprocessing"]["channels"] == "GRAY"
    decoders = Decoders(tmp_path, metadata)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*file, 3), dtype=np.uint8) for file in FILES]
    grays = [to_gray(image) for image in images]
    for image, gray, from_bgr, from_gray in zip(
        images, grays, decoders.c_letterbox(images), decoders.c_letterbox(grays), strict=True
    ):
        tensor = apply_transforms(image, transforms, "x").tensor
        assert tensor is not None
        expected = (tensor.permute(1, 2, 0).numpy().astype(np.int16) - 128).astype(np.int8)[None]
        assert expected.shape == (1, *SIZE, 1)
        for picture in (image, gray, gray[:, :, 0]):
            assert np.array_equal(decoders.module.preprocess(picture), expected)
        assert np.array_equal(from_bgr, expected) and np.array_equal(from_gray, expected)
    with pytest.raises(ValueError, match=r"\(height, width\) or \(height, width, 3\), got uint8 \(4, 4, 2\)"):
        decoders.module.preprocess(np.zeros((4, 4, 2), np.uint8))


def test_metadata_that_does_not_fit_the_input_is_refused(detector: RTMDet) -> None:
    metadata = file_metadata(detector, SIZE, [(0.05, 0)] * 6)
    assert decoder_model(metadata)["input"]["channels"] == "GRAY"
    metadata["input_color"] = "bgr"
    with pytest.raises(UserError, match=r"takes 1 channel\(s\), its metadata says BGR pictures"):
        decoder_model(metadata)


def test_resize_and_luma_are_opencv_s() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        height, width, h, w = (int(n) for n in rng.integers(1, 200, 4))
        image = rng.integers(0, 256, (height, width, 1), dtype=np.uint8)
        assert np.array_equal(resize(image, h, w)[..., 0], cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR))
    image = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    assert np.array_equal(bgr_to_gray(image)[..., 0], cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def test_the_stem_of_a_colour_network_starts_a_gray_one(caplog: pytest.LogCaptureFixture) -> None:
    """Of equal channels, both compute the same."""
    colour, gray = ResNet(depth=18).eval(), ResNet(depth=18, in_channels=1).eval()
    with caplog.at_level("INFO", logger="hatdet"):
        weights = gray_stem(gray, colour.state_dict(), {})
    assert "conv1.weight has three input channels in the file, the pictures have one: they are added" in caplog.text
    gray.load_state_dict(weights)
    x = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for a, b in zip(gray(x), colour(x.expand(-1, 3, -1, -1)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    yuv = gray_stem(gray, colour.state_dict(), {"run": {"model": {"input_color": "yuv444"}}})
    assert torch.equal(yuv["conv1.weight"], colour.conv1.weight[:, :1])


def test_load_from_a_colour_network(tmp_path: Path) -> None:
    """The weights of a stage are not changed: there other channels are an error."""
    from hatdet.quantization.converters import LoadCheckpoint
    from hatdet.utils.checkpoints.checkpoint import save_checkpoint

    colour = build_rtmdet(num_classes=3, widen_factor=0.125, deepen_factor=0.1)
    path = tmp_path / "colour.pth"
    save_checkpoint(path, {"state_dict": colour.state_dict()})
    start = LoadCheckpoint(checkpoint_path=str(path), allow_miss=True, ignore_extra=True, ignore_tensor_shape=True)
    gray = start(gray_rtmdet())
    expected = colour.backbone.stem[0].conv.weight.sum(1, keepdim=True)  # type: ignore[index, union-attr]
    assert torch.equal(gray.backbone.stem[0].conv.weight, expected)  # type: ignore[index, union-attr]
    with pytest.raises(UserError, match="stem"):
        LoadCheckpoint(checkpoint_path=str(path))(gray_rtmdet())


def test_a_classifier_of_gray_pictures_pretrains_a_backbone() -> None:
    from hatdet.building import Builder
    from hatdet.models.classifiers.image_classifier import ImageClassifier

    model = Builder().build(
        {
            "type": "ImageClassifier",
            "input_color": "gray",
            "backbone": {"type": "VargNetV2", "num_classes": 4, "alpha": 0.25},
            "preprocessor": {"type": "DataPreprocessor", "mean": 128.0, "std": 128.0},
        }
    )
    assert isinstance(model, ImageClassifier) and model.input_format is not None
    assert str(model.input_format) == "gray, mean 128, std 128" and model.backbone.in_channels == 1
    found = model.eval()({"img": torch.zeros(2, 1, 32, 32, dtype=torch.uint8)})
    assert found[0]["scores"].shape == (4,)


@pytest.mark.parametrize("path", ["rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py",
                                  "detection/retinanet/retinanet_vargnetv2_tiny_coco.py",
                                  "detection/retinanet/retinanet_vargnetv2_fpn_mscoco.py"])  # fmt: skip
def test_one_option_makes_a_shipped_config_gray(path: str, repo_root: Path) -> None:
    from hatdet.building import Builder
    from hatdet.config.load import load_config

    config = load_config(repo_root / "configs" / path, {"input_color": "gray"})
    config.validate("float_trainer", "calibration_trainer", "qat_trainer", "int_infer")
    assert Builder(config).build(config.model, "model").input_format.color == "gray"
    for name in ("data_loader", "val_data_loader", "calibration_data_loader"):
        transforms = Builder().build(config[name]["dataset"]["transforms"])
        assert [t.color for t in transforms if isinstance(t, ToTensor)] == ["gray"]
    if "deploy_inputs" in config:
        assert config.deploy_inputs["img"][:2] == (1, 1)
        assert Builder(config).build(config.deploy_model, "deploy_model").input_channels == 1


def test_a_mean_that_is_no_whole_level_is_folded(pixels: torch.Tensor) -> None:
    """ImageNet's grey level: 114.495, 57.63."""
    import copy

    from hatdet.quantization.normalization import fold_normalization, needs_folding

    detector = gray_rtmdet()
    detector.preprocessor = DataPreprocessor(mean=114.495, std=57.63)
    model, _ = calibrate(copy.deepcopy(detector), [{"img": pixels}], 3, "min_max")
    graph = model.int_graph(SIZE)
    assert graph.metadata["mean"] == [0.0] and graph.metadata["std"] == [255.0]
    conv = torch.nn.Conv2d(1, 1, 1)
    detector.network = lambda: torch.nn.Sequential(conv)  # type: ignore[method-assign, assignment]
    before = conv(detector.preprocess(pixels))
    assert fold_normalization(detector) and detector.preprocessor.mean == (0.0,)
    torch.testing.assert_close(conv(detector.preprocess(pixels)), before, atol=1e-5, rtol=1e-5)
    assert not needs_folding((128.0,), (128.0,), 1) and not needs_folding((0.5,), (1.0,), 3)


def test_mmdetections_mean_of_three_becomes_its_luma(repo_root: Path) -> None:
    from hatdet.config.load import load_config

    path = repo_root / "configs/rtmdet/rtmdet_tiny_8xb32_300e_coco.py"
    colours, gray = (load_config(path, o).model["preprocessor"] for o in ({}, {"input_color": "gray"}))
    assert colours["mean"] == (103.53, 116.28, 123.675) and colours["std"] == (57.375, 57.12, 58.395)
    assert (gray["mean"], gray["std"]) == (117.0, 58.0)
