"""The RTMDet configs: each builds, at the size that its header states, and checks as a whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.config.source import read

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted([*(ROOT / "configs").glob("rtmdet_*.py"), *(ROOT / "configs" / "rtmdet").glob("*.py")])
BIG = ("_l_", "_x_", "_m_")


def test_the_files_are_those_that_the_tutorials_name() -> None:
    names = {str(f.relative_to(ROOT / "configs")) for f in FILES}
    tutorials = {f"rtmdet/rtmdet_nano_8xb32_300e_coco_{v}.py" for v in ("ncadc_relu6", "relu", "relu_q")}
    tutorials |= {f"rtmdet_{size}_8xb32_300e_coco.py" for size in ("nano", "s", "m", "l", "mnv4")}
    assert tutorials <= names
    assert {f"rtmdet/rtmdet_{size}_8xb32_300e_coco.py" for size in ("tiny", "s", "m", "l", "x")} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_stage_of_a_config_is_valid(path: Path) -> None:
    config = load_config(path, {"num_classes": 3, "imgsz": (64, 64)})
    config.validate("model", "float_trainer", "calibration_trainer", "qat_trainer", "int_infer")
    assert config.model["bbox_head"]["num_classes"] == 3


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_header_states_the_number_of_parameters(path: Path) -> None:
    stated = re.search(r"([0-9.]+) M with 80|([0-9.]+) M parameters and", path.read_text(encoding="utf-8"))
    if stated is None:
        pytest.skip("the header refers to another config's network")
    with torch.device("meta" if any(b in path.stem for b in BIG) else "cpu"):
        model = Builder().build(load_config(path).model, "model")
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert f"{millions:.3f}" == (stated[1] or stated[2])


def test_max_epochs_is_another_name_of_epochs() -> None:
    path = ROOT / "configs" / "rtmdet_nano_8xb32_300e_coco.py"
    assert load_config(path, {"max_epochs": 100}).float_trainer["num_epochs"] == 100


@pytest.mark.parametrize("path", [f for f in FILES if f.match("rtmdet_nano_*_small_data.py")], ids=lambda p: p.stem)
def test_the_small_data_recipe_trains_the_network_of_the_variant_it_names(path: Path) -> None:
    """But for the head's first biases, which training overwrites, the two models are one: so is the integer model."""
    base = re.search(r'_base_ = "(.+)"', path.read_text(encoding="utf-8"))
    assert base is not None
    size = {"imgsz": (320, 320), "num_classes": 3}
    recipe, plain = load_config(path, size), load_config(path.parent / base[1], size)
    assert recipe.model["bbox_head"].pop("initial_distance") == 2.0
    plain.model["bbox_head"].pop("initial_distance")
    assert recipe.model == plain.model
    assert recipe.int_infer["val_metrics"] == plain.int_infer["val_metrics"]
    assert recipe.val_transforms == plain.val_transforms
    assert recipe.float_trainer["optimizer"]["lr"] == 2e-3


def test_the_options_of_the_recipe_reach_what_they_name() -> None:
    path = ROOT / "configs" / "rtmdet" / "rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"
    plain = load_config(path).float_trainer
    assert plain["batch_processor"]["batch_transforms"] == [] and plain["batch_processor"]["enable_amp"] is False
    assert "GradClip" not in [callback["type"] for callback in plain["callbacks"]]
    options = {"multi_scale": (0.7, 1.0), "clip_grad_norm": 9.0, "amp": "auto", "epochs": 30, "late_epochs": 7}
    config = load_config(path, {**options, "random_pop": True, "class_balance": 1.0, "frozen_stages": 1})
    config.validate("model", "float_trainer", "qat_trainer")
    change = config.float_trainer["batch_processor"]["batch_transforms"][0]
    assert (change["ratio_range"], change["num_last_epochs"]) == ((0.7, 1.0), 7)
    assert config.float_trainer["batch_processor"]["enable_amp"] == "auto"
    assert config.qat_trainer["batch_processor"]["enable_amp"] == "auto"  # as the float stage's, unless it says more
    assert load_config(path, {"amp": True, "qat_amp": None}).qat_trainer["batch_processor"]["enable_amp"] is False
    assert {"type": "GradClip", "max_norm": 9.0} in config.float_trainer["callbacks"]
    assert "batch_transforms" not in config.qat_trainer["batch_processor"]  # QAT: one size, all bits
    assert all(t["random_pop"] for t in config.train_transforms if t["type"] in ("Mosaic", "MixUp"))
    assert config.data_loader["sampler"]["class_balance"] == 1.0
    assert config.model["backbone"]["frozen_stages"] == 1


def _explained(guide: str, title: str) -> dict[str, object]:
    """The assignments in the first column of a section's table."""
    section = re.split(r"^## ", guide.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.M)[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", section, re.M)
    pairs = [pair for cell in cells for pair in re.findall(r"`(\w+) = ([^`]+)`", cell)]
    return {name: ast.literal_eval(text) for name, text in pairs}


def test_the_guide_to_pretrained_weights_says_what_the_config_has() -> None:
    guide = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    config = load_config(ROOT / "configs" / "rtmdet" / "rtmdet_efficientnet_lite0_small_data.py")
    explained = _explained(guide, "Start from a pretrained backbone")
    assert {"pretrained", "backbone_lr", "epochs", "imgsz"} <= set(explained)
    assert {name: config[name] for name in explained} == explained


def test_the_guide_to_the_recipe_says_what_the_config_has() -> None:
    guide = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    path = ROOT / "configs" / "rtmdet" / "rtmdet_nano_ncadc_relu6_small_data.py"
    lines = dict(re.findall(r"^(\w+) = (.+)$", path.read_text(encoding="utf-8"), re.M))
    explained = _explained(guide, "Start here")
    small = read(ROOT / "configs" / "_base_" / "rtmdet.py").recipes()["small"]
    assert explained == {**small, "epochs": int(lines["epochs"])} and lines["recipe"] == '"small"'
    config = load_config(path)
    assert {name: config[name] for name in small} == small
    known = set(config)
    for name in re.findall(r"^\| (?:scales: )?`([a-z]\w+)`", guide, re.M):
        assert name in known


def test_the_guides_rectangular_evaluation(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.+?)```", guide, re.S) if "size_divisor" in b]
    file = tmp_path / "rectangles.py"
    file.write_text(block.replace('"configs/', f'"{ROOT}/configs/'), encoding="utf-8")
    config = load_config(file, {"imgsz": (96, 96)})
    config.validate("float_trainer")
    loader = config.float_trainer["val_data_loader"]
    assert loader["collate_fn"]["size_divisor"] == 32
    assert [t["type"] for t in loader["dataset"]["transforms"]] == ["Resize", "ToTensor"]
    assert loader["dataset"]["transforms"][0]["img_scale"] == (96, 96)


@pytest.mark.parametrize(
    ("size", "mosaic", "mixup", "prob", "random_pop", "scales"),
    [
        ("tiny", 19, 9, 0.5, False, (0.5, 2.0)),
        ("s", 39, 19, 1.0, True, (0.5, 2.0)),
        ("m", 39, 19, 1.0, True, (0.1, 2.0)),
        ("x", 39, 19, 1.0, True, (0.1, 2.0)),
    ],
)
def test_mmdetections_augmentation(
    size: str, mosaic: int, mixup: int, prob: float, random_pop: bool, scales: tuple[float, float]
) -> None:
    """As published; MMDetection's caches count the current image, ours (``max_cached``) do not."""
    config = load_config(ROOT / "configs" / "rtmdet" / f"rtmdet_{size}_8xb32_300e_coco.py")
    parts = {t["type"]: t for t in config.train_transforms}
    assert (parts["Mosaic"]["max_cached"], parts["MixUp"]["max_cached"]) == (mosaic, mixup)
    assert parts["Mosaic"]["random_pop"] is random_pop and parts["MixUp"]["random_pop"] is random_pop
    assert (parts["MixUp"]["prob"], parts["MixUp"]["beta"], parts["MixUp"]["ratio_range"]) == (prob, None, (1.0, 1.0))
    assert parts["RandomResize"]["ratio_range"] == scales


def test_a_training_on_crops_sees_objects_at_the_size_of_the_whole_picture() -> None:
    path = ROOT / "configs" / "rtmdet" / "rtmdet_efficientnet_lite0_small_data.py"
    config = load_config(path)
    assert config.imgsz == (416, 416)
    resize, crop = config.train_transforms[1:3]
    assert (resize["scale"], crop["crop_size"]) == ((832, 832), (320, 320))
    assert config.late_transforms[0]["scale"] == (416, 416) and config.val_transforms[0]["img_scale"] == (416, 416)
    sizes = [t["size"] for t in (*config.train_transforms, *config.late_transforms) if t["type"] == "Pad"]
    assert sizes == [(320, 320), (320, 320)]
    small = load_config(path, {"imgsz": (256, 352)})
    assert [t["crop_size"] for t in small.late_transforms if t["type"] == "RandomCrop"] == [(256, 320)]


def test_pretrained_weights_bring_their_normalization_to_every_stage_and_are_loaded_in_the_first_alone() -> None:
    path = ROOT / "configs" / "rtmdet" / "rtmdet_efficientnet_lite0_small_data.py"
    config = load_config(path)
    expected = {"type": "DataPreprocessor", "mean": 127.0, "std": 128.0, "bgr_to_rgb": True}
    stages = (config.float_trainer, config.calibration_trainer, config.qat_trainer, config.int_infer)
    assert [stage["model"]["preprocessor"] for stage in stages] == [expected] * 4
    loads = [[c["type"] for c in stage["model_convert_pipeline"]["converters"]] for stage in stages]
    assert [kinds.count("LoadPretrained") for kinds in loads] == [1, 0, 0, 0]
    of_ours = load_config(path, {"load_from": "own.pth"}).float_trainer["model_convert_pipeline"]["converters"]
    assert [c["type"] for c in of_ours] == ["LoadCheckpoint"]
    random = load_config(path, {"pretrained": None})
    assert random.model["preprocessor"]["mean"] == 0.0
    assert random.float_trainer["model_convert_pipeline"]["converters"] == []
