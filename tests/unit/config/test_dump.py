"""A dumped config is a Python file that gives the same config again, shared objects included."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import fractions
import functools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.utils.errors import ConfigError

ROOT = Path(__file__).parents[3]


def reload(config: Config, tmp_path: Path, name: str = "again.py") -> Config:
    (tmp_path / name).write_text(config.dump())
    return load_config(tmp_path / name)


def structure(value: Any, seen: dict[int, int] | None = None) -> Any:
    """The value with each dict and list numbered, so that equal structures have equal sharing."""
    seen = {} if seen is None else seen
    if isinstance(value, (dict, list)):
        if id(value) in seen:
            return ("seen", seen[id(value)])
        seen[id(value)] = len(seen)
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return (type(value).__name__, seen[id(value)], [(key, structure(item, seen)) for key, item in items])
    if isinstance(value, tuple):
        return tuple(structure(item, seen) for item in value)
    return value


def test_sharing_survives_a_reload(tmp_path: Path) -> None:
    head = {"type": fractions.Fraction, "numerator": 1}
    model = {"type": "Net", "head": head, "tuple": (head, [1, 2])}
    transforms = [{"type": "Flip"}, {"type": "Pad", "size": (3, 4)}]
    loader = {"dataset": {"transforms": transforms}, "model": model}
    config = Config(
        {
            "num_classes": 2,
            "float_trainer": {
                "model": model,
                "loader": loader,
                "callbacks": [{"model": model}, {"loader": loader}],
            },
            "model": model,
            "alias": model,
            "val": {"transforms": transforms, "head": head},
            "work_dir": "w",
        }
    )
    again = reload(config, tmp_path)
    assert set(again) == set(config)
    ordered = {name: again[name] for name in config}
    assert structure(ordered) == structure(dict(config.items()))
    assert again.alias is again.model
    assert again.float_trainer["callbacks"][1]["loader"] is again.float_trainer["loader"]
    assert again.val["head"] is again.model["head"]


def test_paths_in_the_work_dir_follow_it(tmp_path: Path) -> None:
    """A second run of a resolved config with another --work-dir must not write over the first one's files."""
    save = {"save_dir": "w/x", "best": "w/x/best.pth", "other": "w/xy"}
    config = Config({"ckpt_dir": "w/x", "callback": save, "work_dir": "w/x"})
    (tmp_path / "again.py").write_text(config.dump())
    again = load_config(tmp_path / "again.py", {"work_dir": "new"})
    assert again.ckpt_dir == "new"
    assert again.callback == {"save_dir": "new", "best": "new/best.pth", "other": "w/xy"}
    assert dict(load_config(tmp_path / "again.py")) == dict(config)


def test_options_that_would_change_nothing_are_refused(tmp_path: Path) -> None:
    """``epochs`` has become a number in two places, which the option could not reach."""
    (tmp_path / "c.py").write_text("epochs = 3\nfloat_trainer = dict(num_epochs=epochs, loader=dict(n=2))\n")
    (tmp_path / "again.py").write_text(load_config(tmp_path / "c.py").dump())
    with pytest.raises(ConfigError, match=r"option epochs: .*again\.py is a resolved config"):
        load_config(tmp_path / "again.py", {"epochs": 5})
    again = load_config(tmp_path / "again.py", {"float_trainer.num_epochs": 5, "float_trainer": {"loader": {"n": 4}}})
    assert again.float_trainer == {"num_epochs": 5, "loader": {"n": 4}}


def test_a_second_dump_is_the_same(tmp_path: Path) -> None:
    shared = {"a": 1}
    config = Config({"work_dir": "w", "x": {"p": shared, "q": [shared]}}, "again.py")
    assert reload(config, tmp_path).dump() == config.dump()


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: Any = None


Pair = collections.namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, -2.5, 1e-9, float("inf"), float("-inf"), 2**70, 'it\'s "quoted"\n', b"\x00", 3j),
        *((), (1,), [], {}, set(), {1, 2}, frozenset({3}), frozenset(), range(3), slice(1, None), ...),
        *({1: "a", "b": 2}, {"not-an-identifier": 1}, {"class": 1}, {(1, 2): 3}, {"type": dict}),
        *(
            Path("a/b"),
            int,
            len,
            fractions.Fraction,
            fractions.Fraction.from_float,
            datetime.timezone,
            math.sqrt,
        ),
        {"deep": [{"text": "long " * 30}, [1] * 60]},
    ],
)
def test_values_survive_a_reload(tmp_path: Path, value: Any) -> None:
    again = reload(Config({"value": [value], "work_dir": "w"}), tmp_path).value[0]
    assert again == value
    assert type(again) is type(value)


def test_nan_and_partial_survive_a_reload(tmp_path: Path) -> None:
    config = Config({"nan": float("nan"), "partial": functools.partial(fractions.Fraction, 1, denominator=3)})
    again = reload(config, tmp_path)
    assert math.isnan(again.nan)
    assert again.partial() == fractions.Fraction(1, 3)


def test_objects_of_importable_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("dump_test_module")
    for target in (Color, Point, Pair):
        monkeypatch.setattr(target, "__module__", "dump_test_module")
        setattr(module, target.__name__, target)
    monkeypatch.setitem(sys.modules, "dump_test_module", module)
    config = Config({"value": [Color.RED, Point(1, y=[2]), Pair(1, (2,))], "work_dir": "w"})
    assert reload(config, tmp_path).value == config.value


def test_torch_is_named_by_its_public_path(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    config = Config(
        {
            "optimizer": {"type": torch.optim.AdamW, "lr": 1e-3},
            "loader": {"type": torch.utils.data.DataLoader, "dtype": torch.float16},
            "format": torch.channels_last,
            "act": torch.nn.ReLU6,
            "work_dir": "w",
        }
    )
    text = config.dump()
    assert "type=torch.optim.AdamW" in text
    assert "type=torch.utils.data.DataLoader" in text
    again = reload(config, tmp_path)
    assert dict(again.items()) == dict(config.items())


def test_numpy_numbers_become_numbers_of_python(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    again = reload(Config({"x": numpy.float64(0.5), "n": numpy.int32(3)}), tmp_path)
    assert (again.x, again.n) == (0.5, 3)
    assert type(again.n) is int


def test_what_cannot_be_written_is_refused_with_its_path() -> None:
    class Local:
        pass

    for value in (lambda: 0, Local, Local(), sys):
        config = Config({"trainer": {"callbacks": [{"type": value}]}})
        with pytest.raises(ConfigError, match=r"^trainer.callbacks.0.type: .* cannot be written to a file; put"):
            config.dump()
        assert "Local" in config.dump(strict=False) or "<" in config.dump(strict=False)


def test_the_tool_prints_a_file_that_runs(tmp_path: Path) -> None:
    (tmp_path / "nano.py").write_text(
        "import fractions\n_aliases_ = {'max_epochs': 'epochs'}\nepochs = 2\nnum_classes = 80\n"
        "model = dict(type=fractions.Fraction, numerator=num_classes)\ntrainer = dict(model=model, epochs=epochs)\n"
    )
    tool = [sys.executable, str(ROOT / "tools" / "print_config.py"), "nano.py"]
    command = [*tool, "--save-path", "out/resolved.py", "--cfg-options", "num_classes=3", "max_epochs=7"]
    subprocess.run(command, cwd=tmp_path, check=True)
    config = load_config(tmp_path / "out" / "resolved.py")
    with pytest.raises(ConfigError, match="option epochs"):  # the alias is still known
        load_config(tmp_path / "out" / "resolved.py", {"max_epochs": 9})
    assert config.model["numerator"] == 3
    assert config.trainer["model"] is config.model
    printed = subprocess.run(tool, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    names: dict[str, Any] = {}
    exec(printed, names)
    assert names["model"] == {"type": fractions.Fraction, "numerator": 80}
    failed = subprocess.run([*tool[:-1], "nno.py"], cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr == "print_config.py: error: no config file nno.py; did you mean nano.py?\n"
