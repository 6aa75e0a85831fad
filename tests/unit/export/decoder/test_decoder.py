"""The exported decoders: the toolbox's own boxes, scores, labels and order, from raw integers, to the last bit."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.export.decoder.c import identifier
from hatdet.export.decoder.model import Overrides, decoder_model, score_table
from hatdet.export.decoder.write import emit
from hatdet.export.opening import opening_of
from hatdet.integer.profiles.table import PROFILES
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from hatdet.utils.errors import UserError
from tests.helpers.decoders import Decoders, assert_same, file_metadata, random_codes, toolbox
from tests.helpers.rtmdet import build_rtmdet

SCALES = [(0.05, 40), (0.047, 90), (0.031, 127), (0.04, -100), (0.03, -120), (0.021, -90)]
SATURATED = [(0.6, -100), (0.9, -90), (1.5, -120), *SCALES[3:]]
FINE = [(scale / 256, zero * 256) for scale, zero in SCALES]
SIZE = (96, 160)
NAMES = ("cat", 'd"o\\g', "ü */ ??", "r\n")


def case(folder: Path, scales: Any = SCALES, classes: int = 3, dtype: str = "int8", **options: Any) -> tuple[Any, ...]:
    """(detector, metadata, decoders) of a small model."""
    exp = bool(options.pop("exp_on_reg", False))
    detector = build_rtmdet(
        num_classes=classes, widen_factor=0.125, exp_on_reg=exp, post_process=RTMDetPostProcess(**options)
    )
    detector.classes = NAMES[:classes]
    metadata = file_metadata(detector, SIZE, scales, dtype)
    return detector, metadata, Decoders(folder, metadata)


CASES: dict[str, dict[str, Any]] = {
    "one class": dict(classes=1, score_thr=0.3),
    "four classes": dict(classes=4, score_thr=0.2, iou_threshold=0.5),
    "every pair is a candidate": dict(score_thr=0.0, max_per_img=5000),
    "saturated": dict(scales=SATURATED, max_per_img=50),
    "few of a level": dict(score_thr=0.1, nms_pre=17),
    "few of a saturated level": dict(scales=SATURATED, nms_pre=5),
    "one label": dict(classes=4, multi_label=False, score_thr=0.5),
    "one label, saturated, few": dict(classes=4, scales=SATURATED, multi_label=False, nms_pre=20),
    "exp": dict(exp_on_reg=True, score_thr=0.3, max_per_img=40),
    "none reaches the threshold": dict(score_thr=0.999),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_toolbox(name: str, tmp_path: Path) -> None:
    detector, metadata, decoders = case(tmp_path, **CASES[name])
    rng = np.random.default_rng(0)
    counts, cases = [], []
    for kind in ("any", "few", "lowest", "highest"):
        codes = random_codes(metadata, rng, kind)
        cases += [(codes, file) for file in ((480, 640), (37, 211), (96, 160), (1, 1))]
    for (codes, file), from_c in zip(cases, decoders.c_many(cases), strict=True):
        expected = toolbox(detector, metadata, codes, file)
        assert_same(decoders.numpy(codes, file), expected)
        assert_same(from_c, expected)
        counts.append(len(expected[0]))
    assert max(counts) == 0 if name == "none reaches the threshold" else max(counts) > 8


@pytest.mark.parametrize("options", [dict(score_thr=0.3), dict(score_thr=0.01, nms_pre=40, exp_on_reg=True)])
def test_int16_outputs(options: dict[str, Any], tmp_path: Path) -> None:
    """No tables there: the C library's double-precision exp is rounded to float."""
    detector, metadata, decoders = case(tmp_path, FINE, dtype="int16", **options)
    codes = random_codes(metadata, np.random.default_rng(1))
    expected = toolbox(detector, metadata, codes, (480, 640))
    assert len(expected[0]) > 30
    assert_same(decoders.numpy(codes, (480, 640)), expected)
    assert_same(decoders.c(codes, (480, 640)), expected)


def test_the_code_at_the_threshold(tmp_path: Path) -> None:
    """Score 0.5 is code 40: > 0.5 starts at 41, and a threshold just below 0.5 lets code 40 pass."""
    for score_thr, first in ((0.5, 41), (float(np.nextafter(np.float32(0.5), np.float32(0))), 40)):
        (tmp_path / str(first)).mkdir()
        detector, metadata, decoders = case(tmp_path / str(first), score_thr=score_thr)
        assert decoders.module.MODEL["levels"][0]["threshold"] == first
        cases, expected = [], []
        for code in (39, 40, 41):
            codes = random_codes(metadata, np.random.default_rng(0), "lowest")
            codes[0][0, 5, 7, 2] = code
            for values in codes[3:]:
                values[:] = 100
            cases.append((codes, (96, 160)))
            expected.append(toolbox(detector, metadata, *cases[-1]))
            assert len(expected[-1][0]) == int(code >= first)
            assert_same(decoders.numpy(*cases[-1]), expected[-1])
        for ours, theirs in zip(decoders.c_many(cases), expected, strict=True):
            assert_same(ours, theirs)


def test_every_threshold_is_where_the_float_comparison_is() -> None:
    """The integer threshold of each of 256 score thresholds, those between and at the scores themselves."""
    output = {"dtype": "int8", "scale": float(np.float32(0.05)), "zero_point": 40}
    scores, first = score_table(output, 0.0)
    assert first == -128 and len(scores) == 256
    for code, score in zip(range(-128, 128), scores.tolist()):
        assert score_table(output, score)[1] == code + 1
        assert score_table(output, float(np.nextafter(np.float32(score), np.float32(0))))[1] == code
    table, first = score_table(output, 0.9999)
    assert first == 128 and len(table) == 0


def test_positions_and_sides_by_hand(tmp_path: Path) -> None:
    """Stride 8, column 7, row 5: the point (56, 40); codes of 2, 1, 3 and 4 strides, the file twice as large."""
    scales = [(0.05, 40)] * 3 + [(0.5, 0)] * 3
    detector, metadata, decoders = case(tmp_path, scales, score_thr=0.9)
    codes = random_codes(metadata, np.random.default_rng(0), "lowest")
    codes[0][0, 5, 7, 2] = 127
    codes[3][0, 5, 7] = (4, 2, 6, 8)
    boxes, scores, labels = decoders.numpy(codes, (192, 320))
    assert boxes.tolist() == [[80, 64, 160, 144]] and labels.tolist() == [2]
    assert scores[0] == np.float32(1 / (1 + np.exp(-np.float64(np.float32(87) * np.float32(0.05)))))
    assert_same(decoders.c(codes, (192, 320)), (boxes, scores, labels))


def test_thousands_of_candidates(tmp_path: Path) -> None:
    detector = build_rtmdet(num_classes=4, widen_factor=0.125, post_process=RTMDetPostProcess())
    metadata = file_metadata(detector, (320, 320), SCALES)
    decoders = Decoders(tmp_path, metadata)
    codes = random_codes(metadata, np.random.default_rng(3))
    expected = toolbox(detector, metadata, codes, (640, 480))
    assert len(expected[0]) == 300
    assert_same(decoders.numpy(codes, (640, 480)), expected)
    assert_same(decoders.c(codes, (640, 480)), expected)


def test_overrides(tmp_path: Path) -> None:
    metadata = case(tmp_path)[1]
    decoders = Decoders(tmp_path, metadata, Overrides(score_thr=0.6, nms_pre=9, max_per_img=4))
    strict = build_rtmdet(
        num_classes=3,
        widen_factor=0.125,
        post_process=RTMDetPostProcess(score_thr=0.6, nms_pre=9, max_per_img=4),
    )
    codes = random_codes(metadata, np.random.default_rng(0))
    expected = toolbox(strict, metadata, codes, (96, 160))
    assert len(expected[0]) == 4
    assert_same(decoders.numpy(codes, (96, 160)), expected)
    assert_same(decoders.c(codes, (96, 160)), expected)
    for wrong in (dict(score_thr=1.0), dict(score_thr=-0.1), dict(nms_pre=0), dict(max_per_img=0)):
        with pytest.raises(UserError, match=next(iter(wrong)).replace("score_thr", "score threshold")):
            Overrides(**wrong)  # type: ignore[arg-type]


def test_needs_numpy_alone(tmp_path: Path) -> None:
    """In an interpreter that cannot find hatdet, torch or cv2."""
    decoders = case(tmp_path)[2]
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('hatdet', 'torch', 'cv2')))\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); import numpy as np, hdx_decoder as d\n"
        "codes = d.preprocess(np.zeros((50, 70, 3), np.uint8))\n"
        "maps = {o['name']: np.full((1, o['height'], o['width'], o['channels']), 50, np.int8) "
        "for o in d.MODEL['outputs']}\n"
        "print(codes.shape, len(d.decode(maps, (50, 70))['boxes']) > 0, d.CLASSES)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"(1, 96, 160, 3) True {list(NAMES[:3])}"
    text = decoders.python_file.read_text()
    assert "hatdet." not in text.replace("hatdet 0.", "") and "import torch" not in text


def test_outputs_that_do_not_fit(tmp_path: Path) -> None:
    _, metadata, decoders = case(tmp_path)
    codes = random_codes(metadata, np.random.default_rng(0))
    with pytest.raises(ValueError, match="has 6 outputs, got 5"):
        decoders.module.decode(codes[:5], (9, 9))
    with pytest.raises(ValueError, match=r"cls_8 is int8 \(12, 20, 3\), got uint8"):
        decoders.module.decode([codes[0].view(np.uint8), *codes[1:]], (9, 9))
    with pytest.raises(ValueError, match=r"cls_16 is int8 \(6, 10, 3\), got int8 \(1, 12, 20, 3\)"):
        decoders.module.decode([codes[0], codes[0], *codes[2:]], (9, 9))
    with pytest.raises(ValueError, match=r"outputs \['reg_32'\] are missing"):
        decoders.module.decode(dict(zip(metadata["output_names"][:5], codes)), (9, 9))
    with pytest.raises(ValueError, match="an image is uint8"):
        decoders.module.preprocess(np.zeros((4, 4), np.uint8))


def test_metadata_that_cannot_be_decoded(tmp_path: Path) -> None:
    _, metadata, _ = case(tmp_path)
    other = {key: value for key, value in metadata.items() if key not in ("prior_offset", "exp_on_reg")}
    with pytest.raises(UserError, match="no decoder for FasterRCNN: its metadata says nothing of points or anchors"):
        decoder_model({**other, "detector": "FasterRCNN"})
    with pytest.raises(UserError, match="has no prior_offset; export the model again"):
        decoder_model({**other, "exp_on_reg": False})
    old = {key: value for key, value in metadata.items() if key != "post_process"}
    with pytest.raises(UserError, match="has no post_process; export the model again"):
        decoder_model(old)
    with pytest.raises(UserError, match=r"output cls_8 should be \(12, 20, 4\)"):
        decoder_model({**metadata, "num_classes": 4})
    with pytest.raises(UserError, match="2 strides need 4 outputs, the model has 6"):
        decoder_model({**metadata, "strides": [8, 16]})
    soft = {**metadata["post_process"], "nms_type": "soft_linear"}
    with pytest.raises(UserError, match="nms_type='soft_linear' lowers their scores instead"):
        decoder_model({**metadata, "post_process": soft})
    floats = [{**entry, "dtype": "float32"} for entry in metadata["outputs"]]
    with pytest.raises(UserError, match="output cls_8 is float32"):
        decoder_model({**metadata, "outputs": floats})
    mixed = [{**metadata["outputs"][0], "dtype": "int16"}, *metadata["outputs"][1:]]
    with pytest.raises(UserError, match="mix int8 and int16"):
        decoder_model({**metadata, "outputs": mixed})


def metadata_of(profile: str) -> dict[str, Any]:
    detector = build_rtmdet(num_classes=3, widen_factor=0.125, post_process=RTMDetPostProcess())
    return {**file_metadata(detector, SIZE, SCALES), "profile": profile}


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_it_says_how_the_file_is_opened(profile: str, tmp_path: Path) -> None:
    python, header = (path.read_text(encoding="utf-8") for path in emit(None, metadata_of(profile), tmp_path / "m"))
    assert f"arithmetic {profile}." in python.splitlines()[0] and f"arithmetic {profile}." in header.splitlines()[1]
    opening = opening_of(profile)
    if opening is not None:
        said = " ".join(python.split('"""')[1].split())
        assert opening.python in said and all(f"- {name}: " in said for name in opening.platforms)
        comment = " ".join(line.removeprefix(" *").strip() for line in header[: header.index("*/")].splitlines())
        assert f"- Python: {opening.python} of ai_edge_litert.interpreter" in comment


def test_a_hostile_arithmetic_ends_no_comment(tmp_path: Path) -> None:
    python, header = emit(None, metadata_of('a"""\nimport os */ int x; \\'), tmp_path / "m")
    assert "import os" in (ast.get_docstring(ast.parse(python.read_text(encoding="utf-8"))) or "")
    text = header.read_text(encoding="utf-8")
    assert "int x" in text[: text.index("*/")] and "int x" not in text[text.index("*/") :]


def test_files_are_the_same_each_time_and_of_the_stem(tmp_path: Path) -> None:
    metadata = case(tmp_path)[1]
    first = emit(None, metadata, tmp_path / "qat-model_int8")
    assert [path.name for path in first] == ["qat-model_int8_decoder.py", "qat-model_int8_decoder.h"]
    texts = [path.read_bytes() for path in first]
    assert b"qat_model_int8_decode(" in texts[1] and b"QAT_MODEL_INT8_LEVELS" in texts[1] and b"hdx" not in texts[1]
    emit(None, metadata, tmp_path / "qat-model_int8")
    assert [path.read_bytes() for path in first] == texts


@pytest.mark.parametrize(
    ("stem", "name"), [("8bit", "model_8bit"), ("int", "model_int"), ("A b.c", "a_b_c"), ("é", "model")]
)
def test_identifiers(stem: str, name: str) -> None:
    assert identifier(stem) == name


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_header_compiles_optimized_and_twice(tmp_path: Path) -> None:
    """Two models in one program, at -O2, and the example of the header's comment."""
    metadata = case(tmp_path)[1]
    headers = [emit(None, metadata, tmp_path / stem)[1] for stem in ("one", "two")]
    comment = headers[0].read_text().split("Example:")[1].split("*/")[0]
    example = "\n".join(line.lstrip(" *") for line in comment.splitlines())
    program = "".join(f'#include "{path.name}"\n' for path in headers)
    program += "void run_network(const int8_t *input, const int8_t **outputs);\n" + example.replace("//", ";//")
    program += "int32_t detect(const uint8_t *bgr, int32_t height, int32_t width);\n"
    (tmp_path / "main.c").write_text(re.sub("//.*", "", program).replace("int32_t detect", "extern int32_t detect"))
    flags = "-std=c99 -O2 -Wall -Wextra -Werror -pedantic -c main.c -o main.o".split()
    done = subprocess.run(["gcc", *flags], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_overlap_that_rounding_lifts_above_the_threshold(tmp_path: Path) -> None:
    """Of b / a = threshold, OpenCV's way through 1 - IoU makes a float32 that is larger: the box goes."""
    cases: dict[tuple[bool, bool], tuple[int, int]] = {}
    for b, a in ((short, long) for long in range(9, 128) for short in range(9, long)):
        iou, threshold = b / a, np.float32(b / a)
        # (OpenCV's IoU is above the threshold, the exact one is): all four happen
        cases[bool(1 - np.float32(1 - iou) > threshold), iou > float(threshold)] = (b, a)
    assert len(cases) == 4
    scales = [*SCALES[:3], *[(0.125, 0)] * 3]  # a code is a pixel at stride 8
    for number, ((lifted, _), (b, a)) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        detector, metadata, decoders = case(folder, scales, score_thr=0.5, iou_threshold=b / a)
        codes = random_codes(metadata, np.random.default_rng(0), "lowest")
        codes[0][0, 1, 1:3, 0] = (127, 120)
        codes[3][0, 1, 1] = (0, 0, a, 10)  # [8, 8, 8 + a, 18]
        codes[3][0, 1, 2] = (8, 0, b - 8, 10)  # [8, 8, 8 + b, 18]
        expected = toolbox(detector, metadata, codes, SIZE)
        assert len(expected[0]) == (1 if lifted else 2), (b, a)
        assert_same(decoders.numpy(codes, SIZE), expected)
        assert_same(decoders.c(codes, SIZE), expected)
