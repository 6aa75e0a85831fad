"""Config files: bases, merging, and options that rebind names before anything is derived from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hatdet.config.config import MissingNameError
from hatdet.config.load import load_config
from hatdet.utils.errors import ConfigError

Write = Callable[..., Path]

BASE = """
import copy
import os
import os.path as path_module

def helper(n):
    return n + 1

class Local:
    pass

num_classes = 80
imgsz = (320, 320)
epochs: int = 10
names = [f"class_{i}" for i in range(num_classes)]
cells = imgsz[0] // 32 * (imgsz[1] // 32)
following = helper(num_classes)
kind = Local
model = dict(type="Net", head=dict(num_classes=num_classes, channels=96), neck=dict(width=4))
float_trainer = dict(model=model, epochs=epochs, callbacks=[dict(lr=0.1), dict(model=model)])
qat_trainer = copy.deepcopy(float_trainer)
ckpt_dir = os.path.join(work_dir, "ckpt")
for index in range(3):
    pass
_private = 1
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str, name: str = "cfg.py") -> Path:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write_file


def test_names_of_the_file_are_attributes_and_items(write: Write) -> None:
    config = load_config(write(BASE, "nano.py"))
    assert config.name == "nano"
    assert config.path.name == "nano.py"
    assert config.num_classes == config["num_classes"] == 80
    assert config.cells == 100
    assert set(config) == {
        *("work_dir", "num_classes", "imgsz", "epochs", "names", "cells", "following", "kind"),
        *("model", "float_trainer", "qat_trainer", "ckpt_dir"),
    }
    assert "helper" not in config
    assert config.get("nothing", 5) == 5


def test_a_missing_name_is_refused_with_the_nearest_one(write: Write) -> None:
    config = load_config(write(BASE))
    with pytest.raises(MissingNameError, match=r"has no 'qat_traner'; did you mean 'qat_trainer'\?$"):
        config["qat_traner"]
    with pytest.raises(AttributeError):
        config.modle  # noqa: B018
    assert not hasattr(config, "modle")


def test_an_option_reaches_every_expression_that_uses_the_name(write: Write) -> None:
    config = load_config(write(BASE), {"num_classes": 2, "imgsz": [192, 224], "epochs": 3})
    assert config.names == ["class_0", "class_1"]
    assert config.imgsz == (192, 224), "a list becomes a tuple where the file has one"
    assert config.cells == 6 * 7
    assert config.following == 3
    assert config.model["head"] == {"num_classes": 2, "channels": 96}
    assert config.qat_trainer["epochs"] == 3
    assert config.qat_trainer["model"] is not config.model
    assert config.float_trainer["callbacks"][1]["model"] is config.model


def test_an_option_reaches_the_bases_and_a_literal_of_the_child_too(write: Write) -> None:
    write(BASE, "_base_/base.py")
    child = write('_base_ = "_base_/base.py"\nnum_classes = 3\nhalf = epochs / 2\n', "child.py")
    config = load_config(child)
    assert (config.num_classes, len(config.names), config.model["head"]["num_classes"]) == (3, 3, 3)
    assert config.half == 5
    config = load_config(child, {"num_classes": 7, "epochs": 4})
    assert (config.num_classes, len(config.names), config.half) == (7, 7, 2)


def test_where_a_base_says_none_another_kind_of_value_fits(write: Write) -> None:
    write("amp = None\nname = 'x'\n", "base.py")
    child = write('_base_ = "base.py"\namp = "auto"\nname = "y"\nboth = (amp, name)\n', "child.py")
    assert load_config(child, {"amp": True}).both == (True, "y")
    with pytest.raises(ConfigError, match="name: expected str, got True"):
        load_config(child, {"name": True})


def test_what_the_child_computes_itself_does_not_reach_back(write: Write) -> None:
    write(BASE, "base.py")
    config = load_config(write('_base_ = "base.py"\nnum_classes = num_classes - 78\n', "child.py"))
    assert config.num_classes == 2
    assert len(config.names) == 80


def test_dicts_of_the_child_merge_into_those_of_the_base_in_place(write: Write) -> None:
    write(BASE, "base.py")
    config = load_config(
        write(
            '_base_ = "base.py"\n'
            "model = dict(head=dict(channels=64), extra=1)\n"
            "int_infer = dict(model=model)\n"
            "float_trainer = dict(epochs=1)\n",
            "child.py",
        )
    )
    assert config.model == {
        "type": "Net",
        "head": {"num_classes": 80, "channels": 64},
        "neck": {"width": 4},
        "extra": 1,
    }
    assert config.float_trainer["model"] is config.model
    assert config.float_trainer["epochs"] == 1
    assert config.int_infer["model"] is config.model, "what follows in the child sees the merged dict"


def test_delete_replaces_and_never_stays_behind(write: Write) -> None:
    write(BASE, "base.py")
    config = load_config(
        write(
            '_base_ = ["base.py"]\n'
            'model = dict(head=dict(_delete_=True, type="Other"))\n'
            "fresh = dict(_delete_=True, inner=[dict(_delete_=True, a=1)])\n",
            "child.py",
        )
    )
    assert config.model["head"] == {"type": "Other"}
    assert config.float_trainer["model"]["head"] == {"type": "Other"}
    assert config.fresh == {"inner": [{"a": 1}]}


def test_a_wrapper_around_what_was_inherited_replaces_it(write: Write) -> None:
    write(BASE, "base.py")
    config = load_config(write('_base_ = "base.py"\nmodel = dict(type="Wrap", inner=model)\n', "child.py"))
    assert config.model["type"] == "Wrap"
    assert config.model["inner"] is config.float_trainer["model"]


def test_several_bases_and_one_that_both_share_run_once_in_order(write: Write) -> None:
    write("counter = []\ncounter.append('root')\nsize = 1\ndouble = size * 2\n", "root.py")
    write('_base_ = "root.py"\ncounter.append("a")\nmodel = dict(a=1)\n', "a.py")
    write('_base_ = "root.py"\ncounter.append("b")\nmodel = dict(b=2)\n', "b.py")
    config = load_config(write('_base_ = ["a.py", "b.py"]\nsize = 5\n', "c.py"))
    assert config.counter == ["root", "a", "b"]
    assert config.model == {"a": 1, "b": 2}
    assert config.double == 10


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a = b = 3", (9, 3)),
        ("a, b = 1, 2", (9, 2)),
        ("a = 1\na += 5\nb = 0", (9, 0)),
        ("if True:\n    a = 1\n    b = a", (9, 9)),
        ("try:\n    a = 1\nexcept ValueError:\n    a = 2\nb = a", (9, 9)),
        ("a = 1\nb = (lambda: a)()", (9, 9)),
        ("a = 1\ndef f():\n    a = 4\n    return a\nb = f()", (9, 4)),
    ],
)
def test_every_form_of_assignment_is_rebound(write: Write, line: str, expected: tuple[int, int]) -> None:
    config = load_config(write(line + "\n"), {"a": 9})
    assert (config.a, config.b) == expected


def test_the_replaced_expression_is_not_evaluated(write: Write) -> None:
    path = write('import os\ndata_root = os.environ["NO_SUCH_VARIABLE_HERE"]\ntrain = data_root + "/train"\n')
    assert load_config(path, {"data_root": "/data"}).train == "/data/train"


def test_an_imported_constant_is_rebound_and_an_imported_function_is_no_name_of_the_config(write: Write) -> None:
    path = write("from string import digits, capwords\nfrom math import pi as ratio\ntwo = digits * 2\narea = ratio\n")
    assert load_config(path).digits == "0123456789"
    config = load_config(path, {"digits": "01", "ratio": 3})
    assert (config.two, config.area) == ("0101", 3.0)
    with pytest.raises(ConfigError, match="digits: expected str, got 3"):
        load_config(path, {"digits": 3})
    with pytest.raises(ConfigError, match="the config has no 'capwords'"):
        load_config(path, {"capwords": "x"})


def test_a_name_that_cannot_be_rebound_is_refused(write: Write) -> None:
    path = write("from string import *\ntwo = digits * 2\n")
    with pytest.raises(ConfigError, match=r"no file of the config assigns 'digits'"):
        load_config(path, {"digits": "01"})


def test_work_dir_and_config_name_are_predefined(write: Write) -> None:
    config = load_config(write("x = config_name\n", "nano.py"))
    assert (config.work_dir, config.x) == ("work_dirs/nano", "nano")
    assert "config_name" not in config
    assert load_config(write(BASE), {"work_dir": "out"}).ckpt_dir == "out/ckpt"
    own = 'import os\nwork_dir = os.path.join("runs", config_name)\nlog = work_dir + "/log"\n'
    assert load_config(write(own, "nano.py")).log == "runs/nano/log"
    assert load_config(write(own), {"work_dir": "out"}).log == "out/log"


def test_config_name_in_a_base_is_the_stem_of_the_users_file(write: Write) -> None:
    write("here = config_name\n", "base.py")
    assert load_config(write('_base_ = "base.py"\n', "mine.py")).here == "mine"


def test_defaults_are_there_for_the_file_and_can_be_rebound(write: Write) -> None:
    path = write("twice = batch_size * 2\n")
    assert load_config(path, defaults={"batch_size": 4}).twice == 8
    assert load_config(path, {"batch_size": 3}, defaults={"batch_size": 4}).twice == 6


def test_dotted_options_change_dicts_and_lists_in_place(write: Write) -> None:
    options = {
        "model.head.channels": 32,
        "float_trainer.callbacks.0.lr": 1,
        "imgsz.1": 64,
        "model.neck": {"width": 8},
    }
    config = load_config(write(BASE), options)
    assert config.float_trainer["model"]["head"]["channels"] == 32
    assert config.float_trainer["callbacks"][0]["lr"] == 1.0
    assert config.imgsz == (320, 64)
    assert config.model["neck"] == {"width": 8}


def test_a_dict_option_merges_into_a_dict_and_replaces_none(write: Write) -> None:
    path = write("model = dict(a=1, b=2)\nextra = None\ncopy_of_extra = extra\n")
    config = load_config(path, {"model": {"b": 3}, "extra": {"x": 1}})
    assert config.model == {"a": 1, "b": 3}
    assert config.copy_of_extra == {"x": 1}


def test_aliases_accept_older_names(write: Write) -> None:
    path = write('_aliases_ = {"max_epochs": "epochs", "net": "model"}\nepochs = 1\nmodel = dict(a=1)\nlast = epochs\n')
    config = load_config(path, {"max_epochs": 5, "net.a": 2})
    assert (config.last, config.model) == (5, {"a": 2})
    with pytest.raises(ConfigError, match="options max_epochs and epochs are the same name with different values"):
        load_config(path, {"epochs": 4, "max_epochs": 5})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_clases": 2},
            r"option num_clases: the config has no 'num_clases'; did you mean 'num_classes'\?",
        ),
        ({"num_classes": "two"}, r"num_classes: expected int, got 'two' \(str\)"),
        ({"num_classes": 2.0}, r"num_classes: expected int, got 2.0 \(float\)"),
        ({"num_classes": True}, r"num_classes: expected int, got True \(bool\)"),
        ({"imgsz": 192}, r"imgsz: expected tuple, got 192 \(int\)"),
        ({"imgsz": ("a", "b")}, r"imgsz.0: expected int, got 'a' \(str\)"),
        ({"names": 3}, r"names: expected list, got 3 \(int\)"),
        ({"cells": "many"}, r"cells: expected int, got 'many' \(str\)"),
        (
            {"ckpt_dir": 3},
            r"ckpt_dir: expected str, got 3 \(int\); to give text that looks like a literal, quote",
        ),
        ({"model": 3}, r"model: expected dict, got 3 \(int\)"),
        ({"model.hed.channels": 3}, r"option model.hed.channels: model has no 'hed'; did you mean 'head'\?"),
        ({"model.head.chanels": 3}, r"model.head has no 'chanels'; did you mean 'channels'\?"),
        ({"model.neck.zzz": 3}, r"model.neck has no 'zzz'; it has width"),
        ({"model.head.channels.x": 3}, r"channels is 96 \(int\), .* to set; set model.head.channels itself"),
        ({"float_trainer.callbacks.2.lr": 3}, r"float_trainer.callbacks is a list; indices: 0 to 1"),
        ({"float_trainer.callbacks.last": 3}, r"float_trainer.callbacks is a list; indices: 0 to 1"),
        ({"_private": 3}, r"the config has no '_private'"),
    ],
)
def test_options_that_do_not_fit_are_refused(write: Write, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(BASE), options)


def test_an_option_may_add_an_argument_that_the_constructor_accepts(write: Write) -> None:
    path = write("import fractions\nmodel = dict(type=fractions.Fraction, numerator=1)\n")
    assert load_config(path, {"model.denominator": 3}).model["denominator"] == 3
    with pytest.raises(ConfigError, match=r"model has no argument 'denominater'; did you mean 'denominator'\?"):
        load_config(path, {"model.denominater": 3})
    path = write('model = dict(type="NoSuchNet")\n')
    with pytest.raises(ConfigError, match="model: unknown type 'NoSuchNet'"):
        load_config(path, {"model.a": 3})


def test_none_fits_anything(write: Write) -> None:
    path = write("limit = None\nrate = 0.5\n")
    assert load_config(path, {"limit": "x"}).limit == "x"
    assert load_config(path, {"rate": None}).rate is None
    assert isinstance(load_config(path, {"rate": 1}).rate, float)


def test_errors_in_the_file_name_file_and_line(write: Write) -> None:
    for text, message in {
        "a = 1\nb = (\n": r"cfg.py, line 2: '\(' was never closed",
        "a = 1\n\nb = undefined + 1\n": r"cfg.py, line 3: NameError: name 'undefined' is not defined",
        "def f():\n    return 1 / 0\n\nx = f()\n": r"cfg.py, line 2: ZeroDivisionError: division by zero",
        "return 3\n": r"cfg.py, line 1: 'return' outside function",
        "import no_such_module_here\n": r"cfg.py, line 1: ModuleNotFoundError: No module named 'no_such_module_here'",
        "_base_ = compute()\n": r"cfg.py, line 1: _base_ must be a literal",
        "_base_ = 3\n": r"cfg.py: _base_ must be a file name or a list of them, got 3",
        "_aliases_ = ['a']\n": r"cfg.py: _aliases_ must be a dict of names",
    }.items():
        with pytest.raises(ConfigError, match=message):
            load_config(write(text))


def test_an_error_in_a_base_names_the_base(write: Write) -> None:
    write("x = 1\ny = undefined\n", "base.py")
    with pytest.raises(ConfigError, match=r"base.py, line 2: NameError"):
        load_config(write('_base_ = "base.py"\n', "child.py"))


def test_a_missing_file_is_told_with_near_names(write: Write, tmp_path: Path) -> None:
    write("", "rtmdet_nano.py")
    with pytest.raises(ConfigError, match=r"no config file .*rtmdet_nao.py; did you mean .*rtmdet_nano.py\?"):
        load_config(tmp_path / "rtmdet_nao.py")
    with pytest.raises(ConfigError, match=r"there is no directory .*nowhere"):
        load_config(tmp_path / "nowhere" / "x.py")
    with pytest.raises(ConfigError, match=r"no config file .*bas.py \(the _base_ of .*child.py\)"):
        load_config(write('_base_ = "bas.py"\n', "child.py"))
    with pytest.raises(ConfigError, match="is a directory"):
        load_config(tmp_path)
    (tmp_path / "image.py").write_bytes(b"\xff\xd8\xff\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "image.py")


def test_a_cycle_of_bases_is_refused(write: Write) -> None:
    write('_base_ = "b.py"\n', "a.py")
    write('_base_ = "c.py"\n', "b.py")
    write('_base_ = "a.py"\n', "c.py")
    with pytest.raises(ConfigError, match=r"leads back to itself: .*a.py -> .*b.py -> .*c.py -> .*a.py"):
        load_config(write("_base_ = 'b.py'\n", "a.py"))


def test_a_config_that_registers_a_class_can_be_loaded_again(write: Write) -> None:
    path = write("from hatdet.registry import register\n@register\nclass LoadTestLocal: ...\nn = 1\nm = n + 1\n")
    assert load_config(path).m == 2
    assert load_config(path, {"m": 5}).m == 5


@pytest.mark.parametrize("value", [4, "auto", ["backbone.stage4*"]])
def test_bits_of_weights_are_a_number_a_word_or_names(write: Write, value: object) -> None:
    path = write("weight_bits = 8\nparams = dict(weight_bits=weight_bits)\n")
    assert load_config(path, {"weight_bits": value}).params == {"weight_bits": value}
