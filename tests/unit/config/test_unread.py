"""Names that a config assigns and nothing reads are refused with the nearest that is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatdet.config.load import load_config
from hatdet.utils.errors import ConfigError
from tests.integration.mini_coco import CONFIG


def unread(tmp_path: Path, text: str) -> dict[str, str]:
    (tmp_path / "mine.py").write_text(text)
    return load_config(tmp_path / "mine.py").unread


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("epoch = 3", "epochs"),
        ("img_size = (192, 192)", "imgsz"),
        ("batchsize = 4", "batch_size"),
        ("max_epochs = 3", "epochs"),  # the older name of an option, no name of a file
        ("learning_rate = 0.1", None),
        ("float_train = dict()", "float_trainer"),
        ("if True:\n    num_class = 2", "num_classes"),
        ("Target: str = 'onnx'", "target"),
    ],
)
def test_a_name_that_nothing_reads_is_refused(tmp_path: Path, repo_root: Path, line: str, near: str | None) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f'_base_ = "{repo_root / CONFIG}"\n{line}\n')
    name = line.split("\n")[-1].split("=")[0].split(":")[0].strip()
    hint = f"; did you mean '{near}'?" if near else ""
    with pytest.raises(ConfigError) as raised:
        load_config(path).validate("float_trainer")
    assert str(raised.value) == (
        f"{path}: {name}: nothing reads this name, so it would change nothing{hint}; names of your own begin with '_'"
    )


@pytest.mark.parametrize(
    "text",
    [
        "lr = 0.1\nfloat_trainer = dict(lr=lr)",
        "lr = 0.1\ndef schedule():\n    return lr * 2\nfloat_trainer = dict(lr=schedule())",
        "n = 3\nfloat_trainer = dict(lr=[n * i for i in range(2)])",
        "n = 3\nwork_dir = f'runs/{n}'",
        "h, w = 64, 96\nimgsz = (h, h)",
        "lr = 0.1\nlr *= 2\nfloat_trainer = dict(lr=lr)",
        "_note = 'mine'",
        "import math\nfrom os.path import join\nclass Own: pass\nOther = Own\nmake = lambda x: x\ndef f(): pass",
        "n = 3\nfloat_trainer = dict(lr=globals()['n'])",
        "_resolved_ = True\nlr = 0.1",
        "n = 3\ndel n",
        "for number in range(3):\n    _total = number",
    ],
)
def test_names_that_are_read_or_the_users_own(tmp_path: Path, text: str) -> None:
    assert unread(tmp_path, text) == {}


def test_a_functions_own_name_is_not_the_files(tmp_path: Path) -> None:
    text = "epoch = 3\ndef rate(epoch):\n    return 1 / epoch\nfloat_trainer = dict(lr=rate(2))"
    assert list(unread(tmp_path, text)) == ["epoch"]
    assert list(unread(tmp_path, "a = b = 3\nfloat_trainer = dict(lr=a)")) == ["b"]
    assert list(unread(tmp_path, "h, w = 3, 4\nn = 3\nn += 1")) == ["h", "n", "w"]


def test_a_base_reads_what_its_variant_assigns_and_the_other_way(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("width = 1\nonly_variants = 2\nfloat_trainer = dict(width=width)")
    assert unread(tmp_path, '_base_ = "base.py"\nwidth = 3\nqat_trainer = dict(n=only_variants)') == {}


def test_words_of_mmdetection_count_in_its_vocabulary_alone(tmp_path: Path, repo_root: Path) -> None:
    path = repo_root / "configs/retinanet/retinanet_r50_fpn_1x_coco.py"
    config = load_config(path)
    assert config.unread == {}
    config.validate("float_trainer")
    text = f'_base_ = "{path}"\nopencv_num_threads = 0\nfp16 = dict(loss_scale=512.0)'
    assert list(unread(tmp_path, text)) == ["fp16"]
    assert list(unread(tmp_path, "evaluation = dict(interval=1)")) == ["evaluation"]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("epoch = 3\nimg_size = 4\nmodel = dict(type='NoSuchModel')")
    with pytest.raises(ConfigError, match="3 problems:\n  epoch: nothing .*\n  img_size: nothing reads .*'imgsz'"):
        load_config(path).validate("model")


def test_no_shipped_config_has_such_a_name(repo_root: Path) -> None:
    paths = [p for p in (repo_root / "configs").rglob("*.py") if "_base_" not in p.parts]
    assert len(paths) > 15
    assert {str(path): load_config(path).unread for path in paths if load_config(path).unread} == {}


@pytest.mark.parametrize(
    "text",
    [
        "for epoch in (3,):\n    pass",
        "import contextlib\nwith contextlib.nullcontext(3) as epoch:\n    pass",
        "epochs = (epoch := 3) * 2",
        "match 3:\n    case epoch:\n        pass",
        "match 3:\n    case 3:\n        epoch = 4",
        "def late():\n    global epoch\n    epoch = 3\nlate()",
    ],
)
def test_a_misspelt_name_is_found_however_it_is_bound(tmp_path: Path, text: str) -> None:
    found = unread(tmp_path, f"epochs = 2\nfloat_trainer = dict(num_epochs=epochs)\n{text}")
    assert list(found) == ["epoch"] and "did you mean 'epochs'?" in found["epoch"]


@pytest.mark.parametrize("counter", ["i", "index", "stage", "number", "_epoch"])
def test_a_counter_that_nothing_reads_is_no_option(tmp_path: Path, counter: str) -> None:
    text = f"strides = []\nfor {counter} in range(3):\n    strides.append(1)\nepochs = 2\n"
    assert unread(tmp_path, f"{text}float_trainer = [epochs, strides]") == {}
