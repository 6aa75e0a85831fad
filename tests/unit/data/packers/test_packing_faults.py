"""A packer that is killed, waits, or runs out of disk: nothing hangs, nothing is left, one line says what happened."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lmdb
import pytest

from hatdet.commands.table import COMMANDS
from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.store import writer
from hatdet.data.packers.store.lmdb_format import Store
from hatdet.data.packers.store.writer import Writer, size_text
from hatdet.utils.errors import UserError

ROOT = Path(__file__).parents[4]
PACK = """
import os, sys, time
import hatdet.data.packers.mscoco as m
original = m.pack_image
def slow(task):
    os.write(1, b"%d at %d\\n" % (os.getpid(), task.position))
    time.sleep(float(sys.argv[3]))
    return original(task)
m.pack_image = slow
root, workers = sys.argv[1], int(sys.argv[2])
m.pack_coco(root + "/annotations/instances_train.json", root + "/train", root + "/out/train_lmdb", num_workers=workers,
            quiet=True, force=True)
"""


def start(root: Path, workers: int, seconds: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PACK, str(root), str(workers), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def pack(root: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    file = root / "annotations" / "instances_train.json"
    settings: dict[str, Any] = {"num_workers": 0, "quiet": True, "log": lines.append, **options}
    return pack_coco(file, root / "train", root / "out" / "train_lmdb", **settings), lines


def many(root: Path) -> None:
    """300 entries: worker processes start from 256."""
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["images"] = [{**content["images"][i % 9], "id": i} for i in range(300)]
    content["annotations"] = [{**content["annotations"][0], "image_id": i, "id": i} for i in range(300)]
    file.write_text(json.dumps(content))


SPAWNED = """
import multiprocessing, sys
from pathlib import Path
from hatdet.data.packers.workers import in_processes

def work(number):
    import os, time
    Path(sys.argv[2], str(os.getpid())).touch()
    time.sleep(0.02)
    return number * number

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    assert list(in_processes(work, range(20), 2)) == [n * n for n in range(20)]
    print("done", flush=True)
    list(in_processes(work, range(100_000), 2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_were_not_forked_end_with_a_killed_packer_too(tmp_path: Path, method: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SPAWNED)
    (tmp_path / "pids").mkdir()
    command = [sys.executable, str(script), method, str(tmp_path / "pids")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None and process.stdout.readline() == "done\n"
    first = set(os.listdir(tmp_path / "pids"))
    deadline = time.monotonic() + 30
    while not (workers := set(os.listdir(tmp_path / "pids")) - first) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 5
    while any(alive(int(pid)) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(int(pid)) for pid in workers)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_and_lock_end_with_a_killed_packer(coco_root: Path) -> None:
    many(coco_root)
    process = start(coco_root, 2, 0.2)
    assert process.stdout is not None
    workers = {int(process.stdout.readline().split()[0]) for _ in range(6)}
    assert workers and process.pid not in workers
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 5
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, workers))
    begin = time.monotonic()
    header, lines = pack(coco_root)
    assert header["num_images"] == 300 and time.monotonic() - begin < 5
    assert not any(line.startswith("waiting") for line in lines)
    assert [p.name for p in (coco_root / "out").iterdir()] == ["train_lmdb"]


def test_a_second_packer_says_for_whom_it_waits(coco_root: Path) -> None:
    process = start(coco_root, 0, 0.2)
    assert process.stdout is not None and process.stdout.readline()
    _, lines = pack(coco_root)
    process.communicate()
    assert lines[0].startswith(f"waiting for the packed data {coco_root}/out/train_lmdb: process {process.pid} on ")
    assert "is complete and up to date" in lines[1]


def test_what_a_killed_force_left_is_removed_at_the_next_start(coco_root: Path) -> None:
    pack(coco_root)
    process = start(coco_root, 0, 0.2)
    assert process.stdout is not None and process.stdout.readline()
    process.kill()
    process.wait()
    out = coco_root / "out"
    assert [p.name for p in out.iterdir() if ".packing" in p.name]
    _, lines = pack(coco_root)  # without --force: the pack from before is whole
    assert "is complete and up to date" in lines[0]
    assert [p.name for p in out.iterdir()] == ["train_lmdb"]


def test_a_data_set_that_is_used_from_its_cache_clears_up_too(coco_root: Path) -> None:
    settings: dict[str, Any] = {"ann_file": "annotations/instances_train.json", "img_prefix": "train", "transforms": []}
    path = CocoDataset(data_root=coco_root, **settings).data_path
    (path.parent / f".{path.name}.packing-1").mkdir()
    CocoDataset(data_root=coco_root, **settings)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_killed_between_the_two_renames_the_old_pack_comes_back(coco_root: Path) -> None:
    pack(coco_root)
    out = coco_root / "out"
    (out / "train_lmdb").rename(out / ".train_lmdb.old-1")
    (out / ".train_lmdb.packing-1").mkdir()
    _, lines = pack(coco_root)
    assert "is complete and up to date" in lines[0]
    assert [p.name for p in out.iterdir()] == ["train_lmdb"]


# -------------------------------------------------------------------------------------------- disk
def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(error: Exception) -> Any:
    def raising(*arguments: object, **settings: object) -> Any:
        raise error

    return raising


@pytest.mark.parametrize(
    ("part", "name", "error"),
    [
        (lmdb, "open", lmdb.DiskError("data.mdb: No space left on device")),
        (Writer, "_flush", lmdb.Error("mdb_txn_commit: No space left on device")),
        (Writer, "_flush", lmdb.MapFullError("MDB_MAP_FULL: Environment mapsize limit reached")),
        (writer, "write_table", full()),
        (os, "rename", full()),
        (os, "fsync", OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))),
    ],
    ids=["open", "commit", "map", "table", "rename", "quota"],
)
def test_a_full_disk_is_called_a_full_disk(
    coco_root: Path, monkeypatch: pytest.MonkeyPatch, part: Any, name: str, error: Exception
) -> None:
    monkeypatch.setattr(part, name, refuse(error))
    with pytest.raises(UserError) as caught:
        pack(coco_root)
    text = str(caught.value)
    assert text.startswith(f"cannot write the packed data: the disk of {coco_root}/out ")
    assert ("has no quota left (" in text) if name == "fsync" else (" is full (" in text)
    assert " are free now; make room, or use another disk" in text and "\n" not in text
    monkeypatch.undo()
    assert not list((coco_root / "out").iterdir())


def test_other_troubles_of_the_disk_keep_their_name(coco_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "write_table", refuse(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(UserError, match=r"cannot write the packed data: .*/out: Input/output error"):
        pack(coco_root)


def test_the_space_is_estimated_before_anything_is_written(coco_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(coco_root)
    used = (coco_root / "out" / "train_lmdb" / "data.mdb").stat().st_size
    usage = shutil.disk_usage(coco_root)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"packing needs about .* kB, the disk of .*/out has 0 bytes free; make room"):
        pack(coco_root, force=True)
    assert Store(coco_root / "out" / "train_lmdb")  # the old pack is as it was
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * used))
    pack(coco_root, force=True)  # the estimate is not above twice what it takes
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=used // 2))
    with pytest.raises(UserError, match="packing needs about"):  # nor below half
        pack(coco_root, force=True)


def test_sizes_for_people() -> None:
    assert [size_text(n) for n in (0, 999, 1500, 2_000_000, 18_200_000_000)] == [
        "0 bytes", "999 bytes", "1.5 kB", "2.0 MB", "18.2 GB",
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs a superuser")
def test_a_disk_that_is_really_full(coco_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = coco_root / "out"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=56k", "tmpfs", str(out)], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount")
    try:
        with pytest.raises(UserError, match=r"packing needs about .*, the disk of .*/out has 5\d\.\d kB free"):
            pack(coco_root)
        monkeypatch.setattr("hatdet.data.packers.mscoco._check_space", lambda *arguments: None)
        with pytest.raises(UserError, match=r"the disk of .*/out is full \(.*(No space left|Input/output error)"):
            pack(coco_root)
        assert not list(out.iterdir())
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_a_path_that_is_no_text_is_packed_and_printed(coco_root: Path) -> None:
    """A folder from a Latin-1 system: its name has a byte that is no UTF-8."""
    root = Path(os.fsdecode(os.fsencode(coco_root.parent) + b"/caf\xe9"))
    coco_root.rename(root)
    tool = [sys.executable, str(ROOT / "tools" / "mscoco_packer.py"), "--src-data-dir", root, "--target-data-dir", root]
    done = subprocess.run([*tool, "--split-name", "train"], capture_output=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    assert b"caf\\udce9/train_lmdb: 9 images" in done.stdout
    assert len(Store(root / "train_lmdb").index.ids) == 9


@pytest.mark.parametrize(("number", "text"), [(errno.ENOSPC, "No space left"), (errno.EPIPE, "Broken pipe")])
def test_an_output_that_cannot_be_written_is_no_full_disk(coco_root: Path, number: int, text: str) -> None:
    """The data is packed all the same; what the terminal or the log file refuses is not blamed on the target's disk."""

    def log(line: str) -> None:
        raise OSError(number, os.strerror(number))

    target = coco_root / "out" / "train_lmdb"
    with pytest.raises(OSError, match=text) as error:
        pack_coco(coco_root / "annotations" / "instances_train.json", coco_root / "train", target, quiet=True, log=log)
    assert not isinstance(error.value, UserError)
    assert Store(target).header["num_images"] == 9
    assert sorted(path.name for path in target.parent.iterdir()) == ["train_lmdb"]


@pytest.mark.parametrize("tool", ["mscoco_packer", "image_folder_packer", "clean_cache"])
def test_the_commands_import_nothing_large_before_ctrl_c_is_answered(tool: str) -> None:
    """Seconds go by while numpy is imported: an interruption then is one line, as later."""
    large = "{'numpy', 'torch', 'cv2'}"
    code = f"import sys, {COMMANDS[tool].module}; print({large} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "set()\n"
