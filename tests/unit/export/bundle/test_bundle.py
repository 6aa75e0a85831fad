"""A bundle: what is in it, and its self-test compiled and run against the runtimes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hatdet.export.bundle.expected import Expected, expectation
from hatdet.export.bundle.selftest import crc, selftest_texts
from hatdet.export.bundle.write import CMSIS, Bundle, write_bundle
from hatdet.export.calibrate import calibrate
from hatdet.export.metadata import build_metadata
from hatdet.export.opening import lines
from hatdet.export.runtimes.arena import measure_arena
from hatdet.export.runtimes.integer import LiteRTRuntime, ModelRefused, TFLiteMicroRuntime
from hatdet.export.targets.boards import Fact, get_board
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8 as tflite
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from tests.helpers.rtmdet import build_rtmdet

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
pytestmark = pytest.mark.usefixtures("profiles_of_litert")

FLAGS = "-std=c99 -O1 -Wall -Wextra -Werror -pedantic".split()
SIZE = (64, 96)


class Made:
    """A small model, its bundle, and its self-test as a program."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        detector = build_rtmdet(num_classes=2, widen_factor=0.125, post_process=RTMDetPostProcess(score_thr=0.3)).eval()
        for conv in [*detector.bbox_head.rtm_cls, *detector.bbox_head.rtm_reg]:  # boxes of some size
            torch.nn.init.normal_(conv.weight, std=0.3)
            torch.nn.init.constant_(conv.bias, 1.0)
        noise = torch.randint(0, 256, (3, 3, *SIZE), dtype=torch.uint8)
        quantized, _ = calibrate(detector, [{"img": noise}], 3)
        graph = self.graph = quantized.int_graph(SIZE)
        self.model = tflite.write(graph)
        self.codes = (noise.to(torch.int16) - 128).to(torch.int8).permute(0, 2, 3, 1).contiguous().numpy()
        self.facts = {**build_metadata(graph), **detector.metadata(), "classes": ["nut", "bolt"]}
        self.folder = folder / "board"
        self.bundle: Bundle = write_bundle(self.folder, self.model, graph, self.codes, self.facts)
        self.outputs = LiteRTRuntime(self.model).run(self.codes)
        self.program = compiled(self.folder)

    def run(self, outputs: list[np.ndarray], tmp_path: Path) -> tuple[int, list[str]]:
        """Status and lines of the self-test on these outputs."""
        data = b"".join(maps[i].tobytes() for i in range(len(self.codes)) for maps in outputs)
        return run_selftest(self.program, data, tmp_path)


def compiled(folder: Path, *more: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the self-test cannot be compiled")
    program = folder / "selftest"
    sources = [str(folder / f"model_selftest{suffix}.c") for suffix in ("", "_host")]
    done = subprocess.run(["gcc", *FLAGS, *more, *sources, "-o", str(program), "-lm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def run_selftest(program: Path, data: bytes, tmp_path: Path) -> tuple[int, list[str]]:
    (tmp_path / "outputs.bin").write_bytes(data)
    done = subprocess.run([str(program), str(tmp_path / "outputs.bin")], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def both(equal: int, total: int = 18) -> list[str]:
    """What is said of the two profiles, which give the same outputs of this model."""
    word = "implements" if equal == total else "not"
    return [f"{word} {name}: {equal} of {total} outputs equal" for name in ("tflite_ref", "xnnpack")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("bundle"))


def test_the_runtimes_pass_the_self_test(made: Made, tmp_path: Path) -> None:
    boxes = len(re.findall(r"f, [01]},$", (made.folder / "model_selftest.c").read_text(), re.MULTILINE))
    assert boxes > 5
    ok = (0, [*both(18), f"ok: 3 pictures, 6 outputs each, {boxes} boxes"])
    assert made.run(made.outputs, tmp_path) == ok
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    assert made.run(TFLiteMicroRuntime(made.model).run(made.codes), tmp_path) == ok


@pytest.mark.parametrize("output", range(6))
def test_one_changed_code_is_named(made: Made, output: int, tmp_path: Path) -> None:
    changed = [maps.copy() for maps in made.outputs]
    changed[output][1].reshape(-1)[-1] ^= 1
    name = made.facts["output_names"][output]
    wrong, right = (zlib.crc32(maps[output][1].tobytes()) for maps in (changed, made.outputs))
    line = f"picture 2 of 3: output {output} ({name}) differs: its CRC is {wrong:08x}, expected {right:08x}"
    assert made.run(changed, tmp_path) == (1, [*both(17), line])


def test_too_few_outputs_are_named(made: Made, tmp_path: Path) -> None:
    data = b"".join(maps[0].tobytes() for maps in made.outputs)
    assert run_selftest(made.program, data, tmp_path) == (3, ["picture 2 of 3: the network did not run (1)"])


def test_a_wrong_expected_box_is_named(made: Made, tmp_path: Path) -> None:
    """The codes are right, the decoder (here: what is expected of it) is not."""
    folder = tmp_path / "wrong"
    shutil.copytree(made.folder, folder)
    source = folder / "model_selftest.c"
    text = source.read_text()
    begin = text.index("model_selftest_expected[] = {\n") + len("model_selftest_expected[] = {\n")
    label = text.index("},", begin) - 1
    other = str(1 - int(text[label]))
    source.write_text(text[:label] + other + text[label + 1 :])
    data = b"".join(maps[i].tobytes() for i in range(3) for maps in made.outputs)
    wrong = f"picture 1 of 3: box 0 differs: its label is {text[label]}, expected {other}"
    assert run_selftest(compiled(folder), data, tmp_path) == (2, [*both(18), wrong])
    score = text.rindex(",", begin, label)
    digit = score - 6  # of some ten
    assert text[digit].isdigit()
    source.write_text(text[:digit] + ("1" if text[digit] != "1" else "2") + text[digit + 1 :])
    status, lines = run_selftest(compiled(folder), data, tmp_path)
    assert status == 2 and re.fullmatch(
        r"picture 1 of 3: box 0 differs: the bits of its score are \w{8}, expected \w{8} \(compile with .*\)", lines[-1]
    )


def test_fewer_pictures_where_flash_is_short(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    shutil.copytree(made.folder, folder)
    data = b"".join(maps[0].tobytes() for maps in made.outputs)
    status, lines = run_selftest(compiled(folder, "-DMODEL_SELFTEST_PICTURES=1"), data, tmp_path)
    assert status == 0 and lines[:2] == both(6, 6) and lines[2].startswith("ok: 1 pictures, 6 outputs each, ")


def test_the_input_codes_can_be_had(made: Made, tmp_path: Path) -> None:
    subprocess.run([str(made.program), "--codes", str(tmp_path / "in.bin")], check=True)
    assert (tmp_path / "in.bin").read_bytes() == made.codes.tobytes()


def test_the_array_is_the_file(made: Made, tmp_path: Path) -> None:
    """The object file, read back through a program, has the file's bytes at an aligned address."""
    main = tmp_path / "main.c"
    main.write_text(
        '#include <stdio.h>\n#include <stdint.h>\n#include "model_data.h"\n'
        "int main(void) { fwrite(model_data, 1, MODEL_DATA_BYTES, stdout);"
        " return (int)((uintptr_t)model_data % 16) || MODEL_ARENA_BYTES < 1024; }\n"
    )
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    command = [
        "gcc",
        *FLAGS,
        f"-I{made.folder}",
        str(main),
        str(made.folder / "model_data.c"),
        "-o",
        str(tmp_path / "a"),
    ]
    subprocess.run(command, check=True)
    done = subprocess.run([str(tmp_path / "a")], capture_output=True)
    assert (done.returncode, done.stdout) == (0, made.model)


def test_the_page_and_the_small_files(made: Made) -> None:
    assert (made.folder / "labels.txt").read_text() == "nut\nbolt\n"
    assert json.loads((made.folder / "model.json").read_text())["classes"] == ["nut", "bolt"]
    page = (made.folder / "README.md").read_text()
    assert "int8, shape [1][64][96][3] (NHWC)" in page and "18,432 bytes" in page
    assert "scale 0.003921568859368563, zero point -128" in page and "resolver.AddDepthwiseConv2D();" in page
    assert "## Arithmetic" in page and all(f"- {line}\n" in page for line in lines(made.facts))
    assert all(f"`{name}`" in page for name in made.bundle.files if name != "README.md")
    assert sorted(p.name for p in made.folder.iterdir() if p.name != "selftest") == sorted(made.bundle.files)
    ops = (made.folder / "model_ops.h").read_text()
    assert "MicroMutableOpResolver<7>" in ops and ops.count("TF_LITE_ENSURE_STATUS") == 7


def test_the_arena_is_measured(made: Made) -> None:
    """It runs in what is called enough, and the page says so."""
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    arena = measure_arena(made.model)
    assert arena.used == arena.head + arena.tail <= arena.needed < arena.used + 4096
    TFLiteMicroRuntime(made.model, arena_size=arena.needed).run(made.codes[:1])
    with pytest.raises(ModelRefused):
        TFLiteMicroRuntime(made.model, arena_size=arena.needed - 8192)
    assert f"{arena.needed} bytes were enough" in (page := (made.folder / "README.md").read_text()) and CMSIS in page
    assert f"MODEL_ARENA_BYTES {arena.needed} " in (made.folder / "model_data.h").read_text()


def test_without_a_decoder(made: Made, tmp_path: Path) -> None:
    """A classifier has outputs all the same; what an earlier bundle left there would be of another model."""
    (tmp_path / "b").mkdir()
    left = ("model_decoder.h", "model_vela_data.h", "mine.c")
    for name in left:
        (tmp_path / "b" / name).write_text("old")
    bundle = write_bundle(tmp_path / "b", made.model, made.graph, made.codes[:2], None, no_decoder="it gives no boxes")
    assert not [name for name in bundle.files if "decoder" in name]
    assert [name for name in left if (bundle.folder / name).exists()] == ["mine.c"]
    assert "There is no decoder in this bundle: it gives no boxes" in (bundle.folder / "README.md").read_text()
    data = b"".join(maps[i].tobytes() for i in range(2) for maps in made.outputs)
    assert run_selftest(compiled(bundle.folder), data, tmp_path) == (
        0,
        [*both(12, 12), "ok: 2 pictures, 6 outputs each"],
    )


def test_for_an_npu(made: Made, tmp_path: Path) -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    bundle = write_bundle(
        tmp_path / "b", made.model, made.graph, made.codes[:1], made.facts, target=get_target("ethos-u55-64")
    )
    assert {"model_vela.tflite", "model_vela_data.c", "model_vela_ops.h"} <= set(bundle.files)
    assert "resolver.AddEthosU()" in (bundle.folder / "model_vela_ops.h").read_text()
    assert (
        "compiled for ethos-u55-64" in bundle.remarks[0]
        and bundle.remarks[0] in (bundle.folder / "README.md").read_text()
    )


def test_the_page_of_a_board(made: Made, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", made.model, made.graph, made.codes[:1], None, board=get_board("esp32-s3"))
    page = (bundle.folder / "README.md").read_text()
    assert "## Espressif ESP32-S3 " in page and "- flash: not known: it is the module's" in page
    assert "- RAM: 524,288 bytes: SRAM of the chip" in page and "- runs TensorFlow Lite Micro" in page
    assert "## Espressif" not in (made.folder / "README.md").read_text()


def test_a_board_without_the_memory_is_said_in_the_page(made: Made, tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    board = replace(get_board("esp32-s3"), ram=Fact(1024, "a page"), flash=Fact(2048, "a page"))
    bundle = write_bundle(tmp_path / "b", made.model, made.graph, made.codes[:1], None, board=board)
    flash, ram = bundle.remarks
    assert flash.startswith(f"esp32-s3: flash: {len(made.model):,} bytes (file), there are 2,048")
    assert re.match(r"esp32-s3: RAM: [\d,]+ bytes \(arena of TensorFlow Lite Micro\), there are 1,024; it has to", ram)
    assert flash in (tmp_path / "b" / "README.md").read_text()


def test_without_vela_a_bundle_says_so(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hatdet.export.vela.compile import VelaMissing

    def missing(*_args: object, **_more: object) -> None:
        raise VelaMissing("Vela is not installed; install it")

    monkeypatch.setattr("hatdet.export.bundle.write.compile_file", missing)
    bundle = write_bundle(
        tmp_path / "b", made.model, made.graph, made.codes[:1], None, target=get_target("ethos-u55-64")
    )
    assert bundle.remarks == ("no file for ethos-u55-64: Vela is not installed; install it",)
    assert not [name for name in bundle.files if "vela" in name]


def test_codes_of_16_bits_are_summed_by_bytes(tmp_path: Path) -> None:
    """CRC-32 of 0x0102 and -2, least significant byte first: of the bytes 02 01 fe ff."""
    codes = np.array([0x0102, -2], np.int16).reshape(1, 1, 1, 2)
    assert crc(codes) == zlib.crc32(b"\x02\x01\xfe\xff")
    expected = Expected(np.zeros((1, 2, 2, 3), np.int8), {"tflite_ref": [codes]}, None, "by hand")
    for name, text in selftest_texts("model", ["wide"], expected).items():
        (tmp_path / name).write_text(text)
    program = compiled(tmp_path)
    assert run_selftest(program, b"\x02\x01\xfe\xff", tmp_path) == (
        0,
        ["implements tflite_ref: 1 of 1 outputs equal", "ok: 1 pictures, 1 outputs each"],
    )
    assert run_selftest(program, b"\x01\x02\xfe\xff", tmp_path)[0] == 1


def test_expected_are_the_reference_kernels_outputs(made: Made) -> None:
    found = expectation(made.model, made.graph, made.codes[:1], None)
    assert found.boxes is None and list(found.outputs) == ["tflite_ref", "xnnpack"] and not found.left_out
    assert np.array_equal(found.own[2], made.outputs[2][:1])
