from __future__ import annotations

import importlib.util

import pytest

from hatdet.commands.tune.command import main
from hatdet.commands.tune.search import Choices, Range, check_names, default_space, parse, texts
from hatdet.utils.errors import UserError


def test_ranges_and_choices() -> None:
    space = parse(["lr=1e-4..1e-2:log", "warmup_steps=100..500", "mixup_prob=0.0..0.5", "activation=ReLU6,Hardswish",
                   "imgsz=(192,192),(320, 320)"])  # fmt: skip
    assert space["lr"] == Range(1e-4, 1e-2, log=True)
    assert space["warmup_steps"] == Range(100, 500) and space["mixup_prob"] == Range(0.0, 0.5)
    assert space["activation"] == Choices(("ReLU6", "Hardswish"))
    assert space["imgsz"] == Choices(("(192,192)", "(320, 320)"))
    assert parse([f"{name}={text}" for name, text in texts(space).items()]) == space  # as a study keeps it


@pytest.mark.parametrize("spec", ["a=0.0..1.0", "a=0..1.0", "a=1..2", "a=1234567..2345678", "a=1e-9..0.123456789:log"])
def test_a_study_keeps_ranges_to_the_last_digit_and_their_type(spec: str) -> None:
    (part,) = parse([spec]).values()
    (kept,) = parse([f"a={part}"]).values()
    assert kept == part
    assert type(kept.suggest(Bounds(), "a")) is type(part.suggest(Bounds(), "a"))  # 0..1 is not 0.0..1.0


class Bounds:
    """Takes the lower end."""

    def suggest_int(self, name: str, low: int, high: int, log: bool) -> int:
        return low

    def suggest_float(self, name: str, low: float, high: float, log: bool) -> float:
        return low


class Trial:
    """Takes the lower end, a little more of numbers that are not whole, and the last of several values."""

    def suggest_int(self, name: str, low: int, high: int, log: bool) -> int:
        assert isinstance(low, int) and not log
        return low

    def suggest_float(self, name: str, low: float, high: float, log: bool) -> float:
        assert isinstance(low, float) and log == (name == "b")
        return low + 1.23456e-4

    def suggest_categorical(self, name: str, texts: tuple[str, ...]) -> str:
        return texts[-1]


def test_values_have_the_types_of_options() -> None:
    space = parse(["a=1..5", "b=1e-3..1:log", "c=0..0.5", "d=(1,1),(2,2)", "e=None,true", "f=x,y"])
    found = {name: part.suggest(Trial(), name) for name, part in space.items()}
    assert found == {"a": 1, "b": 0.001123, "c": 0.0001235, "d": (2, 2), "e": True, "f": "y"}


@pytest.mark.parametrize(
    "spec, text",
    [
        ("lr", "give NAME=LOW..HIGH"),
        ("lr=", "give NAME=LOW..HIGH"),
        ("lr=1..2..3", "a range is LOW..HIGH with two numbers"),
        ("lr=a..b", "a range is LOW..HIGH with two numbers"),
        ("lr=1..2:lin", "and :log behind it or nothing"),
        ("lr=2..1", "the first number is below the second"),
        ("lr=0..1:log", "and above 0 with :log"),
        ("lr=0..1e400", r"the numbers of a range lie below 1e\+18; give smaller ones"),
        ("lr=1", "give two different values or more"),
        ("lr=1,1", "give two different values or more"),
        ("lr=1,", "give two different values or more"),
    ],
)
def test_what_is_no_search(spec: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        parse([spec])


def test_the_default_is_around_what_the_config_says() -> None:
    config = {"lr": 2e-3, "weight_decay": 0.05, "mixup_prob": 0.0, "epochs": 60}
    assert texts(default_space(config)) == {
        "lr": "0.0004..0.01:log",
        "weight_decay": "0.01..0.25:log",
        "mixup_prob": "0..0.5",
    }
    assert list(default_space({"lr": 1e-3})) == ["lr"]
    with pytest.raises(UserError, match="name options with --search"):
        default_space({"epochs": 3})
    with pytest.raises(UserError, match="--search lrr: the config has no such name; did you mean 'lr'"):
        check_names(parse(["lrr=1..2"]), config)
    with pytest.raises(UserError, match="--search epochs: tuning sets it for each trial"):
        check_names(parse(["epochs=1..2"]), config)


def test_numbers_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--trials 0: give a number of at least 1"):
        main(["c.py", "--trials", "0"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"tuning needs optuna, which is not installed: pip install 'hatdet\[tune\]'"):
        main(["c.py", "--trials", "1"])
