"""tools/check_model.py, tools/compile_perf.py, the check before a training, and export --format vela."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hatdet.commands.compile_perf.run import choose_target, is_current, known_evidence
from hatdet.commands.shared.required_target import require_target
from hatdet.commands.shared.target_check import check_config, config_target
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.lineage import adopted_stage
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.int8 import read_metadata
from hatdet.export.vela import compile as vela
from hatdet.export.vela.compile import VelaMissing
from hatdet.integer.graph import IntGraph
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError

pytestmark = pytest.mark.slow  # whole commands, one after another

Tool = Callable[[str], Callable[[list[str]], "int | None"]]
RELU = "configs/rtmdet/rtmdet_nano_8xb32_300e_coco_relu.py"
NANO = "configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"
RETINANET = "configs/detection/retinanet/retinanet_vargnetv2_fpn_mscoco.py"
TOO_LARGE = ["--cfg-options", "imgsz=(1088, 1088)"]


def test_the_npu_is_the_command_lines_or_the_configs(repo_root: Path) -> None:
    retinanet = load_config(repo_root / RETINANET)
    assert choose_target(retinanet, None).name == "ethos-u65-512"  # its compile_cfg
    assert choose_target(retinanet, "ethos-u55-64").name == "ethos-u55-64"
    assert choose_target(load_config(repo_root / RETINANET, {"target": "ethos-u55-256"}), None).name == "ethos-u55-256"
    assert choose_target(load_config(repo_root / RELU), None).name == "ethos-u55-128"
    retinanet.compile_cfg["targe"] = "ethos-u55-64"
    with pytest.raises(UserError, match="unknown key 'targe'; did you mean 'target'"):
        choose_target(retinanet, None)


@pytest.fixture
def needs_vela() -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")


def test_check_model_of_a_config(tool: Tool, repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(repo_root / NANO), "--target", "ethos-u55-128", "--imgsz", "64", "96"]
    assert tool("check_model")(arguments) == 0
    out = capsys.readouterr().out
    assert "target ethos-u55-128" in out and "input 64x96" in out and out.endswith("ok: every operator runs there\n")
    assert tool("check_model")([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operators"]["CONV_2D"] == 78


def test_check_model_refuses_what_the_npu_cannot_run(
    tool: Tool, repo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 1088 pixels the first attention averages a map 272 high."""
    assert tool("check_model")([str(repo_root / RELU), "--target", "ethos-u55-128", *TOO_LARGE]) == 1
    out = capsys.readouterr().out
    assert (
        "refused: backbone.stage1.1.attention" in out and "a window of 272x272: The window of a pool is at most" in out
    )
    assert tool("check_model")([str(repo_root / RELU), "--target", "tflite", *TOO_LARGE]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "ethos-u55-120"], "unknown target 'ethos-u55-120'; did you mean"),
        (["--imgsz", "0"], "--imgsz takes one or two positive numbers"),
        (["--cfg-options", "target=tflight"], "unknown target 'tflight'; did you mean 'tflite'"),
        (["--arithmetic", "xnnpak"], "unknown arithmetic 'xnnpak'; did you mean 'xnnpack'"),
        (["--cfg-options", "arithmetic=tflite"], "unknown arithmetic 'tflite'; did you mean 'tflite_ref'"),
    ],
)
def test_check_model_with_wrong_arguments(tool: Tool, repo_root: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tool("check_model")([str(repo_root / NANO), *words])


def test_check_model_for_a_board(tool: Tool, repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool("check_model")([str(repo_root / NANO), "--board", "coral", "--imgsz", "64"]) == 0
    out = capsys.readouterr().out
    assert "target tflite" in out and "board coral: Google Coral" in out
    assert out.endswith("ok: every operator runs there, and nothing known of coral speaks against it\n")
    with pytest.raises(UserError, match="--board coral runs tflite, not --target onnx"):
        tool("check_model")([str(repo_root / NANO), "--board", "coral", "--target", "onnx"])
    with pytest.raises(UserError, match="unknown board 'corral'; did you mean 'coral'"):
        tool("check_model")([str(repo_root / NANO), "--board", "corral"])
    assert tool("check_model")(["--board", "list", "--json"]) == 0  # without a config
    assert json.loads(capsys.readouterr().out)[0]["name"] == "grove-vision-ai-v2"


@pytest.mark.parametrize(
    ("words", "arithmetic", "ok"),
    [
        (["--cfg-options", "arithmetic=xnnpack"], "xnnpack", True),
        (["--arithmetic", "xnnpack", "--target", "ethos-u55-128"], "xnnpack", False),
        (["--arithmetic", "tflite_ref", "--cfg-options", "arithmetic=xnnpack"], "tflite_ref", True),
    ],
)
def test_the_arithmetic_of_a_check(
    tool: Tool, repo_root: Path, capsys: pytest.CaptureFixture[str], words: list[str], arithmetic: str, ok: bool
) -> None:
    """The flag wins over the config's option; the operators are lowered in it."""
    assert tool("check_model")([str(repo_root / NANO), "--imgsz", "64", "--json", *words]) == (0 if ok else 1)
    found = json.loads(capsys.readouterr().out)
    assert found["arithmetic"] == arithmetic and found["ok"] is ok and found["operators"]["CONV_2D"] == 78


def test_the_file_that_is_checked_is_in_the_arithmetic(repo_root: Path) -> None:
    config = load_config(str(repo_root / NANO), {"imgsz": (64, 64)})
    for given, name in ((None, "tflite_ref"), ("xnnpack", "xnnpack")):
        report = check_config(config, "litert-xnnpack", arithmetic=given)
        assert report.file is not None and read_metadata(report.file)["profile"] == name == report.arithmetic


def test_only_detectors_are_checked(repo_root: Path) -> None:
    config = load_config(repo_root / "configs/classification/vargnetv2_imagenet.py")
    assert check_config(config).ok  # a classifier goes the whole road too
    config["model"] = config["model"]["backbone"]
    with pytest.raises(UserError, match="the model is VargNetV2, no detector"):
        check_config(config)


def test_the_target_of_a_config(repo_root: Path) -> None:
    assert config_target(load_config(str(repo_root / NANO))).name == "tflite"
    assert config_target(load_config(str(repo_root / NANO), {"target": "ethos-u65-256"})).name == "ethos-u65-256"
    assert config_target(load_config(str(repo_root / NANO), {"target": None})).name == "tflite"


def test_the_configs_own_settings_of_quantization_count(repo_root: Path) -> None:
    """A layer that stays float is never part of a file."""
    path = repo_root / NANO
    config = load_config(str(path), {"imgsz": (64, 64)})
    config["int_infer"]["model_convert_pipeline"]["qconfig_params"]["keep_float"] = ["bbox_head.rtm_cls.0"]
    report = check_config(config)
    assert not report.ok and "bbox_head.rtm_cls.0" in report.text()


def test_a_training_for_a_target_that_cannot_run_it_is_refused_before_it_starts(
    tool: Tool, repo_root: Path, tmp_path: Path
) -> None:
    work_dir = tmp_path / "wd"
    options = [*TOO_LARGE, "target=ethos-u55-128", f"work_dir={work_dir}"]
    with pytest.raises(UserError, match="this model does not suit target='ethos-u55-128':\n  refused: backbone.stage1"):
        tool("train")([str(repo_root / RELU), "--stage", "float", *options])
    assert not work_dir.exists()


def test_before_a_training_the_config_is_validated_first(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path))
    config = load_config(str(repo_root / NANO), {"imgsz": (64, 64)})
    require_target(config, "float")
    config["float_trainer"]["no_such_key"] = 1
    with pytest.raises(UserError, match="float_trainer.no_such_key"):
        require_target(config, "float")
    config["target"] = None
    require_target(config, "float")


def test_compile_perf_of_a_file_alone(
    needs_vela: None, files, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "perf"
    assert tool("compile_perf")(["--model", str(files.root / "model_int8.tflite"), "--out-dir", str(out)]) == 0
    text = capsys.readouterr().out
    assert "on the NPU   118 of 118 operators (100.0 %)" in text and "Nothing beside the file says" in text
    assert sorted(p.name for p in out.iterdir()) == [
        "model_vela.json", "model_vela.tflite", "model_vela_perf.html", "model_vela_perf.json", "model_vela_perf.txt",
    ]  # fmt: skip


@pytest.mark.slow
def test_compile_perf_of_a_config_exports_what_is_missing_or_old(
    needs_vela: None,
    files,
    tool: Tool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []
    for module in ("compile_perf", "export"):  # what differs from the checkpoint's training is said once
        name = f"hatdet.commands.{module}.run.adopted_stage"
        monkeypatch.setattr(name, lambda *args: compared.append(args) or adopted_stage(*args))
    work_dir = tmp_path / "wd"
    work_dir.mkdir()
    best = work_dir / "calibration-checkpoint-best.pth.tar"
    best.write_bytes((files.root / "calibrated.pth").read_bytes())
    words = ["--config", files.config_path, "--opt", "0", "--verify", "2", *files.words(work_dir=work_dir)]
    assert tool("compile_perf")(words) == 0
    assert len(compared) == 1
    folder = work_dir / "compile_perf"
    first = (folder / "int_infer-model_vela.tflite").read_bytes()
    report = json.loads((folder / "int_infer-model_vela_perf.json").read_text())
    assert report["optimise"] == "Size" and report["arithmetic"] == "tflite_ref" and "0 differing" in report["verified"]
    assert "backbone.stem.0.conv" in {layer["path"] for layer in report["layers"]}
    # the usual place, made by tools/export.py: taken as it is, until the weights are newer
    usual = work_dir / "int_infer-model_int8.tflite"
    usual.write_bytes((folder / usual.name).read_bytes())
    config = files.config(work_dir=str(work_dir))
    assert is_current(config, usual)
    assert not is_current(files.config(work_dir=str(work_dir), imgsz=(64, 96)), usual)
    os.utime(best, (os.path.getmtime(usual) + 10,) * 2)
    capsys.readouterr()
    assert not is_current(config, usual)
    assert f"{usual} is older than {best}: exported again" in capsys.readouterr().out
    assert tool("compile_perf")(words) == 0
    assert (folder / "int_infer-model_vela.tflite").read_bytes() == first


def test_what_is_known_of_a_file(files, tmp_path: Path) -> None:
    model = tmp_path / "m_int8.tflite"
    model.write_bytes(b"abc")
    assert known_evidence(model, b"abc").startswith("Nothing beside the file says how it was verified")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of abc
    parity = {"compared": 42, "images": 2, "runtimes": ["torch", "LiteRT"], "differing": 0}
    (tmp_path / "export-results.json").write_text(json.dumps({"files": [{"sha256": digest, "parity": parity}]}))
    assert known_evidence(model, b"abc") == (
        "When it was exported, 42 values of 2 images were compared with the integer model (LiteRT): 0 differing."
    )
    assert known_evidence(model, b"abd").startswith("Nothing beside the file")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "no.tflite"], "no such model: no.tflite"),
        (["--model", "no.tflite", "--imgsz", "64"], "--model is a finished file: --ckpt and --imgsz mean nothing"),
        ([], "no config file was given"),
        (["--model", "no.tflite", "--target", "tflite"], "Vela compiles for ethos-u55-32, .*, not for 'tflite'"),
        (["--verify", "-1"], "--verify takes a number of images"),
    ],
)
def test_compile_perf_with_wrong_arguments(needs_vela: None, tool: Tool, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tool("compile_perf")(words)


def test_an_npu_gets_no_model_in_another_arithmetic(needs_vela: None, files, tool: Tool, tmp_path: Path) -> None:
    """Refused before an export, and where a finished file says so."""
    message = "computes in the arithmetic 'tflite_ref', and this model is made for 'xnnpack': set arithmetic="
    out = tmp_path / "perf"
    words = [files.config_path, "--ckpt", str(files.root / "trained.pth.tar"), "--out-dir", str(out)]
    for arithmetic in ("xnnpack", "xnnpack+tflite_ref"):
        with pytest.raises(UserError, match=f"ethos-u55-128 {message}"):
            tool("compile_perf")([*words, *files.words(work_dir=str(tmp_path), arithmetic=arithmetic)])
    graph = IntGraph.from_state(load_checkpoint(files.root / "graph.pth.tar")["int_graph"])
    graph.metadata["profile"] = "xnnpack"
    tflite.write(graph, tmp_path / "m_int8.tflite")
    with pytest.raises(UserError, match=f"ethos-u65-256 {message}"):
        model = str(tmp_path / "m_int8.tflite")
        tool("compile_perf")(["--model", model, "--target", "ethos-u65-256", "--out-dir", str(out)])
    assert not out.exists()


def test_without_vela_compile_perf_writes_nothing_and_ends_with_1(
    files, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> list[str]:
        raise VelaMissing("Vela is not installed; install it")

    monkeypatch.setattr("hatdet.commands.compile_perf.run.vela_command", missing)
    out = tmp_path / "perf"
    assert tool("compile_perf")(["--model", str(files.root / "model_int8.tflite"), "--out-dir", str(out)]) == 1
    assert capsys.readouterr().err == "compile_perf.py: error: Vela is not installed; install it\n"
    assert not out.exists()


def test_a_model_that_vela_refuses_leaves_nothing_behind(needs_vela: None, files, tool: Tool, tmp_path: Path) -> None:
    out = tmp_path / "perf"
    words = ["--model", str(files.root / "model_int8.tflite"), "--out-dir", str(out), "--memory-mode", "No_Such_Mode"]
    with pytest.raises(UserError, match="Vela failed: .*No_Such_Mode"):
        tool("compile_perf")(words)
    assert not out.exists()


def test_export_as_vela(
    needs_vela: None, files, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "calibrated.pth"
    checkpoint.write_bytes((files.root / "calibrated.pth").read_bytes())
    words = [files.config_path, str(checkpoint), "--format", "vela", "--target", "ethos-u65-256", "--verify", "2"]
    assert tool("export")([*words, *files.words()]) == 0
    results = json.loads((tmp_path / "export-results.json").read_text())["files"][0]
    assert (results["file"], results["target"], results["cpu_operators"]) == (
        "calibrated_vela.tflite",
        "ethos-u65-256",
        0,
    )
    assert results["vela"] == vela.vela_version() and results["ok"]
    assert "It was compared on 2 images: parity:" in capsys.readouterr().out
    assert (tmp_path / "calibrated_vela_perf.html").is_file()
