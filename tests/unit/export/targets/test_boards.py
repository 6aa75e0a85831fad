"""Boards by name: every fact has a source or a reason, and a model is held against what is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hatdet.export.bundle.board_check import check_board
from hatdet.export.calibrate import calibrate
from hatdet.export.targets.boards import FILE, RUNTIMES, Board, Fact, board_target, boards, get_board, list_text
from hatdet.export.targets.report import INFO, REFUSED, WARNING, CheckReport
from hatdet.export.targets.table import TARGETS
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import read_file
from hatdet.export.tflite.flatbuffer import OPERATOR_VERSIONS
from hatdet.utils.errors import UserError
from tests.helpers.rtmdet import build_rtmdet

ASKED = (
    "grove-vision-ai-v2", "stm32n6", "esp32-s3", "esp32-p4", "coral", "raspberry-pi", "linux-arm64", "android",
    "alif-e7", "imx93",
)  # fmt: skip
SIZE = (64, 64)


def test_every_fact_has_a_source_or_a_reason() -> None:
    rows = json.loads(FILE.read_text())
    assert tuple(rows) == ASKED
    for name, row in rows.items():
        for part, key in (("flash", "bytes"), ("ram", "bytes"), ("npu", "name"), ("layout", "text")):
            fact = row[part]
            known = fact[key] is not None
            assert ("source" in fact) is known and ("reason" in fact) is not known, (name, part)
            assert fact.get("source", fact.get("reason")).strip(), (name, part)
            assert key != "bytes" or not known or (isinstance(fact[key], int) and fact["what"]), (name, part)


def test_names_of_targets_operators_and_aliases_exist() -> None:
    names = [alias for board in boards().values() for alias in (board.name, *board.aliases)]
    assert len(names) == len(set(names)) and all(name == name.lower() for name in names)
    for board in boards().values():
        assert set(board.targets) <= set(TARGETS) and board.runtime in RUNTIMES, board.name
        assert set(board.operators or ()) <= set(OPERATOR_VERSIONS), board.name
        assert TARGETS[board.targets[0]].npu is ("Ethos" in str(board.npu.value)), board.name


def test_finding_a_board() -> None:
    assert get_board("WE2") is get_board("grove-vision-ai-v2")
    with pytest.raises(UserError, match=r"unknown board 'esp32-s4'; did you mean 'esp32-s3'.*boards are grove-vision"):
        get_board("esp32-s4")
    assert board_target(get_board("we2"), None).name == "ethos-u55-64"
    assert board_target(get_board("alif"), "ethos-u55-128").name == "ethos-u55-128"
    with pytest.raises(UserError, match="--board imx93 runs ethos-u65-256, not --target tflite; leave --target out"):
        board_target(get_board("imx93"), "tflite")


def test_the_list_says_what_is_not_known() -> None:
    text = list_text()
    assert all(f"board {name}: " in text for name in ASKED)
    assert "flash      not known: it is the module's" in text and "[Espressif: ESP32-S3 Series, product page" in text


@pytest.fixture(scope="module")
def data() -> bytes:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    torch.manual_seed(0)
    detector = build_rtmdet(num_classes=2, widen_factor=0.125).eval()
    quantized, _ = calibrate(detector, [{"img": torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8)}], 1)
    return tflite.write(quantized.int_graph(SIZE))


def checked(board: Board, data: bytes | None, **changes: object) -> CheckReport:
    """A report of that board alone, as the check of the target leaves it."""
    report = CheckReport(TARGETS[board.targets[0]], SIZE, 0)
    if data is not None:
        report.file, report.model = data, read_file(data)
    check_board(replace(board, **changes), report)  # type: ignore[arg-type]
    return report


def found(report: CheckReport, severity: str, word: str) -> list[str]:
    return [f.message for f in report.findings if f.severity == severity and f.message.startswith(word)]


def test_the_arena_is_held_against_the_ram(data: bytes) -> None:
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    board = get_board("esp32-s3")
    (line,) = found(checked(board, data), INFO, "RAM: ")
    assert "(arena as TensorFlow Lite Micro needs it here) of 524,288" in line
    arena = int(line.split()[1].replace(",", ""))

    def of(size: int, external: bool) -> CheckReport:
        return checked(board, data, ram=Fact(size, "made up", "SRAM"), external=external)

    assert of(arena - 1, False).refused and not of(arena - 1, True).refused
    assert found(of(arena - 1, True), WARNING, "RAM: ")[0].endswith("it has to lie in external memory, which is slower")
    assert found(of(arena, False), WARNING, "RAM: ")[0].endswith("little is left for the program and the camera")
    assert found(of(2 * arena, False), INFO, "RAM: ")


def test_the_file_is_held_against_the_flash(data: bytes) -> None:
    board = get_board("raspberry-pi")
    assert "how much there is, is not known: it is the card's" in found(checked(board, data), INFO, "flash: ")[0]
    small = checked(board, data, flash=Fact(len(data) - 1, "made up", "MRAM"))
    assert [f.message for f in small.refused] == [f"flash: {len(data):,} bytes (file), there are {len(data) - 1:,}"]
    assert not small.ok and "REFUSED: 1 thing is refused" in small.text()


def test_what_vela_makes_is_held_against_an_npu(data: bytes) -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    report = checked(get_board("we2"), data)
    assert "SRAM of the NPU as Vela" in found(report, INFO, "RAM: ")[0] and report.ok
    assert f"flash: {len(data):,}" not in found(report, INFO, "flash: ")[0]  # the compiled file's


def test_without_vela_the_working_memory_is_not_known(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_args: object) -> None:
        raise UserError("Vela is not installed; install it")

    monkeypatch.setattr("hatdet.export.bundle.board_check.compile_file", missing)
    report = checked(get_board("we2"), data)
    assert found(report, INFO, "working memory: not known, Vela is not installed") and not found(report, INFO, "RAM")


def test_operators_that_a_compiler_does_not_map(data: bytes) -> None:
    board = get_board("coral")
    assert not found(checked(board, data), WARNING, "")
    operators = tuple(code for code in board.operators or () if code != "PAD")
    report = checked(board, data, operators=operators)
    order = [op.code for op in read_file(data).operators]
    after = len(order) - order.index("PAD") - 1
    assert found(report, WARNING, "PAD") == [
        f"PAD is not mapped by the compiler of coral: it and the {after} operators after it run on the CPU"
    ]
    small = checked(board, data, npu_memory=Fact(1000, "made up", "SRAM"))
    assert "there are 1,000: the rest is fetched at every run" in found(small, WARNING, "NPU memory")[0]


def test_a_board_computes_in_an_arithmetic(data: bytes) -> None:
    """Micro's in the reference's; a Raspberry Pi in that of LiteRT's default kernels, the reference's if asked for."""
    assert [board.name for board in boards().values() if board.targets[0] == "litert-xnnpack"] == [
        "raspberry-pi", "linux-arm64", "android"
    ]  # fmt: skip
    assert board_target(get_board("rpi"), "tflite").arithmetic == ""
    report = CheckReport(TARGETS["tflite"], SIZE, 0, arithmetic="xnnpack")
    check_board(get_board("esp32-p4"), report)
    assert [f.message for f in report.refused] == [
        "esp32-p4 runs TensorFlow Lite Micro, which does not compute in the arithmetic 'xnnpack': set "
        "arithmetic='tflite_ref'"
    ]
    for name, arithmetic in (("esp32-p4", "tflite_ref"), ("coral", "xnnpack"), ("rpi", "xnnpack")):
        report = CheckReport(TARGETS[get_board(name).targets[0]], SIZE, 0, arithmetic=arithmetic)
        check_board(get_board(name), report)
        assert report.ok, name
    report = CheckReport(TARGETS["tflite"], SIZE, 0, arithmetic="tflite_single")
    check_board(get_board("esp32-p4"), report)
    assert report.ok and report.findings[0].message == (
        "TensorFlow Lite Micro computes in the arithmetic 'tflite_single' when it is built with "
        "-DTFLITE_SINGLE_ROUNDING=1 -DCMSIS_NN_USE_SINGLE_ROUNDING"
    )


def test_without_a_file_it_is_said() -> None:
    report = checked(get_board("coral"), None)
    assert found(report, INFO, "memory and operators of coral are checked once there is a file")
    assert report.to_dict()["board"]["facts"]["RAM"]["value"] is None and "board coral: " in report.text()


def test_a_table_of_operators_that_micro_lacks(data: bytes) -> None:
    """GELU has no kernel there; the model is given one by its name."""
    model = read_file(data)
    changed = replace(model, operators=(replace(model.operators[0], code="GELU"), *model.operators[1:]))
    report = CheckReport(TARGETS["tflite"], SIZE, 0, model=changed, file=data)
    check_board(get_board("esp32-p4"), report)
    assert [f.message for f in report.findings if f.severity == REFUSED] == [
        "GELU: TensorFlow Lite Micro has no kernel of it"
    ]


def test_the_data_file_is_in_the_package() -> None:
    setup = Path(__file__).resolve().parents[4] / "setup.py"
    assert "export/targets/*.json" in setup.read_text() and "export/bundle/*.h" in setup.read_text()
