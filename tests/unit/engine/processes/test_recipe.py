"""Which recipe a float training takes: by training pictures times epochs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hatdet.config.load import load_config
from hatdet.engine.checkpoints.adoption import take
from hatdet.engine.processes.recipe import LIMIT, decided, is_open, reason

ROOT = Path(__file__).resolve().parents[4]
NANO = ROOT / "configs" / "rtmdet" / "rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"
SMALL = NANO.with_name("rtmdet_nano_ncadc_relu6_small_data.py")


@pytest.mark.parametrize(("images", "recipe"), [(677, "small"), (LIMIT // 100 - 1, "small"), (LIMIT // 100, "large")])
def test_the_choice(
    images: int, recipe: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(NANO, {"epochs": 100})
    monkeypatch.setattr(logging.getLogger("hatdet"), "propagate", True)
    with caplog.at_level(logging.INFO, "hatdet"):
        chosen = decided(config, lambda _: images)
    assert chosen.recipe == recipe and chosen.options == {"epochs": 100, "recipe": recipe}
    assert chosen.float_trainer["optimizer"]["lr"] == {"small": 2e-3, "large": 1e-3}[recipe]
    assert caplog.messages == [reason(images, 100)]


def test_the_line() -> None:
    assert reason(677, 150) == (
        "recipe small: 677 pictures x 150 epochs = 101 550 samples, fewer than 2 000 000; "
        "recipe=large for the reference's settings"
    )
    assert reason(118287, 300) == (
        "recipe large: 118287 pictures x 300 epochs = 35 486 100 samples, 2 000 000 or more; "
        "recipe=small for those of small data sets"
    )


def test_nothing_is_decided_where_a_recipe_is_named_or_the_pictures_are_not_known() -> None:
    def never(_: object) -> int:
        raise AssertionError

    named = load_config(NANO, {"recipe": "large"})
    assert decided(named, never) is named and not is_open(named)
    small = load_config(SMALL)
    assert decided(small, never) is small
    config = load_config(NANO)
    assert decided(config, lambda _: None) is config and is_open(config)
    retina = load_config(ROOT / "configs" / "retinanet" / "retinanet_r50_fpn_1x_coco.py")
    assert decided(retina, never) is retina


def test_what_the_user_says_stays_and_names_that_a_command_has_changed_too() -> None:
    config = load_config(NANO, {"lr": 5e-4})
    config["work_dir"] = "elsewhere"
    chosen = decided(config, lambda _: 100)
    assert chosen.float_trainer["optimizer"]["lr"] == 5e-4 and chosen.clip_grad_norm == 35.0
    assert chosen.work_dir == "elsewhere"


@pytest.mark.parametrize("epochs", [2, 60, 150, 300])
def test_the_tutorials_config_becomes_the_small_data_config(epochs: int) -> None:
    """The same options, the same float stage: trained, the two are one run."""
    options = {"num_classes": 3, "imgsz": (192, 192), "epochs": epochs, "work_dir": "w", "qat_epochs": 5}
    chosen, small = decided(load_config(NANO, options), lambda _: 677), load_config(SMALL, options)
    assert dict(chosen) == dict(small)


def test_later_commands_take_the_choice_from_the_checkpoint() -> None:
    record = {"options": {"epochs": 3, "recipe": "small"}, "file_values": {"epochs": 300, "recipe": "auto"}}
    for options in ({}, {"recipe": "auto"}):
        taken = take(load_config(NANO, options), Path("float.pth"), record)
        assert (taken.recipe, taken.class_balance, taken.epochs) == ("small", 0.5, 3)
    assert take(load_config(NANO, {"recipe": "large"}), Path("float.pth"), record).recipe == "large"


@pytest.mark.parametrize("name", ["tiny", "m"])
def test_mmdetections_settings_are_the_large_recipe_only(name: str) -> None:
    config = load_config(NANO.with_name(f"rtmdet_{name}_8xb32_300e_coco.py"))
    small = decided(config, lambda _: 300)
    expected = {"batch_size": 8, "base_batch_size": 8, "lr": 2e-3, "warmup_steps": 200, "ema_gamma": 400}
    assert {key: small[key] for key in expected} == expected
    assert (small.scale_ratio, small.mixup_prob, small.clip_grad_norm) == ((0.6, 1.4), 0.0, 35.0)
    assert (config.batch_size, config.base_batch_size, config.lr, config.warmup_steps) == (32, 256, 0.004, 1000)
    assert small.val_batch_size == config.val_batch_size and small.pixel_mean == config.pixel_mean
