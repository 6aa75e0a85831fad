"""What ``hatdet env`` and ``hatdet configs`` print."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import torch

import hatdet
from hatdet.commands.env import packages
from hatdet.commands.env.command import collect, lines, main
from hatdet.commands.program.main import dispatch
from hatdet.utils.errors import UserError


def of_setup(repo_root: Path) -> tuple[list[str], dict[str, list[str]]]:
    values = {}
    for node in ast.parse((repo_root / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("CORE", "EXTRAS"):
            values[node.targets[0].id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    return values["CORE"], values["EXTRAS"]


def bare(requirement: str) -> str:
    return re.split(r"[ ;<>=]", requirement)[0]


def test_the_packages_are_those_of_setup(repo_root: Path) -> None:
    core, extras = of_setup(repo_root)
    assert tuple(map(bare, core)) == packages.CORE
    offered = {bare(need) for name, needs in extras.items() if name != "dev" for need in needs}
    assert offered <= set(packages.OPTIONAL)
    for name, (extra, purpose) in packages.OPTIONAL.items():
        assert name in map(bare, extras[extra]) and purpose


def test_json_has_versions_and_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hatdet"]["hatdet"] == hatdet.__version__
    assert found["packages"]["torch"] == torch.__version__
    assert found["machine"]["integer kernels"].startswith(("C, compiled for", "torch ("))
    assert found["machine"]["torch threads"] == torch.get_num_threads()
    assert found["machine"]["processor"] and found["machine"]["usable processors"] >= 1


def test_an_absent_package_says_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"hotcoco": None, "onnx": "1.2", "lmdb": None}
    monkeypatch.setattr(packages, "version", lambda name: versions.get(name, "9"))
    text = "\n".join(lines(collect()))
    assert 'not installed; for COCO evaluation in a fraction of the time: pip install "hatdet[fast]"' in text
    assert re.search(r"onnx +1\.2 +for writing ONNX files", text)
    assert re.search(r'lmdb +- not installed, and hatdet needs it: pip install "hatdet"', text)


def test_a_package_may_be_there_by_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "opencv-python":
            raise packages.metadata.PackageNotFoundError(name)
        return "4.10"

    monkeypatch.setattr(packages.metadata, "version", version)
    assert packages.version("opencv-python-headless") == "4.10 (opencv-python)"
    assert packages.version("onnx") is None


def test_configs_are_listed_and_filtered(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["configs", "small_data"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("hatdet:mmdetection/small_data_256_int8.py\n    What the int8 forms")
    assert "\nhatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py\n    RTMDet-nano, ReLU6" in out
    with pytest.raises(UserError, match=r"has 'yolov9' in its name; try classification, "):
        dispatch(["configs", "yolov9"])
