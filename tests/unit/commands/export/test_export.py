"""tools/export.py: what it accepts, what it writes, how it ends."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hatdet.building import Builder
from hatdet.commands.export.command import add_arguments, check_arguments, main
from hatdet.commands.export.run import check_strides
from hatdet.commands.shared.arguments import make_parser
from hatdet.config.load import load_config
from hatdet.export.tflite import int8 as tflite
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError

CONFIG = "configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"


def parse(words: list[str]) -> argparse.Namespace:
    parser = make_parser("")
    add_arguments(parser)
    args: argparse.Namespace = parser.parse_args(words)
    check_arguments(args)
    return args


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--format", "tflite", "onx"],
            "--format onx is not available; available: tflite, onnx, .*; did you mean .onnx",
        ),
        (["--imgsz", "1", "2", "3"], "--imgsz takes one or two positive numbers"),
        (["--imgsz", "0"], "--imgsz takes one or two positive numbers"),
        (["--verify", "-1"], "--verify takes a number of images"),
        (["a.pth", "--ckpt", "b.pth"], "two checkpoints: 'a.pth' and --ckpt 'b.pth'"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(["config.py", *arguments])


def test_both_forms_are_understood() -> None:
    args = parse(["--config", "c.py", "--stage", "qat", "--verify", "--evaluate"])
    assert (args.stage, args.verify, args.evaluate, args.checkpoint) == ("qat", 16, True, None)
    words = "c.py w.pth --cfg-options a=1 --imgsz 192 192 --format tflite --image_path d".split()
    args = parse(words)
    assert (args.config, args.checkpoint, args.imgsz, args.image_path) == ("c.py", "w.pth", [192, 192], "d")
    assert parse(["c.py", "--verify", "0"]).verify == 0
    args = parse(["--config", "c.py", "w.pth"])
    assert (args.config, args.config_flag, args.checkpoint) == (None, "c.py", "w.pth")


def mini_set(root: Path) -> None:
    """Three images of 48 x 64 with two boxes each, in COCO format."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(3):
        (root / "images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "images" / f"{i}.png"), rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        images.append({"id": i + 1, "file_name": f"{i}.png", "height": 48, "width": 64})
        for k in range(2):
            box = [4 + 20 * k, 6, 18, 24]
            annotations.append(
                {"id": 2 * i + k + 1, "image_id": i + 1, "category_id": k + 1, "bbox": box, "area": 432, "iscrowd": 0}
            )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "all.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Callable[..., list[str]]:
    """Arguments for a tiny data set and random float weights; more can be appended."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    root = tmp_path_factory.mktemp("export")
    mini_set(root)
    options = [
        "num_classes=2", "imgsz=(64,64)", f"data_root={root}/", "train_ann_file=all.json", "val_ann_file=all.json",
        "train_img_prefix=images/", "val_img_prefix=images/", f"work_dir={root}/wd", "workers=0",
    ]  # fmt: skip
    torch.manual_seed(0)
    config = load_config(str(repo_root / CONFIG), {"num_classes": 2})
    model = Builder().build(config["model"])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias)
    save_checkpoint(root / "weights.pth", {"state_dict": model.state_dict()})
    head = [str(repo_root / CONFIG), str(root / "weights.pth")]
    return lambda *more: [*head, *more, "--cfg-options", *options]


def test_float_weights_to_a_proven_file(
    arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    words = arguments("--evaluate", "--intermediates", "--verify", "2")
    folder = Path(words[1]).parent
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "float weights: calibrated on 3 images of the config's calibration data" in out
    assert ", 0 differing (torch = LiteRT reference = TFLite Micro)" in out and "equal to the last digit" in out
    results = json.loads((folder / "export-results.json").read_text())
    assert results["parity"]["ok"] and results["parity"]["images"] == 2 and results["evaluation"]["equal"]
    assert results["file"] == "weights_int8.tflite" and results["bytes"] == (folder / results["file"]).stat().st_size
    metadata = tflite.read_metadata(folder / results["file"])
    assert metadata["classes"] == ["cat", "dog"] and metadata["input"]["shape"] == [1, 64, 64, 3]


def test_another_image_size_warns(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments("--imgsz", "32", "96", "--verify", "1", "--out-dir", str(tmp_path))
    assert main(words) == 0
    assert "warning: the config has imgsz=(64, 64); exporting at (32, 96)" in capsys.readouterr().out
    assert tflite.read_metadata(tmp_path / "weights_int8.tflite")["input"]["shape"] == [1, 32, 96, 3]
    with pytest.raises(UserError, match="--imgsz 40 96 does not suit the strides"):
        main(arguments("--imgsz", "40", "96"))


@pytest.mark.parametrize(
    ("config", "size", "fits"),
    [
        ("picodet/picodet_xs.py", (416, 96), True),
        ("picodet/picodet_xs.py", (416, 80), False),
        ("picodet/picodet_xs_npu_fine.py", (80, 80), True),
        ("nanodet/nanodet_plus_m_300e_coco.py", (416, 416), True),
        ("rtmdet/rtmdet_tiny_8xb32_300e_coco.py", (80, 80), False),
    ],
)
def test_the_coarsest_map_may_have_a_part_of_a_cell(config: str, size: tuple[int, int], fits: bool) -> None:
    loaded = load_config(f"configs/{config}")
    with contextlib.nullcontext() if fits else pytest.raises(UserError, match=r"does not suit.*use multiples of 32"):
        check_strides(loaded, size)


def test_a_difference_ends_with_status_1(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor is made to be wrong by one unit in one output: the command must notice."""
    from hatdet.integer.executor import IntExecutor

    original = IntExecutor.__call__

    def wrong(self: IntExecutor, codes: torch.Tensor, keep: bool = False) -> object:
        first, *rest = original(self, codes, keep)
        return (first + torch.where(first < 127, 1, -1).to(torch.int8), *rest)

    monkeypatch.setattr(IntExecutor, "__call__", wrong)
    words = arguments("--verify", "1", "--out-dir", str(tmp_path))
    assert main(words) == 1
    results = json.loads((tmp_path / "export-results.json").read_text())
    assert not results["parity"]["ok"] and results["parity"]["first_differing"] == "cls_8"


def test_a_stage_does_not_take_float_weights(arguments: Callable[..., list[str]]) -> None:
    with pytest.raises(UserError, match="holds float weights, not those of stage int_infer"):
        main(arguments("--stage", "int_infer"))
