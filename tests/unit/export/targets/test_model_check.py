"""The check before training: what it refuses, what it mentions, and that it leaves no trace."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hatdet.export.targets import check as model_check
from hatdet.export.targets.check import check_model, takes_activation
from hatdet.export.targets.report import CheckReport
from hatdet.export.targets.table import TARGETS, get_target
from hatdet.integer.profiles.table import PROFILES
from hatdet.models.detectors.rtmdet import RTMDet
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.profiling.calops import count_ops
from hatdet.quantization.tracing.two_sizes import recorded_graph
from hatdet.utils.errors import UserError
from tests.helpers.rtmdet import build_rtmdet

SIZE = (64, 96)


def small() -> RTMDet:
    return build_rtmdet(deepen_factor=0.33, widen_factor=0.125)


def check(
    detector: nn.Module, target: str = "ethos-u55-128", size: tuple[int, int] = SIZE, arithmetic: str = "tflite_ref"
) -> CheckReport:
    return check_model(detector, get_target(target), size, arithmetic=arithmetic)


@pytest.fixture(scope="module")
def nano() -> RTMDet:
    torch.manual_seed(0)
    return build_rtmdet()


@pytest.fixture(scope="module")
def report(nano: RTMDet) -> CheckReport:
    return check(nano)


def test_the_nano_suits_every_target(report: CheckReport) -> None:
    assert report.ok and report.findings == [] and report.model is not None
    for target in TARGETS.values():
        assert target.violations(report.model) == []


def test_sizes_are_those_of_the_network(nano: RTMDet, report: CheckReport) -> None:
    found = report.to_dict()
    assert found["parameters"] == sum(p.numel() for p in nano.parameters())
    assert found["macs"] == count_ops(nano, (1, 3, *SIZE)).macs
    assert found["operators"]["CONV_2D"] == 78 and sum(found["operators"].values()) == 118
    # the second convolution of the stem reads 8 and writes 8 channels of 32x48, the third 8 and 16
    assert found["peak_activation_bytes"] >= 32 * 48 * (8 + 16)
    assert found["constant_bytes"] > sum(c.weight.numel() for c in nano.modules() if isinstance(c, nn.Conv2d))


def test_text_and_table(report: CheckReport) -> None:
    text = report.text()
    assert text.startswith("target ethos-u55-128: int8 .tflite, compiled by Vela; Arm Ethos-U55, 128 MACs a cycle\n")
    assert text.endswith("ok: every operator runs there") and "118 operators: 78 CONV_2D" in text
    table = report.text(verbose=True)
    row = next(line for line in table.splitlines() if line.startswith("backbone.stem.0.conv ") and "CONV_2D" in line)
    assert row.split()[1:] == ["CONV_2D", "+", "RELU6", "int8", "int8", "in", "8", "channels,", "bias", "int32", "int8",
                               "32x48x8", f"{32 * 48 * 8 * 27:,}", "0.2"]  # fmt: skip


def test_nothing_is_changed_by_it() -> None:
    detector = small().train()
    before = copy.deepcopy(detector.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert check(detector).ok
    assert torch.equal(torch.rand(3), expected)
    assert detector.training and list(before) == list(detector.state_dict())
    assert all(torch.equal(value, detector.state_dict()[key]) for key, value in before.items())


def test_every_refused_operator_is_listed_with_its_module_and_advice() -> None:
    """Three kinds at once: no integer form (twice), and beyond a limit of the target."""
    detector = small()
    detector.backbone.stem[0].activate = nn.Softmin(1)
    detector.neck.out_convs[1].activate = nn.Softmax(1)
    replaced = detector.backbone.stage1[0].conv  # of stride 2
    channels = replaced.in_channels
    detector.backbone.stage1[0].conv = nn.Sequential(
        nn.Conv2d(channels, channels, 5, 4, 2, groups=channels),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(channels, replaced.out_channels, 1),
    )
    report = check(detector)
    messages = {f.path: f.message for f in report.refused}
    assert list(messages) == ["backbone.stem.0.activate", "neck.out_convs.1.activate", "backbone.stage1.0.conv.0"]
    assert messages["backbone.stem.0.activate"].startswith("Softmin")
    assert "use convolutions, ReLU" in messages["backbone.stem.0.activate"]
    assert "leave it to the post-processing" in messages["neck.out_convs.1.activate"]
    assert messages["backbone.stage1.0.conv.0"].startswith("DEPTHWISE_CONV_2D with stride 4x4")
    assert not report.ok and report.text().endswith("REFUSED: 3 things are refused")
    lines = report.text(verbose=True).splitlines()
    assert [line.split()[0] for line in lines if line.endswith("  REFUSED")] == ["backbone.stage1.0.conv.0"]


def test_where_an_operator_cannot_be_passed_over_the_limits_wait() -> None:
    detector = small()
    width = detector.neck.out_convs[2].conv.out_channels
    grouped = nn.ConvTranspose2d(width, width, 2, 2, groups=width)
    detector.neck.out_convs[2].activate = nn.Sequential(grouped, nn.AvgPool2d(2))
    report = check(detector)
    assert [f.path for f in report.refused] == ["neck.out_convs.2.activate.0"]
    assert "the limits of ethos-u55-128 are checked once the operators above have integer forms" in report.text()


@pytest.mark.parametrize(("size", "wanted"), [((64, 100), "(64, 128)"), ((33, 31), "(64, 32)")])
def test_image_sizes_that_do_not_suit_the_strides(size: tuple[int, int], wanted: str) -> None:
    report = check(small(), size=size)
    assert [f.message for f in report.refused] == [
        f"the image size {size} does not suit the strides [8, 16, 32]; use multiples of 32, e.g. {wanted}"
    ]
    assert report.model is not None  # the rest is looked at all the same


def test_normalizations() -> None:
    detector = small()
    detector.preprocessor = DataPreprocessor(mean=123.5, std=58.0)
    assert [f.path for f in check(detector).refused] == ["preprocessor"]
    detector.preprocessor = DataPreprocessor(mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395])
    report = check(detector)
    assert report.ok and "folded into the first convolution" in report.text()


def test_a_norm_that_cannot_be_folded() -> None:
    detector = small()
    detector.neck.out_convs[0].activate = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(32, track_running_stats=False))
    report = check(detector)
    assert [f.path for f in report.refused] == ["neck.out_convs.0.activate.1"]
    assert "BatchNorm2d" in report.refused[0].message


def test_what_is_only_mentioned() -> None:
    detector = build_rtmdet(widen_factor=0.125, share_conv=True, activation="SiLU")
    report = check(detector)
    assert report.ok
    shared = [f for f in report.findings if f.path == "bbox_head.cls_convs.0.0.conv"]
    assert [f.severity for f in shared] == ["info"] and "is called 3 times" in shared[0].message
    slow = [f for f in report.findings if f.severity == "warning"]
    assert len(slow) > 50 and len([line for line in report.text().splitlines() if "warning" in line]) == 1
    assert len([line for line in report.text(verbose=True).splitlines() if "warning" in line]) == len(slow)


def test_an_activation_on_its_own_is_mentioned() -> None:
    detector = small()
    detector.neck.upsample = nn.Sequential(nn.Upsample(scale_factor=2), nn.ReLU())
    report = check(detector)
    assert report.ok
    assert [(f.severity, f.path) for f in report.findings] == [("info", "neck.upsample.1")]


def test_a_function_by_table_is_one_finding_on_an_npu() -> None:
    detector = small()
    detector.neck.upsample = nn.Sequential(nn.Upsample(scale_factor=2), nn.GELU())
    findings = check(detector).findings
    assert [(f.severity, f.path) for f in findings] == [("refused", f"neck.upsample.1{call}") for call in ("", "@1")]
    assert findings[0].message == (
        "GATHER with a table of codes: A function that no kernel of the NPU has (GELU, Mish, ELU, Softplus and others) "
        "is looked up in a table, which runs on the CPU: the map goes there and back. Use ReLU, LeakyReLU, PReLU, "
        "Hardswish, SiLU, Sigmoid or Tanh."
    )
    assert check(detector, "tflite").ok


def test_a_target_says_that_it_computes_otherwise() -> None:
    """An NPU cannot run the model at all; LiteRT runs it, with other numbers."""
    said = "computes in the arithmetic {0!r}, and this model is made for {1!r} ({2}): set arithmetic={0!r}, or take"
    names = {name: PROFILES[name].kernels for name in ("tflite_ref", "xnnpack")}
    report = check(small(), arithmetic="xnnpack")
    (found,) = report.refused
    assert found.message.startswith(f"ethos-u55-128 {said.format('tflite_ref', 'xnnpack', names['xnnpack'])}")
    assert report.to_dict()["arithmetic"] == "xnnpack" and report.model is not None, "the rest is looked at"
    report = check(small(), "litert-xnnpack")
    assert report.ok and [f.severity for f in report.findings] == ["warning"]
    assert f"litert-xnnpack {said.format('xnnpack', 'tflite_ref', names['tflite_ref'])}" in report.text()
    for target in ("tflite", "onnx", "litert-xnnpack"):
        report = check(small(), target, arithmetic="xnnpack")
        assert report.ok and not any("computes in" in f.message for f in report.findings), target
        assert f"\narithmetic xnnpack: {names['xnnpack']}\n" in report.text()
    with pytest.raises(UserError, match="unknown arithmetic 'xnpack'; did you mean 'xnnpack'"):
        check(small(), arithmetic="xnpack")


def test_a_file_for_two_arithmetics_suits_a_target_of_the_second() -> None:
    report = check(small(), "litert-xnnpack", arithmetic="both")
    (found,) = report.findings
    assert found.severity == "info" and "computes in the second arithmetic, 'xnnpack'" in found.message
    assert "\narithmetic tflite_ref: " in report.text() and "\nsecond arithmetic xnnpack: " in report.text()
    assert report.to_dict()["second_arithmetic"] == "xnnpack" and report.model is not None
    assert "second_arithmetic" not in check(small(), "tflite").to_dict()
    (found,) = check(small(), arithmetic="xnnpack+tflite_ref").refused  # an NPU's compiler takes its own alone
    assert found.message.startswith("ethos-u55-128 computes in the arithmetic 'tflite_ref', and this model is made for")
    (found,) = check(small(), "litert-xnnpack", arithmetic="tflite_ref+tflite_single").findings
    assert found.severity == "warning"


def test_operators_that_xnnpack_leaves_to_litert_are_mentioned() -> None:
    findings = check(small(), "litert-xnnpack", arithmetic="xnnpack").findings
    assert {(f.severity, f.path.split("@")[0]) for f in findings} == {("info", "neck.upsample")}
    assert findings[0].message == (
        "RESIZE_NEAREST_NEIGHBOR with int8 codes: XNNPACK has no kernel of it, so LiteRT's own runs, which computes as "
        "the reference kernels do. Nothing has to be changed: the numbers are those that were evaluated."
    )
    detector = small()
    detector.int16_output = True
    findings = check(detector, "litert-xnnpack", arithmetic="xnnpack").findings
    wide = [f.message for f in findings if "16 bits" in f.message]
    assert len(wide) == len(detector.output_names) and wide[0].startswith("CONV_2D with an output of 16 bits: XNNPACK")


def test_without_the_export_packages_the_rest_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_check, "_can_write", lambda: False)
    report = check(small())
    assert report.ok and report.model is None
    assert "pip install 'hatdet[export]'" in report.text()


TAKEN = {
    "difference": (lambda conv, x: torch.relu(x - conv(x)), True),
    "constants": (lambda conv, x: torch.relu(1 - conv(x) * 0.5), True),
    "product": (lambda conv, x: torch.relu(x * conv(x)), False),
    "pool": (lambda conv, x: torch.relu(conv(x).sigmoid() / 2), False),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_takes_an_activation_in(name: str) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = TAKEN[name][0](self.conv, x)
            return y

    network = Network().eval()
    node = next(n for n in recorded_graph(network).nodes if n.name == "relu")
    assert takes_activation(node.args[0], dict(network.named_modules())) is TAKEN[name][1]
