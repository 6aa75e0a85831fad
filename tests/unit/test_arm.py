"""`make arm`: what can be tested without the emulator: sources, cores, cases, and that a comparison notices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.commands.demo.road import StepResult
from tests.arm import controls, machine, networks, run
from tests.arm.cases import Case, computed, operator_cases, outputs_of, write_case
from tests.arm.comparison import Row, count, markdown, summary, table
from tests.arm.cpus import CPUS
from tests.arm.machine import ArmMachine, Unavailable
from tests.arm.networks import NETWORKS, PROFILES
from tests.arm.sources import KEYRING, Mirror, debian_mirror
from tests.helpers.int_graphs import GraphBuilder, qparams
from tests.helpers.operator_files import EVERY, files, requantized

SAID = {"seconds": 0.5, "delegates": 1}

# ---- where Debian's packages come from


def apt(folder: Path, **texts: str) -> Path:
    (folder / "sources.list.d").mkdir()
    for name, text in texts.items():
        name = name.replace("__", ".")
        (folder / (name if name == "sources.list" else f"sources.list.d/{name}")).write_text(text)
    return folder


def test_a_mirror_of_a_list(tmp_path: Path) -> None:
    text = (
        "# deb http://old.example/debian stable main\n"
        "deb http://mirror.example/debian-security bookworm-security main\n"
        "deb [arch=amd64 signed-by=/keys/one.gpg] http://mirror.example/debian/ bookworm main\n"
        "deb http://other.example/debian bookworm main\n"
    )
    mirror = debian_mirror(apt(tmp_path, sources__list=text))
    assert mirror == Mirror("http://mirror.example/debian", Path("/keys/one.gpg"))
    assert mirror.line("trixie") == "deb [signed-by=/keys/one.gpg] http://mirror.example/debian trixie main"


def test_a_mirror_of_stanzas(tmp_path: Path) -> None:
    text = (
        "Types: deb\nURIs: http://off.example/debian\nSuites: bookworm\nEnabled: no\n\n"
        "Types: deb-src\nURIs: http://source.example/debian\nSuites: bookworm\n\n"
        "Types: deb\n# a comment\nURIs: http://mirror.example/debian-security http://mirror.example/debian\n"
        "Suites: bookworm\nComponents: main\nSigned-By: /keys/two.gpg\n"
    )
    mirror = debian_mirror(apt(tmp_path, debian__sources=text))
    assert mirror == Mirror("http://mirror.example/debian", Path("/keys/two.gpg"))


def test_a_key_that_stands_in_the_file_is_not_a_path(tmp_path: Path) -> None:
    text = "Types: deb\nURIs: http://m.example/debian\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    assert debian_mirror(apt(tmp_path, debian__sources=text)) == Mirror("http://m.example/debian", KEYRING)


def test_no_mirror_of_debian(tmp_path: Path) -> None:
    text = "deb http://mirror.example/ubuntu noble main\ndeb http://mirror.example/debian-security x main\n"
    assert debian_mirror(apt(tmp_path, sources__list=text)) is None
    assert debian_mirror(tmp_path / "nothing") is None


# ---- the machine


def test_what_is_missing_is_a_reason_to_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match="has no apt-get and no dpkg"):
        machine.requirements()
    assert run.main(["--folder", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("make arm: SKIPPED: this machine has no apt-get")
    assert list(tmp_path.iterdir()) == []


def test_the_reason_of_an_index_that_is_not_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(command: list[str], *args: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        said = "W: old\nE: Could not resolve 'mirror.example'\n" if "update" in command else "amd64\n"
        return subprocess.CompletedProcess(command, 100 * ("update" in command), said)

    monkeypatch.setattr(machine, "requirements", lambda: Mirror("http://mirror.example/debian"))
    monkeypatch.setattr(machine, "_call", call)
    with pytest.raises(Unavailable) as caught:
        ArmMachine(tmp_path / "m").build()
    assert "trixie for amd64 is not reached" in str(caught.value) and "Could not resolve" in str(caught.value)
    assert "\n" not in str(caught.value) and not (tmp_path / "m" / "machine.json").exists()


def test_a_machine_of_these_versions_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = ArmMachine(tmp_path)
    wanted = {"layout": machine.LAYOUT, "wheels": built.versions()}
    assert wanted["wheels"]["numpy"] == np.__version__  # type: ignore[index]
    built.stamp.write_text(machine.json.dumps({"wanted": wanted, "says": "aarch64"}))
    monkeypatch.setattr(machine, "requirements", lambda: pytest.fail("it is built again"))
    assert built.build() == "aarch64"


def test_an_emulator_that_fails_says_why(tmp_path: Path) -> None:
    built = ArmMachine(tmp_path)
    built.qemu.parent.mkdir(parents=True)
    built.root.mkdir()
    built.qemu.write_text("#!/bin/sh\necho qemu: uncaught target signal 4\nexit 132\n")
    built.qemu.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"emulated cortex-a53: status 132: \nqemu: uncaught target signal 4"):
        built.run(CPUS["cortex-a53"], ["-c", "pass"])
    assert (built.root / "proc" / "cpuinfo").read_text() == CPUS["cortex-a53"].cpuinfo()


def test_cores_have_the_features_of_their_kernels() -> None:
    features = {name: set(cpu.features.split()) for name, cpu in CPUS.items()}
    assert "asimddp" not in features["cortex-a53"] and "asimddp" in features["neoverse-n1"]
    assert "i8mm" not in features["neoverse-n1"] and {"i8mm", "sve"} <= features["i8mm"] & features["sme"]
    assert {name: cpu.qemu for name, cpu in CPUS.items() if name in ("i8mm", "sme")} == {
        "i8mm": "max,sme=off", "sme": "max"}  # fmt: skip
    first = CPUS["neoverse-n1"].cpuinfo().split("\n\n")
    assert len(first) == 5 and "CPU part\t: 0xd0c" in first[0] and first[3].startswith("processor\t: 3\n")


# ---- files and their comparison


@pytest.fixture
def case(tmp_path: Path) -> Case:
    graph, codes = requantized(0.77, -3, 5)
    return write_case(tmp_path, "xnnpack: requantize", "r", graph, codes)


def values_of(case: Case) -> list[Any]:
    return [case.expected[i].copy() for i in range(len(case.expected))]


def test_a_case_says_what_is_run(case: Case) -> None:
    assert [(job["kernels"], job["threads"]) for job in case.jobs()] == [("default", 1), ("default", 4)]
    assert np.array_equal(np.load(case.codes)[0, :, :, 0], EVERY[0, 0]) and outputs_of(case.model.read_bytes()) == ["y"]
    table_of_it = case.expected[0].ravel().astype(int)
    assert list(table_of_it[:3]) == [(((c + 3) * 197 + 128) >> 8) + 5 for c in (-128, -127, -126)]


def test_an_output_that_the_graph_does_not_know_is_left_out(tmp_path: Path) -> None:
    g = GraphBuilder((1, 16, 16), qparams(0.1))
    g.activation("x", "y", "silu", qparams(0.0713))
    made = write_case(tmp_path, "row", "silu", g.graph("y"), EVERY)
    names = outputs_of(made.model.read_bytes())
    assert len(names) == 2 and {names[i] for i in made.expected} == {"y"}  # a LOGISTIC, then a MUL
    assert [job["kernels"] for job in made.jobs()] == ["reference"]


def test_equal_outputs(case: Case) -> None:
    row = Row(case.row, "cortex-a53", "default", 1)
    row.add(case, values_of(case), SAID)
    assert row.ok and (row.files, row.values, row.differing, row.delegated) == (1, 256, 0, 1)


@pytest.mark.parametrize("step", [1, -1, 40])
def test_a_planted_difference_is_found(case: Case, step: int) -> None:
    wrong, row = values_of(case), Row(case.row, "cortex-a53", "default", 1)
    place = wrong[0].reshape(-1)
    at = int(np.flatnonzero(np.abs(place.astype(int)) < 80)[7])
    place[at] += step
    row.add(case, wrong, SAID)
    assert not row.ok and (row.differing, row.largest) == (1, abs(step))
    control = controls.planted_control("cortex-a53", case, values_of(case))
    assert control.passed and control.text.endswith("1 counted")


@pytest.mark.parametrize("spoilt", ["missing", "shape", "type", "error"])
def test_what_did_not_run_is_not_equal(case: Case, spoilt: str) -> None:
    row, found, said = Row(case.row, "sme", "default", 4), values_of(case), dict(SAID)
    if spoilt == "missing":
        found = []
    elif spoilt == "shape":
        found = [found[0][:, :8]]
    elif spoilt == "type":
        found = [found[0].astype(np.int16)]
    else:
        said = {"error": "failed to create XNNPACK runtime"}
    row.add(case, found, said)
    assert not row.ok and row.errors and row.errors[0].startswith("r: ") and row.differing == 0
    assert not Row("nothing ran", "sme", "default", 1).ok


def test_rows_of_a_core_and_their_table(case: Case) -> None:
    wrong = values_of(case)
    wrong[0].reshape(-1)[:3] = [100, 100, 100]
    jobs = [{"name": "r", "kernels": "default", "threads": n} for n in (1, 4, 4)]
    rows = count("i8mm", {"r": case}, zip(jobs, [SAID] * 3, [values_of(case), values_of(case), wrong], strict=True))
    assert [(row.threads, row.files, row.values, row.differing) for row in rows] == [(1, 1, 256, 0), (4, 2, 512, 3)]
    text = table(rows).splitlines()
    assert text[0].split()[:3] == ["file", "files", "cpu"] and len({line.index("i8mm") for line in text[2:]}) == 1
    rows.append(Row("xnnpack: add", "i8mm", "default", 4, values=1000, differing=2))
    rows.append(Row("xnnpack: relu6", "sme", "default", 1, values=70, errors=["x"], is_network=True))
    assert markdown(rows).splitlines()[2:] == [
        "| xnnpack: operators | default | 0 of 256 | - |",
        "| xnnpack: operators | default, 4 threads | 5 of 1 512 | - |",
        "| xnnpack: relu6 | default | - | 0 of 70, 1 failed |",
    ]
    assert markdown(rows).splitlines()[0] == "| file | kernels | i8mm | sme |"
    rows = rows[:2]
    assert summary(rows) == "arm: 768 values compared, 3 differing"
    assert summary([Row("x", "sme", "default", 1, values=1234567)]) == "arm: 1 234 567 values compared, 0 differing"


def test_other_kernels_that_give_the_same_are_noticed(case: Case) -> None:
    """A control must be able to fail."""
    assert controls.exchanged(case).kernels == "reference"
    assert not controls.exchanged_control("sme", case, values_of(case)).passed
    other = requantized(0.77, -3, 5, "tflite_ref")
    values = [computed(*other)["y"]]
    control = controls.exchanged_control("sme", case, values)
    assert control.passed and not control.text.endswith(": 0 of 256 differ")


def test_products_that_tell_x86_from_arm(tmp_path: Path) -> None:
    made = controls.product_case(tmp_path)
    assert (made.kernels, made.threads) == ("default", (1,))
    products = np.multiply.outer(np.arange(-128, 128), np.arange(-128, 128))
    arm = np.clip((products + 128) >> 8, -128, 127).astype(np.int8)  # the multiplier is 2**-8: ties up
    x86 = np.clip(np.rint(products / 256), -128, 127).astype(np.int8)
    assert controls.product_control("sme", [arm.reshape(1, 256, 256, 1)]).passed
    assert not controls.product_control("sme", [x86.reshape(1, 256, 256, 1)]).passed


def test_the_kernels_of_a_core_are_seen_in_the_emulators_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "0x7f54: 0e22c020  {}    v0.8h, v1.8b, v2.8b\n"
    ran = ["smlal", "smlal", "sdot"]

    def machine_run(self: ArmMachine, cpu: Any, arguments: Any, more: dict[str, str]) -> str:
        text = "".join(line.format(name) for name in ran)
        Path(more["QEMU_LOG_FILENAME"]).write_text(f"----\nIN: smopa\n{text}\n")
        return ""

    monkeypatch.setattr(ArmMachine, "run", machine_run)
    said = {name: controls.kernels_control(ArmMachine(tmp_path), cpu, tmp_path) for name, cpu in CPUS.items()}
    assert {name: control.passed for name, control in said.items()} == {
        "cortex-a53": False, "neoverse-n1": True, "i8mm": False, "sme": False}  # fmt: skip
    assert said["neoverse-n1"].text.endswith("multiply with sdot (in translated code: smlal 2, sdot 1)")


def test_delegates_are_counted() -> None:
    default = Row("a", "sme", "default", 1, files=3, delegated=3)
    reference = Row("b", "sme", "reference", 1, files=3, delegated=0)
    assert run.delegated(CPUS["sme"], [default, reference]).passed
    default.delegated = 0
    assert not run.delegated(CPUS["sme"], [default, reference]).passed


def test_operators_are_of_every_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    families = {profile: [family for family, _ in files(profile)] for profile in PROFILES}
    assert families["xnnpack"] == families["tflite_ref"] and len(families["xnnpack"]) > 440
    wanted = {"convolution, thresholds", "add, all pairs", "mul, all pairs", "requantize", "leaky relu", "hardswish",
              "silu", "bilinear", "convolution, 16 bit outputs", "networks"}  # fmt: skip
    assert wanted <= set(families["xnnpack"])
    some = [list(files(p)) for p in PROFILES]
    picked = {p: [row for row in rows if row[0] == "max pool"][:2] for p, rows in zip(PROFILES, some, strict=True)}
    monkeypatch.setattr("tests.arm.cases.files", lambda profile: iter(picked[profile]))
    cases, refused = operator_cases(tmp_path)
    assert [case.name for case in cases] == ["tflite_ref_000", "tflite_ref_001", "xnnpack_000", "xnnpack_001"]
    assert refused == 0 and [case.kernels for case in cases] == ["reference"] * 2 + ["default"] * 2


# ---- the guest's program, here


def test_the_guest_runs_files(case: Case, tmp_path: Path) -> None:
    """The program of the emulated machine, with this machine's interpreter."""
    out, jobs = tmp_path / "out", [*case.jobs(), {**next(case.jobs()), "model": str(tmp_path / "none.tflite")}]
    out.mkdir()
    (tmp_path / "jobs.json").write_text(machine.json.dumps(jobs))
    command = [sys.executable, str(machine.GUEST), str(tmp_path / "jobs.json"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [machine.json.loads(line) for line in (out / "said.jsonl").read_text().splitlines()]
    assert [line["name"] for line in said] == ["r"] * 3 and said[0]["delegates"] == 1 and "error" in said[2]
    found = [run.outputs(out / f"{n}.npz") for n in (0, 1)]
    rows = count("here", {"r": case}, zip(jobs[:2], said[:2], found, strict=True))
    assert [(row.ok, row.values) for row in rows] == [(True, 256), (True, 256)]


# ---- the networks' commands


def test_commands_of_the_networks(tmp_path: Path) -> None:
    """A float training; then calibration and export in the reference's arithmetic, QAT too in the other."""
    for network in NETWORKS:
        steps = [step for step, _ in network.steps(tmp_path / "images", tmp_path / network.name)]
        stages = [(step.arguments[0], step.arguments[3]) for step in steps]
        calibrated, exported = ("train", "calibration"), ("export", "int_infer")
        assert stages == [("train", "float"), calibrated, exported, calibrated, ("train", "qat"), exported]
        names = ["tflite_ref"] * 3 + ["xnnpack"] * 3
        assert all(f"arithmetic={name}" in step.arguments for name, step in zip(names, steps, strict=True))
        assert "--intermediates" in steps[2].arguments and network.config.startswith("hatdet:rtmdet/")
    assert [n.name for n in NETWORKS] == ["relu6", "silu_attention", "hardswish"]


def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run_step(step: Any, number: int, total: int, logs: Path, say: Any) -> Any:
        ran.append(step.name)
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "log.txt").write_text("AP 0.1\nparity: 5 values compared, 0 differing\n")
        work = Path(next(word for word in step.arguments if word.startswith("work_dir=")).removeprefix("work_dir="))
        work.mkdir(parents=True, exist_ok=True)
        (work / "float-checkpoint-best.pth.tar").touch()
        return StepResult(step, 1.0, 1.0, 7 * (len(ran) == 4), logs / "log.txt")

    monkeypatch.setattr(networks, "run_step", run_step)
    monkeypatch.setattr(networks, "render_dataset", lambda folder, *a: folder.mkdir(parents=True))
    said: list[str] = []
    with pytest.raises(RuntimeError, match=r"ended with status 7:\nAP 0.1"):
        networks.train(NETWORKS, tmp_path / "n", say=said.append)
    assert said[-1] == "      1 s; parity: 5 values compared, 0 differing" and len(ran) == 4
    networks.train(NETWORKS, tmp_path / "n", keep=True, say=said.append)
    assert ran[4] == ran[3] and len(ran) == 4 + 15 and len(set(ran)) == 18
    assert (tmp_path / "n" / "relu6" / "xnnpack" / "float-checkpoint-best.pth.tar").is_file()
    networks.train(NETWORKS, tmp_path / "n", keep=True)
    assert len(ran) == 19
    networks.train(NETWORKS, tmp_path / "n", say=said.append)
    assert len(ran) == 19 + 18
