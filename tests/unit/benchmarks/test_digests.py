"""The digests of a refactoring's proof: what counts of a file and what does not, and which configs are covered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.digest_cases import CASES, COMMANDS, PRINTED, Case
from benchmarks.digest_contents import digests, flat, text_digest
from benchmarks.digests import collect, differences, fork, main, run_tool


def digest(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return digests(path, "file", (path.parent,))["file"]


def test_every_config_has_a_case_and_every_command_a_tool(repo_root: Path) -> None:
    configs = (p.relative_to(repo_root / "configs") for p in (repo_root / "configs").rglob("*.py"))
    assert {case.config for case in CASES.values()} == {str(p) for p in configs if p.parts[0] != "_base_"}
    assert {command for case in CASES.values() for command in case.commands} == set(COMMANDS)
    assert all((repo_root / "tools" / command.split()[0]).is_file() for command in COMMANDS.values())
    assert set(PRINTED) <= set(COMMANDS)


def test_arguments_of_a_command() -> None:
    case = CASES["retinanet"]
    words = case.arguments("predict", "c.py")
    assert words[:7] == ["predict.py", "c.py", "--stage", "int_infer", "--work-dir", ".", "--cfg-options"]
    assert words[-1] == "val_metrics.results_file=predicted/int_infer.json" and "num_classes=4" in words


def test_of_two_options_of_one_name_the_last_counts() -> None:
    words = Case("c.py", "epochs=2 a=1 epochs=1").arguments("float", "c.py")
    assert words == ["train.py", "c.py", "--stage", "float", "--work-dir", ".", "--cfg-options", "epochs=1", "a=1"]


def test_the_seal_of_a_file_does_not_count_and_everything_else_does(tmp_path: Path) -> None:
    file = b"\0weights hatdet-sha256:" + b"a" * 64 + b"\xff"
    usual = digest(tmp_path / "a.tflite", file)
    assert usual == digest(tmp_path / "b.tflite", file.replace(b"a" * 64, b"b" * 64))
    assert usual != digest(tmp_path / "c.tflite", file.replace(b"\xff", b"\xfe"))
    assert usual != digest(tmp_path / "d.tflite", file + b"\0")


def test_checksums_times_and_places_do_not_count_in_json_and_numbers_do(tmp_path: Path) -> None:
    def of(name: str, **more: object) -> str:
        content = {"files": [{"sha256": name, "seconds": len(name), "path": f"{tmp_path / name}", "bytes": 3} | more]}
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.json").write_text(json.dumps(content))
        return digests(tmp_path / name / "x.json", "x.json", (tmp_path / name,))["x.json"]

    assert of("one") == of("another")
    assert of("third", bytes=4) != of("fourth")
    script = of("fifth", file="a.torchscript")  # how long it is depends on the names of Python files
    assert script == of("sixth", file="a.torchscript", bytes=4) != of("seventh", file="a.tflite", bytes=4)
    assert text_digest("sha256 0123456789abcdef of /a/b", [Path("/a")]) == text_digest("sha256 # of .../b", [])
    assert text_digest("AP 0.1", []) != text_digest("AP 0.2", [])


def test_tensors_count_with_their_names_types_and_shapes() -> None:
    one = {"weight": torch.tensor([[1.0, -0.0]]), "steps": (3, None)}
    assert flat(one) == flat({"weight": torch.tensor([[1.0, -0.0]]), "steps": (3, None)})
    assert flat(one)[1] == np.float32([1.0, -0.0]).tobytes()
    for other in (
        {"kernel": one["weight"], "steps": (3, None)},
        {"weight": torch.tensor([[1.0, 0.0]]), "steps": (3, None)},
        {"weight": torch.tensor([1.0, -0.0]), "steps": (3, None)},
        {"weight": torch.tensor([[1.0, -0.0]]).view(torch.int32), "steps": (3, None)},
        {"weight": torch.tensor([[1.0, -0.0]]), "steps": (4, None)},
    ):
        assert flat(other) != flat(one)
    assert flat(np.arange(2000)) != flat(np.arange(2000) + (np.arange(2000) == 1000)), "the middle is not left out"
    assert flat(torch.tensor(2.5, dtype=torch.bfloat16))[0] == b" torch.bfloat16 ()\n"


def test_a_checkpoint_has_a_digest_for_each_group_of_tensors(tmp_path: Path) -> None:
    def of(run: str, value: float) -> dict[str, str]:
        weights = {"state_dict": {"w": torch.tensor(value)}, "optimizer": {"m": torch.tensor(1.0)}, "run": {"id": run}}
        torch.save(weights, tmp_path / "a.pth.tar")
        return digests(tmp_path / "a.pth.tar", "a.pth.tar", ())

    usual = of("x", 1.0)
    assert list(usual) == ["a.pth.tar/state_dict", "a.pth.tar/optimizer"]
    assert usual == of("y", 1.0)
    changed = of("x", 2.0)
    assert changed["a.pth.tar/state_dict"] != usual["a.pth.tar/state_dict"]
    assert changed["a.pth.tar/optimizer"] == usual["a.pth.tar/optimizer"]


class Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + 1


class Moved(nn.Module):
    """The same under another name, on other lines, with other names of values."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, pictures: Tensor) -> Tensor:
        product = pictures * self.scale
        return product + 1


class Subtracting(Scaled):
    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale - 1


def test_torchscript_counts_operators_and_weights_and_not_where_they_were_written(tmp_path: Path) -> None:
    def of(module: nn.Module, version: str = "1", classes: str = "cat") -> str:
        metadata = json.dumps({"hatdet_version": version, "classes": classes})
        traced = torch.jit.trace(module, torch.ones(1, 2))
        torch.jit.save(traced, str(tmp_path / "a.torchscript"), _extra_files={"hatdet.json": metadata})
        return digests(tmp_path / "a.torchscript", "a", ())["a"]

    usual = of(Scaled(2.0))
    assert usual == of(Moved(2.0), version="2")
    assert usual != of(Scaled(2.5))
    assert usual != of(Subtracting(2.0))
    assert usual != of(Scaled(2.0), classes="dog")


def test_logs_and_checkpoints_of_epochs_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "float").mkdir()
    for name in ("float/log.txt", "float/config.py", "float/results.csv", "a.log", "x-epoch-0002.pth.tar"):
        (tmp_path / name).write_text("x")
    (tmp_path / "float" / "layers.csv").write_text("x")
    assert list(collect(tmp_path, ())) == ["float/layers.csv"]


def test_a_command_runs_in_its_own_process_and_gives_its_status(tmp_path: Path) -> None:
    values = []

    def leave(status: int | str | None) -> None:
        values.append(status)
        print(f"in {Path.cwd().name}")
        raise SystemExit(status)

    assert [fork(lambda s=s: leave(s), tmp_path, tmp_path / "log") for s in (0, None, 3, "text")] == [0, 0, 3, 1]
    assert not values, "nothing of it reaches this process"
    assert (tmp_path / "log").read_text() == f"in {tmp_path.name}\ntext\n"
    assert fork(lambda: [][0], tmp_path, tmp_path / "log") == 70
    assert "IndexError" in (tmp_path / "log").read_text()


def test_a_tool_finds_its_neighbours_and_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "neighbour_of_tool.py").write_text("text = 'beside it'")
    (tmp_path / "tools" / "tool.py").write_text(
        "import sys, neighbour_of_tool\nprint(sys.argv[1:], neighbour_of_tool.text, __name__)\nsys.exit(3)"
    )
    assert run_tool(tmp_path, tmp_path, ["tool.py", "--stage", "qat"], tmp_path / "log") == 3
    assert (tmp_path / "log").read_text() == "['--stage', 'qat'] beside it __main__\n"


def test_a_copy_of_the_process_can_make_further_ones(tmp_path: Path) -> None:
    def outer() -> None:
        for number in range(2):
            assert fork(lambda: print("inside"), tmp_path, tmp_path / f"inner{number}") == 0
        print("outside")

    assert fork(outer, tmp_path, tmp_path / "outer") == 0
    texts = [(tmp_path / name).read_text() for name in ("inner0", "inner1", "outer")]
    assert texts == ["inside\n", "inside\n", "outside\n"]


def result(**cases: dict[str, str]) -> dict[str, object]:
    made = {name: {"status": {"float": 0}, "metrics": {}, "digests": found} for name, found in cases.items()}
    return {"machine": {"torch": "2"}, "cases": made}


def test_differences_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = result(a={"x": "1", "y": "2"}, b={"x": "1"})
    after = result(a={"x": "1", "y": "3", "z": "4"}, c={})
    after["machine"] = {"torch": "3"}
    assert differences(before, after) == [
        "machine: {'torch': '2'} / {'torch': '3'}",
        "a: digests: y: differs",
        "a: digests: z: only after",
        "b: only before",
        "c: only after",
    ]
    assert differences(before, before) == []
    for name, content in (("a.json", before), ("b.json", result(a={"x": "1"}, b={"x": "1"}))):
        (tmp_path / name).write_text(json.dumps(content))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert main(["--compare", *files]) == 1
    assert main(["--compare", *files, "--only", "tiny"]) == 0
    assert capsys.readouterr().out == "a: digests: y: only before\nno difference\n"


def test_it_is_said_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "give --out FILE.json, or --compare BEFORE.json AFTER.json" in capsys.readouterr().err
