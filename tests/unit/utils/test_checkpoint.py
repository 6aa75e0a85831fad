from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from hatdet.utils.checkpoints import checkpoint
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, load_state, save_checkpoint, snapshot
from hatdet.utils.errors import UserError


def net(out: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(a=nn.Linear(3, 4), b=nn.Linear(4, out)))


def test_round_trip_under_several_names(tmp_path: Path) -> None:
    path, best = tmp_path / "deep" / "last.pth.tar", tmp_path / "deep" / "best.pth.tar"
    save_checkpoint(path, {"state_dict": net().state_dict(), "progress": {"epoch": 3}}, [best])
    for name in (path, best):
        state = load_checkpoint(name)
        assert state["progress"] == {"epoch": 3}
        assert torch.equal(state["state_dict"]["a.weight"], net().a.weight)
    save_checkpoint(path, {"state_dict": {}, "progress": {"epoch": 4}})
    assert load_checkpoint(best)["progress"] == {"epoch": 3}  # the link kept the old content
    assert sorted(os.listdir(path.parent)) == ["best.pth.tar", "last.pth.tar"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pth.tar"
    save_checkpoint(path, {"step": 1})

    def dies(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.pth.tar"]


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "a.pth"
    save_checkpoint(path, {"x": torch.zeros(1)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # Python ignores its signal: writes fail
    try:
        with pytest.raises(UserError, match=r"a\.pth.* could not be written: "):
            save_checkpoint(path, {"x": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(path)["x"].tolist() == [0.0]
    assert os.listdir(tmp_path) == ["a.pth"]


def test_without_hard_links_it_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(checkpoint.os, "link", refuses)
    save_checkpoint(tmp_path / "last", {"step": 1}, [tmp_path / "best"])
    assert load_checkpoint(tmp_path / "best") == {"step": 1}


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "absent")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="as a checkpoint: it is not a file that torch.save wrote; name a checkpoint"):
        load_checkpoint(tmp_path / "text")
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match="the file is empty; take another checkpoint or train again$"):
        load_checkpoint(tmp_path / "empty")
    torch.save({"state_dict": {"w": torch.zeros(2000)}}, tmp_path / "cut")
    os.truncate(tmp_path / "cut", 5000)
    with pytest.raises(UserError, match="the file is damaged or cut off; [^\n]*$"):
        load_checkpoint(tmp_path / "cut")
    torch.save(torch.zeros(2), tmp_path / "tensor")
    with pytest.raises(UserError, match="holds a Tensor"):
        load_checkpoint(tmp_path / "tensor")


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"state_dict": Evil()}, tmp_path / "file", pickle_module=pickle)
    (tmp_path / "pickle").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(UserError, match=r"it holds posix\.mkdir, which [^\n]* can run code; [^\n]*$"):
        load_checkpoint(tmp_path / "file")
    with pytest.raises(UserError, match=r"it is not a file that torch\.save wrote; name a checkpoint [^\n]*$"):
        load_checkpoint(tmp_path / "pickle")
    assert not (tmp_path / "evil").exists()


def test_weights_that_are_no_dict_are_refused() -> None:
    with pytest.raises(UserError, match="the weights are a list, not a dict"):
        load_state(torch.nn.Linear(2, 2), [1])  # type: ignore[arg-type]


def test_load_state_counts_and_refuses() -> None:
    target = net(out=5)
    before = target.a.weight.clone()
    state = {f"module.{key}": value + 1 for key, value in net(out=2).state_dict().items()}
    state["module.c"] = torch.zeros(1)
    del state["module.a.bias"]
    with pytest.raises(UserError) as caught:
        load_state(target, state)
    for text in (
        "do not fit the model (1 of 4 tensors do): ",
        "b.weight is 2x4 in the file, 5x4 in the model, and 1 more in b; ",
        "the file has nothing for a.bias (1 tensor); the model has nothing for c (1 tensor); ",
        "allow_miss=True, ignore_extra=True, ignore_tensor_shape=True",
    ):
        assert text in str(caught.value)
    assert torch.equal(target.a.weight, before)  # all or nothing
    report = load_state(target, state, allow_miss=True, ignore_extra=True, ignore_tensor_shape=True)
    assert report.matched == ("a.weight",)
    assert torch.equal(target.a.weight, before + 1)


def test_buffers_that_resize_on_loading_are_no_mismatch() -> None:
    class Observer(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.register_buffer("low", torch.zeros(size))

        def _load_from_state_dict(self, state: dict[str, torch.Tensor], prefix: str, *rest: object) -> None:
            self.low = state[prefix + "low"].clone()

    target = nn.Sequential(Observer(0))
    assert load_state(target, nn.Sequential(Observer(3)).state_dict()).matched == ("0.low",)
    assert target[0].low.shape == (3,)


def test_module_versions_travel() -> None:
    seen = []

    class Versioned(nn.Module):
        _version = 3

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("x", torch.zeros(1))

        def _load_from_state_dict(self, state: object, prefix: str, metadata: dict[str, int], *rest: object) -> None:
            seen.append(metadata.get("version"))

    load_state(nn.Sequential(Versioned()), nn.Sequential(Versioned()).state_dict())
    assert seen == [3]


def test_snapshot_is_a_copy_and_keeps_sharing(tmp_path: Path) -> None:
    model = net()
    model.c = model.a
    state = snapshot(model)
    with torch.no_grad():
        model.a.weight.zero_()
    assert state["a.weight"].abs().sum() > 0
    assert state["a.weight"] is state["c.weight"]
    save_checkpoint(tmp_path / "file", {"state_dict": state})
    load_checkpoint(tmp_path / "file")  # an OrderedDict with metadata is readable with weights_only
