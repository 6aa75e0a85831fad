"""``_recipes_``: sets of values that the name ``recipe`` chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatdet.config.load import load_config
from hatdet.utils.errors import ConfigError

BASE = """
recipe = "auto"
_recipes_ = {"small": {"lr": 0.2, "scale": (1, 2), "amp": "auto"}, "large": {}}
lr = 0.1
amp = None
epochs = 10
scale = (3, 4) if epochs > 5 else (5, 6)
trainer = dict(lr=lr, scale=scale, amp=amp, recipe=recipe)
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder / f"{list(files)[-1]}.py"


@pytest.mark.parametrize(
    ("recipe", "lr", "scale", "amp"),
    [("auto", 0.1, (3, 4), None), ("large", 0.1, (3, 4), None), ("small", 0.2, (1, 2), "auto")],
)
def test_a_recipe_takes_the_place_of_what_is_assigned(
    tmp_path: Path, recipe: str, lr: float, scale: tuple[int, int], amp: str | None
) -> None:
    config = load_config(write(tmp_path, base=BASE), {"recipe": recipe})
    assert config.trainer == {"lr": lr, "scale": scale, "amp": amp, "recipe": recipe}
    assert (config.lr, config.scale, config.amp) == (lr, scale, amp)
    assert config.recipes == ("large", "small")


def test_a_derived_config_and_options_win_over_a_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE, mine='_base_ = "base.py"\nrecipe = "small"\nlr = 0.7\n')
    assert load_config(path).trainer == {"lr": 0.7, "scale": (1, 2), "amp": "auto", "recipe": "small"}
    assert load_config(path, {"lr": 1}).trainer["lr"] == 1.0
    large = {"lr": 0.7, "scale": (3, 4), "amp": None, "recipe": "large"}
    assert load_config(path, {"recipe": "large"}).trainer == large
    assert load_config(path, {"amp": True}).trainer["amp"] is True  # the base says None: it is for the trainer to judge


def test_a_derived_configs_recipe_is_above_its_own_lines_and_below_what_is_based_on_it(tmp_path: Path) -> None:
    middle = '_base_ = "base.py"\n_recipes_ = {"small": {"lr": 0.4, "epochs": 3}}\nlr = 0.3\n'
    path = write(tmp_path, base=BASE, middle=middle, mine='_base_ = "middle.py"\nepochs = 4\n')
    assert load_config(path).trainer["lr"] == 0.3
    small = load_config(path, {"recipe": "small"})
    assert small.trainer == {"lr": 0.4, "scale": (1, 2), "amp": "auto", "recipe": "small"} and small.epochs == 4


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE, mine='_base_ = "base.py"\n_recipes_ = {"night": {"lr": 0.9}}\nrecipe = "night"\n')
    assert load_config(path).trainer["lr"] == 0.9 and load_config(path).recipes == ("large", "night", "small")


def test_a_dump_keeps_the_values_and_leaves_nothing_to_choose(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, base=BASE), {"recipe": "small"})
    (tmp_path / "dumped.py").write_text(config.dump())
    again = load_config(tmp_path / "dumped.py")
    assert dict(again) == dict(config) and again.recipes == ()


def test_an_unknown_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recipe='smal': the config has no such recipe; did you mean 'small'"):
        load_config(write(tmp_path, base=BASE), {"recipe": "smal"})


def test_a_name_that_nobody_assigns(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE, mine='_base_ = "base.py"\n_recipes_ = {"night": {"lrr": 0.9}}\n')
    with pytest.raises(ConfigError, match=r"mine\.py: the recipe 'night' sets 'lrr', which neither"):
        load_config(path)


@pytest.mark.parametrize("value", ["[1]", "{'small': 1}", "{'small': {1: 2}}"])
def test_what_is_no_dict_of_dicts(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="_recipes_ must be a dict of dicts"):
        load_config(write(tmp_path, base=f"_recipes_ = {value}\nlr = 1\n"))


def test_recipe_is_any_other_name_in_a_config_that_has_none(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, base='recipe = "mine"\nmodel = dict(name=recipe)\n'))
    assert config.model == {"name": "mine"} and config.recipes == () and not config.unread
    assert set(load_config(write(tmp_path, plain='recipe = "mine"\nmodel = dict()\n')).unread) == {"recipe"}
    assert "recipe" not in load_config(write(tmp_path, base=BASE.replace(", recipe=recipe", ""))).unread
