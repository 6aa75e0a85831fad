"""Checkpoints and archives: limits, order and words, each by hand."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hatdet.utils.checkpoints import archive, checkpoint
from hatdet.utils.checkpoints.archive import damage, is_archive, newer_unrecorded, newest_whole, read_without_tensors
from hatdet.utils.checkpoints.checkpoint import LoadReport, load_checkpoint, load_state, save_checkpoint, snapshot
from hatdet.utils.checkpoints.foreign_checkpoint import (
    Opaque,
    converted,
    exp_on_reg_of,
    layout_of,
    to_hatdet,
    to_mmdet,
    weights_of,
)
from hatdet.utils.errors import UserError


# ------------------------------------------------------------------------------------------- archives
def zipped(*members: tuple[str, bytes], kind: int = zipfile.ZIP_STORED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as out:
        for name, data in members:
            out.writestr(name, data)
    return file


def test_what_an_archive_is() -> None:
    file = zipped(("a/data.pkl", b"x"))
    file.seek(7)
    assert is_archive(file) and damage(file) is None and file.tell() == 0
    assert is_archive(io.BytesIO(b"PK\x03\x04 cut off here"))
    assert not is_archive(io.BytesIO(b"PK\x03")) and not is_archive(io.BytesIO(b""))
    before = io.BytesIO(b"something before it" + file.getvalue())
    assert is_archive(before) and damage(before) == "its beginning is not that of an archive"
    assert damage(zipped(("data.pkl", b"x"))) == "its beginning is not that of an archive"  # in no folder
    assert damage(zipped(("a/other", b"x")), must_have="other") is None


def test_members_that_are_unlike_the_others_are_damage() -> None:
    def info(name: str, size: int = 5, flags: int = 8, **more: int) -> zipfile.ZipInfo:
        member = zipfile.ZipInfo(name)
        member.file_size = member.compress_size = size
        member.flag_bits = flags
        for key, value in more.items():
            setattr(member, key, value)
        return member

    def odd(*members: zipfile.ZipInfo) -> list[str]:
        return list(archive._inconsistent(list(members)))

    assert odd() == [] and odd(info("a"), info("b"), info("c", size=0, flags=0)) == []
    assert odd(info("a"), info("b"), info("c", flags=0)) == ["c"]
    assert odd(info("a"), info("b"), info("c", size=0, flags=1)) == ["c"]
    assert odd(info("a"), info("b"), info("c", external_attr=1)) == ["c"]
    assert odd(info("a"), info("b"), info("c", volume=1)) == ["c"]
    assert odd(info("a"), info("b", compress_size=4)) == ["b"]
    assert odd(info("a"), info("b", compress_size=4, compress_type=zipfile.ZIP_DEFLATED)) == []


def test_only_files_of_the_same_stage_are_offered(tmp_path: Path) -> None:
    state = {"state_dict": {"w": torch.ones(2)}}
    names = ["qat-checkpoint-a", "qat-checkpoint-b", "qat-checkpoint-c", "float-checkpoint-a"]
    for age, name in enumerate(names):
        save_checkpoint(tmp_path / name, state)
        os.utime(tmp_path / name, (100 + age, 100 + age))
    (tmp_path / "qat-checkpoint-folder").mkdir()
    (tmp_path / "qat-checkpoint-text").write_text("no archive")
    assert newest_whole(tmp_path / "qat-checkpoint-c") == tmp_path / "qat-checkpoint-b"
    assert newest_whole(tmp_path / "qat-checkpoint-gone") == tmp_path / "qat-checkpoint-c"
    assert newest_whole(tmp_path / "float-checkpoint-a") is None and newest_whole(tmp_path / "weights.pth") is None


def test_a_file_of_two_seconds_ago_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reads = tmp_path / "a.pth.tar", []
    save_checkpoint(path, {"run": 1})
    monkeypatch.setattr(archive, "_read", lambda name: reads.append(name) or {})
    written = path.stat().st_mtime
    for now, count in (
        (written + 1.9, 1),
        (written + 1.9, 2),
        (written + 2.0, 3),
        (written + 2.0, 3),
        (written + 9, 3),
    ):
        monkeypatch.setattr(archive.time, "time", lambda now=now: now)
        read_without_tensors(path)
        assert len(reads) == count
    monkeypatch.setattr(archive.time, "time", lambda: written - 5)  # from a clock that is ahead
    read_without_tensors(path)
    assert len(reads) == 3
    assert read_without_tensors(tmp_path / "nowhere") is None


def test_tensors_are_left_out_at_every_depth(tmp_path: Path) -> None:
    one = torch.ones(1)
    state = {"a": {"w": one, "n": 1}, "b": [one, 2, [one, 3]], "c": (one, (4, one)), "d": one, "e": "text", "f": None}
    save_checkpoint(tmp_path / "x", state)
    assert read_without_tensors(tmp_path / "x") == {"a": {"n": 1}, "b": [2, [3]], "c": ((4,),), "e": "text", "f": None}
    torch.save([1, 2], tmp_path / "list")
    assert read_without_tensors(tmp_path / "list") is None


def test_which_files_are_newer(tmp_path: Path) -> None:
    """By their times; where this one records its run, only others that do not record theirs."""
    for name, state, age in (("old", {"run": {}}, 1), ("own", {"run": {}}, 5), ("same", {}, 5), ("plain", {}, 6),
                             ("told", {"run": {}}, 7), ("bare", {}, 5)):  # fmt: skip
        save_checkpoint(tmp_path / name, state)
        os.utime(tmp_path / name, (age, age))
    others = [str(tmp_path / name) for name in ("old", "same", "plain", "told", "gone")]
    assert newer_unrecorded(str(tmp_path / "own"), others) == [str(tmp_path / "plain")]
    assert newer_unrecorded(str(tmp_path / "bare"), others) == [str(tmp_path / "plain"), str(tmp_path / "told")]
    assert newer_unrecorded(str(tmp_path / "told"), others) == []


# ---------------------------------------------------------------------------------------- load and save
def test_a_report_names_eight_of_each_kind() -> None:
    def names(count: int, start: str) -> tuple[str, ...]:
        return tuple(f"{start}{i}" for i in range(count))

    report = LoadReport(names(2, "m"), names(8, "a"), names(9, "e"), ())
    assert str(report) == "2 tensors, 8 missing, 9 extra"
    assert str(LoadReport(names(2, "m"), (), (), ("a: (1,) in the file",))) == "2 tensors, 1 of another shape"
    assert str(LoadReport(names(2, "m"), (), (), ())) == "all 2 tensors"
    eight = ", ".join(names(8, "a")), ", ".join(names(8, "e"))
    assert report.details() == f"missing: {eight[0]}\nextra: {eight[1]}, ... (1 more)"
    assert report.details(2) == "missing: a0, a1, ... (6 more)\nextra: e0, e1, ... (7 more)"


def test_each_permission_is_asked_for_alone() -> None:
    model = nn.Linear(2, 2)
    weight, bias = torch.ones(2, 2), torch.ones(2)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"weight": weight}, "allow_miss"), ({"weight": weight, "bias": bias, "more": bias}, "ignore_extra"),
        ({"weight": weight, "bias": torch.ones(3)}, "ignore_tensor_shape"),
    ]  # fmt: skip
    for state, flag in cases:
        with pytest.raises(UserError, match=f"or load what fits with {flag}=True$"):
            load_state(model, state)
        assert "weight" in load_state(model, state, **{flag: True}).matched  # type: ignore[arg-type]
    assert load_state(model, {"module.weight": weight * 3, "module.bias": bias}).matched == ("weight", "bias")
    assert model.weight.tolist() == [[3, 3], [3, 3]]
    with pytest.raises(UserError, match="nothing for weight .* nothing for module.weight"):  # not a wrapped model
        load_state(model, {"module.weight": weight, "other.bias": bias})


def test_numbers_that_cannot_be_weights_are_refused() -> None:
    model = nn.BatchNorm1d(2)
    state = model.state_dict()
    for value, ok in ((0.0, True), (-1e-6, False)):
        changed = {**state, "running_var": torch.tensor([1.0, value])}
        if ok:
            load_state(model, changed)
            continue
        with pytest.raises(UserError, match=r"x: running_var has a variance of -1e-06, below 0; take an earlier"):
            load_state(model, changed, source="x")
    with pytest.raises(UserError, match="the weights in x are not finite: weight: 1 of 2 values are NaN"):
        load_state(model, {**state, "weight": torch.tensor([1.0, float("nan")])}, source="x")


def test_a_snapshot_shares_what_the_model_shares() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    state = snapshot(model)
    assert state["0.weight"] is state["1.weight"] and state["0.bias"] is not state["1.bias"]
    assert state["0.weight"].device.type == "cpu" and not state["0.weight"].requires_grad


def test_the_new_file_is_visible_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[str] = []
    replace = os.replace
    monkeypatch.setattr(checkpoint.os, "replace", lambda a, b: replaced.append(Path(b).name) or replace(a, b))
    save_checkpoint(tmp_path / "last", {"n": 1}, [tmp_path / "deep" / "best", tmp_path / "epoch"])
    assert replaced == ["best", "epoch", "last"] and load_checkpoint(tmp_path / "deep" / "best") == {"n": 1}
    assert sorted(os.listdir(tmp_path)) == ["deep", "epoch", "last"]
    assert (tmp_path / "last").stat().st_nlink == 3


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, calls = os.fsync, []

    def refuse_second(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(checkpoint.os, "fsync", refuse_second)
    save_checkpoint(tmp_path / "last", {"n": 1})
    assert len(calls) == 2 and load_checkpoint(tmp_path / "last") == {"n": 1}


# -------------------------------------------------------------------------------------- foreign layouts
def test_names_of_mmyolo_by_hand() -> None:
    pairs = {
        "bbox_head.head_module.rtm_cls.0.weight": "bbox_head.rtm_cls.0.weight",
        "neck.reduce_layers.2.conv.weight": "neck.reduce_layers.0.conv.weight",
        "neck.top_down_layers.0.0.main_conv.conv.weight": "neck.top_down_blocks.0.main_conv.conv.weight",
        "neck.top_down_layers.0.1.conv.weight": "neck.reduce_layers.1.conv.weight",
        "neck.top_down_layers.1.main_conv.conv.weight": "neck.top_down_blocks.1.main_conv.conv.weight",
        "neck.downsample_layers.0.conv.weight": "neck.downsamples.0.conv.weight",
        "neck.bottom_up_layers.1.conv.weight": "neck.bottom_up_blocks.1.conv.weight",
        "neck.out_layers.2.conv.weight": "neck.out_convs.2.conv.weight",
        "backbone.stem.0.conv.weight": "backbone.stem.0.conv.weight",
    }
    weights = {name: torch.tensor(float(i)) for i, name in enumerate(pairs)} | {"data_preprocessor.mean": torch.ones(3)}
    renamed = to_hatdet(weights, "mmyolo")
    assert list(renamed) == list(pairs.values()) and [int(v) for v in renamed.values()] == list(range(9))
    assert list(to_hatdet(weights, "mmdet")) == list(pairs)
    with pytest.raises(UserError, match="unknown layout 'mmdte'; did you mean 'mmdet'"):
        to_hatdet(weights, "mmdte")
    assert layout_of({"state_dict": weights}) == "mmyolo" and layout_of(weights) == "mmyolo"
    assert (
        layout_of({"state_dict": {"data_preprocessor.mean": 0}}) == layout_of({"state_dict": {}, "meta": {}}) == "mmdet"
    )
    assert layout_of({"state_dict": {"a": 0}, "meta": None}) == layout_of({"a": 0}) == "hatdet"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("bbox_head=dict(exp_on_reg=True)", True), ("bbox_head=dict('exp_on_reg': True)", True),
     ("bbox_head=dict()", False), ("bbox_head=dict(exp_on_reg=False)", False), ("nothing of a head", None),
     (None, None)],
)  # fmt: skip
def test_exp_on_reg_as_the_file_says(text: str | None, expected: bool | None) -> None:
    for key in ("cfg", "config"):
        assert exp_on_reg_of({"meta": {key: text}}, "mmdet") is expected
    assert exp_on_reg_of({"meta": {"cfg": text}}, "mmyolo") is False
    assert exp_on_reg_of({"meta": {"cfg": text}, "metadata": {"exp_on_reg": True}}, "mmdet") is True
    assert exp_on_reg_of({"metadata": {"exp_on_reg": False}}, "hatdet") is False
    assert exp_on_reg_of({"metadata": {"exp_on_reg": 1}}, "hatdet") is None and exp_on_reg_of({}, "mmdet") is None


def test_what_a_converted_file_says_of_itself() -> None:
    weights = {"a": torch.ones(1)}
    for info in ({"dataset_meta": {"classes": ["x"]}}, {"dataset_meta": {"CLASSES": ("x",)}}, {"CLASSES": ["x"]}):
        assert converted({"state_dict": weights, "meta": info}, "mmdet")["metadata"] == {
            "source": "mmdet",
            "classes": ["x"],
        }
    for info in ({}, {"dataset_meta": None}, {"CLASSES": [1, 2]}, {"CLASSES": "text"}):
        assert converted({"state_dict": weights, "meta": info}, "mmdet")["metadata"] == {"source": "mmdet"}
    assert converted({"state_dict": weights}, "mmyolo")["metadata"] == {"source": "mmyolo", "exp_on_reg": False}
    back = to_mmdet({"state_dict": weights, "metadata": {"classes": ("x",), "exp_on_reg": True}})
    assert back["meta"] == {"dataset_meta": {"classes": ["x"]}, "hatdet_exp_on_reg": True}
    assert to_mmdet({"state_dict": weights, "metadata": None})["meta"] == {"dataset_meta": {"classes": []}}
    with pytest.raises(UserError, match="these are quantized weights"):
        to_mmdet({"state_dict": {"x.activation_post_process.scale": torch.ones(1)}})


def test_which_weights() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    engine = {"state_dict": {"x": a, "y": a, "n": 3}, "ema_state_dict": {"steps": b, "module.x": b}}
    assert list(weights_of(engine)) == ["x", "y"] and weights_of(engine)["x"] is a
    assert (
        weights_of(engine, "raw")["x"] is b and weights_of(engine, "raw")["y"] is a
    )  # what is not averaged is the same
    with pytest.raises(UserError, match="weights='best': write 'ema' or 'raw'"):
        weights_of(engine, "best")


def test_a_shell_takes_anything_and_keeps_nothing() -> None:
    shell = Opaque(1, 2, three=4)
    shell["a"] = 5
    shell.__setstate__({"b": 6})
    assert dict(shell) == {}
