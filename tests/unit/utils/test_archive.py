"""One flipped bit is refused or harmless, wherever it is: never other weights."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from hatdet.utils.checkpoints.archive import damage, is_archive, newest_whole, read_without_tensors
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError

STATE = {"state_dict": {"w": torch.arange(40.0), "b": torch.ones(3, dtype=torch.int8)}, "run": {"imgsz": (64, 64)}}


def flipped(data: bytes, offset: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 1 << bit
    return bytes(changed)


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return a == b


def test_no_flipped_bit_gives_other_weights() -> None:
    """A bit of every byte, every bit of the directory at the end: refused, or the very same content."""
    written = io.BytesIO()
    torch.save(STATE, written)
    data = written.getvalue()
    directory = data.index(b"PK\x01\x02")
    places = [(offset, offset * 5 % 8) for offset in range(directory)]
    places += [(offset, bit) for offset in range(directory, len(data)) for bit in range(8)]
    refused = 0
    for offset, bit in places:
        file = io.BytesIO(flipped(data, offset, bit))
        if is_archive(file) and damage(file) is not None:
            refused += 1
            continue
        file.seek(0)
        try:
            state = torch.load(file, weights_only=True)
        except Exception:  # load_checkpoint makes one line of it
            refused += 1
            continue
        assert equal(state, STATE), f"bit {bit} of byte {offset} of {len(data)} gave other values"
    assert refused > 1000  # the others are padding, dates and the like


def test_every_bit_of_a_weight_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth.tar"
    save_checkpoint(path, STATE)
    assert equal(load_checkpoint(path), STATE)
    data = path.read_bytes()
    start = data.index(STATE["state_dict"]["w"].numpy().tobytes())  # type: ignore[attr-defined]
    for bit in range(8):
        path.write_bytes(flipped(data, start + 7, bit))
        with pytest.raises(UserError, match=r"\(data/0 does not have its checksum\): the file is damaged or cut off"):
            load_checkpoint(path)


def test_the_newest_whole_file_of_the_stage_is_offered(tmp_path: Path) -> None:
    names = [f"float-checkpoint-{what}.pth.tar" for what in ("epoch-0001", "epoch-0002", "last")]
    for name in names:
        save_checkpoint(tmp_path / name, STATE)
    save_checkpoint(tmp_path / "qat-checkpoint-best.pth.tar", STATE)  # another stage's, though it is newer
    for name in names[1:]:  # the last epoch's numbered file is the same content under another name
        data = bytearray((tmp_path / name).read_bytes())
        data[len(data) // 2] ^= 4
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(bytes(data))
    last, first = tmp_path / names[2], tmp_path / names[0]
    assert newest_whole(last) == first
    with pytest.raises(UserError) as raised:
        load_checkpoint(last)
    assert f"the newest whole one beside it is {first}: name that, or `cp {first} {last}`" in str(raised.value)
    shutil.copy(first, last)
    assert equal(load_checkpoint(last), STATE)


def test_a_damaged_integer_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "int_infer-graph.pth.tar"
    save_checkpoint(path, {"int_graph": {"weights": torch.ones(64, dtype=torch.int8)}})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\1" * 64, b"\1" * 63 + b"\3"))
    with pytest.raises(UserError, match="int_infer-graph.pth.tar cannot be read .*take another checkpoint"):
        load_checkpoint(path)


def test_tensors_without_elements_are_no_damage(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pth.tar", {"state_dict": {"none": torch.zeros(0), "one": torch.ones(1)}})
    found = load_checkpoint(tmp_path / "x.pth.tar")["state_dict"]
    assert found["none"].shape == (0,) and found["one"].tolist() == [1.0]


def test_files_of_torchs_older_format_are_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert equal(load_checkpoint(tmp_path / "old.pth"), STATE)
    assert read_without_tensors(tmp_path / "old.pth") is None


def test_what_is_not_weights_is_read_without_them(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pth.tar", STATE)
    state = read_without_tensors(tmp_path / "a.pth.tar")
    assert state is not None and state["run"] == {"imgsz": (64, 64)}
    with zipfile.ZipFile(tmp_path / "no_torch.zip", "w") as archive:
        archive.writestr("a/readme", "nothing of torch's")
    with (tmp_path / "no_torch.zip").open("rb") as file:
        assert damage(file) == "its beginning is not that of an archive"


def test_what_is_besides_the_tensors_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reads = tmp_path / "a.pth.tar", []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: reads.append(1) or load(*args, **kwargs))
    for number in (1, 2):  # as long as a file is young it may be written again without another time
        save_checkpoint(path, {"state_dict": {"w": torch.ones(number)}, "rng": [torch.ones(1), 5], "run": number})
        assert read_without_tensors(path) == {"state_dict": {}, "rng": [5], "run": number}
    assert len(reads) == 2
    os.utime(path, (0, 0))
    for _ in range(3):
        assert read_without_tensors(path) == {"state_dict": {}, "rng": [5], "run": 2}
    assert len(reads) == 3
    os.utime(path, (0, 5))  # another file by its time
    assert read_without_tensors(path) is not None and len(reads) == 4
