"""Packing: what is kept, what is atomic, what is recognised."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest

from hatdet.commands.mscoco_packer import main
from hatdet.data.packers.freshness import PackOptions
from hatdet.data.packers.layouts import find_source
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.store.lmdb_format import Store
from hatdet.utils.errors import UserError

ROOT = Path(__file__).parents[4]


def pack(root: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    header = pack_coco(
        root / "annotations" / "instances_train.json",
        root / "train",
        root / "out" / "train_lmdb",
        log=lines.append,
        quiet=True,
        **{"num_workers": 0, **options},
    )
    return header, lines


def edit(root: Path, change: Any) -> None:
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_original_bytes_and_annotations_come_back(coco_root: Path) -> None:
    header, lines = pack(coco_root)
    assert (header["num_images"], header["num_boxes"], header["num_crowds"]) == (9, 16, 1)
    assert header["classes"] == [[3, "bar", "shape"], [7, "dot", "shape"], [90, "box", "shape"]]
    assert lines == [
        f"packed {coco_root}/out/train_lmdb: 9 images, 16 boxes, 1 crowds, 3 classes (bar, dot, box)"
    ]
    store = Store(coco_root / "out" / "train_lmdb")
    assert store.image_bytes(4) == (coco_root / "train" / "04.png").read_bytes()
    assert store.index.ids.tolist() == list(range(100, 109))
    assert store.index.sizes[1].tolist() == [60, 41]
    assert store.index.num_boxes.tolist() == [2, 2, 2, 0, 2, 2, 2, 2, 2]
    record = store.boxes(0)
    assert record.labels.tolist() == [1, 2, 0]
    assert record.iscrowd.tolist() == [False, False, True]
    assert record.bbox[1].tolist() == [40.5, 27.75, 12.5, 9.25]  # as in the json
    assert record.boxes[1].tolist() == [40.5, 27.75, 53.0, 37.0]  # corners
    assert len(store.boxes(3).labels) == 0


def test_complete_and_unchanged_is_not_packed_again(coco_root: Path) -> None:
    first, _ = pack(coco_root)
    data = coco_root / "out" / "train_lmdb" / "data.mdb"
    inode = data.stat().st_ino
    header, lines = pack(coco_root)
    assert "is complete and up to date" in lines[0] and data.stat().st_ino == inode
    assert header["fingerprint"] == first["fingerprint"]
    again, _ = pack(coco_root, force=True)
    assert data.stat().st_ino != inode
    assert again["fingerprint"] == first["fingerprint"]


def test_a_change_of_json_image_or_options_is_noticed(coco_root: Path) -> None:
    prints = [pack(coco_root)[0]["fingerprint"]]
    edit(coco_root, lambda content: content["annotations"].pop())
    prints.append(pack(coco_root)[0]["fingerprint"])
    cv2.imwrite(str(coco_root / "train" / "02.png"), np.zeros((33, 33, 3), np.uint8))
    prints.append(pack(coco_root)[0]["fingerprint"])
    prints.append(pack(coco_root, options=PackOptions(max_side=20))[0]["fingerprint"])
    assert len(set(prints)) == 4


def test_an_image_that_appears_later_is_noticed(coco_root: Path) -> None:
    image = coco_root / "train" / "02.png"
    data = image.read_bytes()
    image.unlink()
    header, lines = pack(coco_root)
    assert header["num_images"] == 8
    assert any("train/02.png: does not exist" in line for line in lines)
    image.write_bytes(data)
    assert pack(coco_root)[0]["num_images"] == 9


def test_max_side_shrinks_image_and_boxes_and_leaves_what_an_evaluation_counts_in(coco_root: Path) -> None:
    header, _ = pack(coco_root, options=PackOptions(max_side=45))
    sides = [max(size) for size in Store(coco_root / "out" / "train_lmdb").index.column("full").tolist()]
    assert header["max_side"] == 45 and header["shrunk_images"] == sum(side > 45 for side in sides) == 7
    store = Store(coco_root / "out" / "train_lmdb")
    assert store.header["max_side"] == 45 and store.header["rules"] == 3
    assert store.picture(4) == (104, "04.png", (10, 45), (21, 90))  # halved; Python rounds 10.5 to 10
    assert store.boxes(4).bbox[0].tolist() == [2, 3, 10, 12] and store.boxes(4).area[0] == 120
    corners = np.array([[2 * 45 / 90, 3 * 10 / 21, 12 * 45 / 90, 15 * 10 / 21]]).astype(np.float32)
    assert np.array_equal(store.boxes(4).boxes[:1], corners)
    assert store.index.sizes[8].tolist() == [29, 31]
    assert store.image_bytes(8) == (coco_root / "train" / "08.png").read_bytes()


def test_workers_give_the_same_file(coco_root: Path) -> None:
    def many(content: dict[str, Any]) -> None:  # worker processes start from 256 images
        first = content["images"]
        content["images"] = [{**first[i % 9], "id": i} for i in range(300)]
        content["annotations"] = [{**content["annotations"][0], "image_id": i, "id": i} for i in range(300)]

    edit(coco_root, many)
    edit(coco_root, lambda c: [image.pop(side) for image in c["images"] for side in ("width", "height")])
    prints, sizes = set(), set()
    for workers in (0, 2):
        header, _ = pack(coco_root, num_workers=workers, force=True)
        prints.add(header["fingerprint"])
        sizes.add(Store(coco_root / "out" / "train_lmdb").index.sizes.tobytes())
    assert len(prints) == len(sizes) == 1


def test_string_image_ids_are_numbered_and_kept(coco_root: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["id"] = f"img-{image['id']}"
        for annotation in content["annotations"]:
            annotation["image_id"] = f"img-{annotation['image_id']}"

    edit(coco_root, rename)
    header, _ = pack(coco_root)
    assert header["source_ids"][:2] == ["img-100", "img-101"]
    assert Store(coco_root / "out" / "train_lmdb").index.ids.tolist() == list(range(1, 10))


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with SIGINT ignored
sys.path.insert(0, sys.argv[1])
import hatdet.data.packers.mscoco as m
original = m.pack_image
def slow(task):
    print("at", task.position, flush=True)
    time.sleep(0.2)
    return original(task)
m.pack_image = slow
m.pack_coco(sys.argv[2] + "/annotations/instances_train.json", sys.argv[2] + "/train",
            sys.argv[2] + "/out/train_lmdb", num_workers=0, quiet=True)
"""


def test_ids_beyond_float64_are_numbered(coco_root: Path) -> None:
    """2^53 + 1 and 2^53 are one number in an evaluator's table."""
    file = coco_root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for entry in content["images"]:
        entry["id"] += 2**53
    for entry in content["annotations"]:
        entry["image_id"] += 2**53
    file.write_text(json.dumps(content))
    header = pack_coco(file, coco_root / "train", coco_root / "t", num_workers=0, quiet=True, log=lambda line: None)
    assert header["source_ids"][0] == str(2**53 + 100) and len(set(header["source_ids"])) == len(content["images"])
    assert any("numbered from 1" in line for line in header["warnings"])


def test_a_disk_without_space_is_told(coco_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **settings: object) -> None:
        raise lmdb.DiskError("No space left on device")

    monkeypatch.setattr(lmdb, "open", full)
    with pytest.raises(UserError, match="cannot write the packed data: .*No space left"):
        pack_coco(coco_root / "annotations" / "instances_train.json", coco_root / "train", coco_root / "t", quiet=True)
    assert not (coco_root / "t").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_pack_is_never_taken_for_a_complete_one(coco_root: Path, how: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(ROOT), str(coco_root)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(how)
    process.communicate(timeout=20)
    out = coco_root / "out"
    assert not (out / "train_lmdb").exists()
    with pytest.raises(UserError, match="does not exist; make it with"):
        Store(out / "train_lmdb")
    pack(coco_root)  # the next run clears what was left
    assert [p.name for p in out.iterdir()] == ["train_lmdb"]
    assert len(Store(out / "train_lmdb").index.ids) == 9


def test_only_what_may_be_somebodys_data_keeps_a_folder_from_being_packed_anew(coco_root: Path) -> None:
    target = coco_root / "out" / "train_lmdb"
    pack(coco_root)
    for name in (".DS_Store", "._data.mdb", ".nfs0001", "Thumbs.db"):
        (target / name).write_text("")
    (target / "data.mdb").write_bytes(b"")
    assert pack(coco_root)[0]["num_images"] == 9
    (target / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"holds something else \('notes.txt'\); remove it, or name another target"):
        pack(coco_root)


def test_two_processes_pack_once(coco_root: Path) -> None:
    command = [sys.executable, "-c", SLOW, str(ROOT), str(coco_root)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(0.1)
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    outputs = [p.communicate(timeout=30)[0] for p in (first, second)]
    assert sum("at 8" in output for output in outputs) == 1
    assert sum("is complete and up to date" in output for output in outputs) == 1


def test_a_file_of_another_program_or_version_is_refused(coco_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mscoco_packer\.py"):
        Store(tmp_path / "nothing")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.mdb").write_bytes(b"x" * 8192)
    with pytest.raises(UserError, match="not a readable LMDB"):
        Store(tmp_path / "bad")
    other = coco_root / "out" / "train_lmdb"
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        pack(coco_root)
    assert (other / "notes.txt").read_text() == "mine"


def test_find_source_accepts_the_usual_layouts(tmp_path: Path) -> None:
    for layout, json_name, folder in [
        ("coco", "annotations/instances_train2017.json", "train2017"),
        ("beside", "instances_train2017.json", "train2017"),
        ("roboflow", "train/_annotations.coco.json", "train"),
        ("plain", "annotations/instances_train.json", "train"),
    ]:
        root = tmp_path / layout
        (root / folder).mkdir(parents=True)
        (root / json_name).parent.mkdir(exist_ok=True)
        (root / json_name).write_text("{}")
        assert find_source(root, "train", None, None) == (root / json_name, root / folder)
    with pytest.raises(UserError, match=r"looked for .*instances_val2017\.json.*--ann-file"):
        find_source(tmp_path / "coco", "val", None, None)
    assert find_source(root, "val", "annotations/instances_train.json", "train") == (root / json_name, root / "train")


def test_command_line(coco_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--src-data-dir", str(coco_root), "--target-data-dir", str(coco_root / "t"), "--split-name", "train"]
    main([*flags, "--pack-type", "lmdb", "--num-workers", "1"])
    assert "9 images, 16 boxes" in capsys.readouterr().out
    assert (coco_root / "t" / "train_lmdb" / "data.mdb").exists()
    with pytest.raises(UserError, match="plain name"):
        main([*flags[:-1], "../x"])


@pytest.mark.parametrize("tool", ["tools/mscoco_packer.py", "tools/datasets/mscoco_packer.py"])
def test_tools_end_with_one_line_on_a_missing_folder(tool: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / tool), "--src-data-dir", str(tmp_path / "no"), "--target-data-dir"]
    run = subprocess.run(
        [*command, str(tmp_path / "t"), "--split-name", "train"], capture_output=True, text=True, cwd=os.sep
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1 and str(tmp_path / "no") in run.stderr
