"""The syntax of MMDetection's config files, form by form."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hatdet.config.mmdetection.load import read as read_with_options
from hatdet.config.mmdetection.load import recognised
from hatdet.config.mmdetection.syntax.files import read
from hatdet.config.mmdetection.syntax.modules import import_all
from hatdet.config.mmdetection.syntax.options import apply
from hatdet.utils.errors import ConfigError


def write(folder: Path, **files: str) -> Path:
    """Files ``name=text``; gives the path of the last one."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ("" if "." in name else ".py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path


BASE = """
scale = (1333, 800)
pipeline = [dict(type='Load'), dict(type='Resize', scale=scale)]
model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=50), neck=dict(type='FPN', num_outs=5))
val = dict(dataset=dict(pipeline=pipeline, root='a'))
test = val
"""


def test_dicts_merge_and_other_values_replace(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE, my="_base_ = ['./base.py']\nmodel = dict(backbone=dict(depth=18))\nscale = 7\n")
    values = read(path)
    assert values["model"]["backbone"] == {"type": "ResNet", "depth": 18}
    assert values["scale"] == 7
    assert values["pipeline"][1]["scale"] == (1333, 800)  # a base is not run anew with the child's values


def test_shared_dicts_of_a_base_are_apart(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE, my="_base_ = 'base.py'\nval = dict(dataset=dict(root='b'))\n")
    values = read(path)
    assert (values["val"]["dataset"]["root"], values["test"]["dataset"]["root"]) == ("b", "a")


def test_delete_replaces_wherever_the_dict_goes(tmp_path: Path) -> None:
    text = "_base_ = 'base.py'\nval = dict(_delete_=True, x=1)\ntest = val\nnew = dict(a=dict(_delete_=True, b=2))\n"
    values = read(write(tmp_path, base=BASE, my=text))
    assert values["val"] == values["test"] == {"x": 1}
    assert values["new"] == {"a": {"b": 2}}


def test_a_base_by_two_ways_is_an_error_as_in_mmengine(tmp_path: Path) -> None:
    path = write(tmp_path, a="x = 1\ny = 2\n", b="y = 3\n", my="_base_ = ['a.py', 'b.py']\n")
    with pytest.raises(ConfigError, match=r"my.py: two of its _base_ files have 'y'; take one of them out"):
        read(path)


def test_a_cycle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, a="_base_ = 'my.py'\n", my="_base_ = 'a.py'\n")
    with pytest.raises(ConfigError, match=r"leads back to itself: .*my.py -> .*a.py -> .*my.py"):
        read(path)


def test_references_to_bases(tmp_path: Path) -> None:
    text = """
_base_ = './base.py'
_base_.pipeline[1].scale = (640, 640)
mine = _base_.pipeline + [dict(type='Flip')]
depth = {{_base_.model.backbone.depth}}
root = '{{ _base_.val.dataset.root }}/images'
whole = '{{_base_.scale}}'
braces = f'{{fix}}'
"""
    values = read(write(tmp_path, base=BASE, my=text))
    assert [step["type"] for step in values["mine"]] == ["Load", "Resize", "Flip"]
    assert values["pipeline"][1]["scale"] == (640, 640)
    assert [values[key] for key in ("depth", "root", "whole", "braces")] == [50, "a/images", (1333, 800), "{fix}"]
    with pytest.raises(ConfigError, match=r"other.py, line 2: AttributeError: .*no 'pipelin'; did you mean 'pipeline'"):
        read(write(tmp_path, other="_base_ = './base.py'\nx = _base_.pipelin\n"))


def test_the_names_of_the_file(tmp_path: Path) -> None:
    text = """
work_dir = './runs/{{ fileBasenameNoExtension }}'
names = ['{{fileBasename}}', '{{ fileExtname }}', '{{fileDirname}}']
"""
    values = read(write(tmp_path, my_config=text))
    assert values["work_dir"] == "./runs/my_config"
    assert values["names"] == ["my_config.py", ".py", str(tmp_path)]


def test_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "root = '{{$HATDET_TEST_DATA:data/coco/}}'\nbatch = {{ $HATDET_TEST_BATCH:4 }}\n"
    path = write(tmp_path, my=text)
    assert read(path) == {"root": "data/coco/", "batch": 4}
    monkeypatch.setenv("HATDET_TEST_DATA", "/else/")
    monkeypatch.setenv("HATDET_TEST_BATCH", "16")
    assert read(path) == {"root": "/else/", "batch": 16}
    with pytest.raises(ConfigError, match=r"no HATDET_TEST_NONE and .* has no default; set HATDET_TEST_NONE"):
        read(write(tmp_path, other="x = '{{$HATDET_TEST_NONE:}}'\n"))


def test_a_base_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``mmdet::...``: the package is looked for, never imported."""
    folder = tmp_path / "site" / "hatdettestdet"
    (folder / ".mim" / "configs" / "fcos").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('it must not be imported')\n")
    (folder / ".mim" / "configs" / "fcos" / "fcos.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert read(write(tmp_path, my="_base_ = 'hatdettestdet::fcos/fcos.py'\ny = 2\n")) == {"x": 1, "y": 2}
    with pytest.raises(ConfigError, match=r"hatdettestdet::fcos/no.py is neither in an installed package"):
        read(write(tmp_path, other="_base_ = 'hatdettestdet::fcos/no.py'\n"))


def test_a_base_of_a_checkout(tmp_path: Path) -> None:
    write(tmp_path, configs__fcos__fcos="x = 1\n")
    assert read(write(tmp_path, configs__mine__my="_base_ = 'mmdet::fcos/fcos.py'\n")) == {"x": 1}


def test_the_new_style(tmp_path: Path) -> None:
    base = """
from mmengine.dataset import DefaultSampler
from mmdet.datasets import CocoDataset
train_dataloader = dict(batch_size=2, sampler=dict(type=DefaultSampler, shuffle=True),
                        dataset=dict(type=CocoDataset))
other = 3
"""
    text = """
import os.path as osp
from mmengine.config import read_base
from torch.nn import SyncBatchNorm
from torch.optim import AdamW
with read_base():
    from .._base_.data import *
    from .._base_.more import wanted as kept
from mmdet.models import RetinaNet, ResNet
import mmdet.models.necks.fpn as fpn
model = dict(type=RetinaNet, backbone=dict(type=ResNet, norm_cfg=dict(type=SyncBatchNorm)), neck=dict(type=fpn.FPN))
train_dataloader.update(dict(batch_size=8))
train_dataloader.dataset.root = osp.join('a', 'b')
train_dataloader.merge(dict(sampler=dict(_delete_=True, type='Mine')))
optim_wrapper = dict(optimizer=dict(type=AdamW))
"""
    more = "wanted = 1\nnot_wanted = 2\n"
    (tmp_path / "_base_").mkdir()
    (tmp_path / "_base_" / "data.py").write_text(base)
    (tmp_path / "_base_" / "more.py").write_text(more)
    path = write(tmp_path, mine__my=text)
    values = read(path)
    assert values["model"] == {
        "type": "RetinaNet",
        "backbone": {"type": "ResNet", "norm_cfg": {"type": "SyncBN"}},
        "neck": {"type": "FPN"},
    }
    assert values["train_dataloader"] == {
        "batch_size": 8, "sampler": {"type": "Mine"}, "dataset": {"type": "CocoDataset", "root": "a/b"},
    }  # fmt: skip
    assert values["optim_wrapper"]["optimizer"]["type"] == "AdamW"
    assert values["other"] == 3 and values["kept"] == 1
    assert not {"not_wanted", "wanted", "RetinaNet", "DefaultSampler", "osp", "read_base"} & set(values)
    assert recognised(path)
    assert "mmdet" not in sys.modules and "mmengine" not in sys.modules


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("update(dict(a=dict(c=dict(e=3)), f=4))", {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": 4}),
        ("update(a=dict(b=dict(e=3)))", {"a": {"b": {"e": 3}, "c": {"d": 2}}}),
        ("update(a=7)", {"a": 7}),
        ("merge(dict(a=dict(c=dict(_delete_=True, e=3))))", {"a": {"b": 1, "c": {"e": 3}}}),
        ("merge(dict(_delete_=True, a=1))", {"a": 1}),
        ("merge(dict(a=dict(b=dict(e=3))))", {"a": {"b": {"e": 3}, "c": {"d": 2}}}),
        ("a.update(c=dict(d=5))", {"a": {"b": 1, "c": {"d": 5}}}),
        ("pop('none')", {"a": {"b": 1, "c": {"d": 2}}}),
        ("setdefault('a', 1)", {"a": {"b": 1, "c": {"d": 2}}}),
        ("setdefault('g', dict(h=1)).update(i=2)", {"a": {"b": 1, "c": {"d": 2}}, "g": {"h": 1, "i": 2}}),
    ],
)
def test_dicts_of_a_base_are_changed_in_place(tmp_path: Path, how: str, expected: Any) -> None:
    """As MMEngine's dicts are: an update reaches into dicts, and what is put in has attributes too."""
    write(tmp_path, base="x = dict(a=dict(b=1, c=dict(d=2)))\n")
    text = f"from mmengine.config import read_base\nwith read_base():\n    from .base import *\nx.{how}\n"
    assert read(write(tmp_path, my=text))["x"] == expected


def test_dicts_of_a_base_join_and_have_attributes(tmp_path: Path) -> None:
    text = (
        "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
        "y = x | dict(a=dict(c=dict(e=3)))\nx.k = dict(l=[dict(m=1)])\nx.k.l[0].m += 1\n"
    )
    write(tmp_path, base="x = dict(a=dict(b=1, c=dict(d=2)))\n")
    values = read(write(tmp_path, my=text))
    assert values["y"] == {"a": {"b": 1, "c": {"d": 2, "e": 3}}}
    assert values["x"] == {"a": {"b": 1, "c": {"d": 2}}, "k": {"l": [{"m": 2}]}}


def test_a_name_is_not_called(tmp_path: Path) -> None:
    text = "from mmdet.models import RetinaNet\nmodel = RetinaNet(depth=1)\n"
    with pytest.raises(ConfigError, match=r"my.py, line 2: TypeError: mmdet.models.RetinaNet is known by its name"):
        read(write(tmp_path, my=text))


def test_read_base_holds_imports_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 3: inside 'with read_base\(\):' only"):
        read(write(tmp_path, my="from mmengine.config import read_base\nwith read_base():\n    x = 1\n"))
    with pytest.raises(ConfigError, match=r"base.py has no 'nothing'"):
        read(write(tmp_path, base=BASE, my="with read_base():\n    from .base import nothing\n"))


def test_json_and_yaml(tmp_path: Path) -> None:
    content: dict[str, Any] = {"_base_": "./base.py", "model": {"backbone": {"depth": 18}}, "optimizer": {"lr": 0.1}}
    write(tmp_path, base=BASE)
    (tmp_path / "my.json").write_text(json.dumps(content))
    (tmp_path / "my.yaml").write_text("_base_: ./base.py\nmodel:\n  backbone:\n    depth: 18\noptimizer:\n  lr: 0.1\n")
    for name in ("my.json", "my.yaml"):
        values = read(tmp_path / name)
        assert values["model"]["backbone"] == {"type": "ResNet", "depth": 18} and values["optimizer"] == {"lr": 0.1}
        assert recognised(tmp_path / name)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match=r"bad.json: "):
        read(tmp_path / "bad.json")


def test_custom_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, hatdet_test_parts="LOADED = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert import_all(dict(imports=["hatdet_test_parts"], allow_failed_imports=False)) == []
    assert sys.modules["hatdet_test_parts"].LOADED
    assert import_all(dict(imports="mmpretrain.models")) == ["mmpretrain.models"]
    with pytest.raises(ConfigError, match=r"custom_imports: 'hatdet_test_none' cannot be imported.*PYTHONPATH"):
        import_all(dict(imports=["hatdet_test_none"]))
    assert import_all(dict(imports=["hatdet_test_none"], allow_failed_imports=True)) == ["hatdet_test_none"]


@pytest.mark.parametrize(
    ("options", "where", "expected"),
    [
        ({"model.backbone.depth": 18}, ("model", "backbone", "depth"), 18),
        ({"pipeline.1.scale": (2, 1)}, ("pipeline", 1, "scale"), (2, 1)),
        ({"model.bbox_head.num_classes": 3}, ("model", "bbox_head"), {"num_classes": 3}),
        ({"model.neck": {"num_outs": 4}}, ("model", "neck"), {"type": "FPN", "num_outs": 4}),
        ({"model.neck": {"_delete_": True, "type": "X"}}, ("model", "neck"), {"type": "X"}),
        ({"optim_wrapper.optimizer.lr": 0.1}, ("optim_wrapper", "optimizer", "lr"), 0.1),
        ({"scale": (64, 32)}, ("pipeline", 1, "scale"), (64, 32)),  # a constant: where the files use it
    ],
)
def test_options(tmp_path: Path, options: dict[str, Any], where: tuple[Any, ...], expected: Any) -> None:
    value: Any = read_with_options(write(tmp_path, my=BASE), options)
    for key in where:
        value = value[key]
    assert value == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipeline.7.scale": 1}, "option pipeline.7.scale: pipeline is a list; indices: 0 to 1"),
        ({"model.backbone.depth.x": 1}, "model.backbone.depth is 50 .int., which has nothing inside to set"),
        ({"modell.x": 1}, "option modell.x: the config has no 'modell'; did you mean 'model'"),
        ({"scale": "big"}, "scale: expected tuple, got 'big'"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_with_options(write(tmp_path, my=BASE), options)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("model = dict()\ntrain_dataloader = dict()\n", True),
        ("model = dict()\ndata = dict()\noptimizer = dict()\n", True),
        ("default_scope = 'mmdet'\n", True),
        ("model = dict()\n", False),
        ("model = dict()\noptimizer = dict()\nfloat_trainer = dict()\n", False),
        ("model = dict()\ndata = dict()\n_vocabulary_ = 'mmdetection'\n", False),
        ("model = dict(\n", False),
    ],
)
def test_recognition(tmp_path: Path, text: str, answer: bool) -> None:
    assert recognised(write(tmp_path, my=text)) is answer


def test_shipped_configs_are_not_mistaken() -> None:
    configs = Path(__file__).resolve().parents[4] / "configs"
    files = [path for path in configs.rglob("*.py") if "_int8" not in path.name]
    assert len(files) > 15
    assert [str(path) for path in files if recognised(path) and "_base_" not in path.parts] == []


def test_an_option_replaces_where_there_is_nothing_to_replace() -> None:
    values: dict[str, Any] = {"model": {"bbox_head": {"type": "FCOSHead"}}}
    apply(values, {"model.bbox_head.norm_cfg": {"_delete_": True, "type": "BN"}})
    assert values["model"]["bbox_head"]["norm_cfg"] == {"type": "BN"}
