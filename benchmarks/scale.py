"""What large data sets cost: packing, opening, and the memory of processes that load samples.

python benchmarks/scale.py --images 10000 50000 200000

generates small JPEG files (64 pictures hard-linked under as many names as asked for, COCO's mean of 7 boxes each),
packs them, opens the packed set and loads shuffled samples in a worker, forked and spawned. The baseline of packing is
to read the files and to decode them whole. Rates count CPU time of the packer and its processes, since the clock of a
busy machine says little. Private memory is what a worker does not share with others (smaps_rollup).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DISTINCT = 64
BOXES = 7

PACK = """
import sys
from hatdet.data.packers.mscoco import pack_coco
pack_coco(*sys.argv[1:4], num_workers=int(sys.argv[4]), quiet=True, log=lambda line: None)
"""
LOAD = """
import json, sys, time
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.loader import build_data_loader

def memory(process):
    with open(f"/proc/{process}/smaps_rollup") as file:
        kib = {line.split(":")[0]: int(line.split()[1]) for line in file.readlines()[1:]}
    return {"rss": kib["Rss"] / 1024, "private": (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024}

if __name__ == "__main__":
    begin, cpu = time.perf_counter(), time.process_time()
    dataset = CocoFromLMDB(sys.argv[1], transforms=[], cache_mb=0)
    opened = {"open": time.perf_counter() - begin, "open_cpu": time.process_time() - cpu}
    loader = build_data_loader(dataset, 32, True, num_workers=1, multiprocessing_context=sys.argv[2])
    for number, _ in enumerate(loader):
        if number == int(sys.argv[3]):
            break
    worker = memory(loader._iterator._workers[0].pid)
    print(json.dumps({**opened, **worker, "main": memory("self")["rss"]}))
"""


def generate(root: Path, count: int, size: tuple[int, int]) -> tuple[Path, Path]:
    """``count`` names of 64 pictures of ``size`` (h, w); the json and the folder of the pictures."""
    import cv2

    rng = np.random.default_rng(0)
    folder, ann_file = root / "train", root / "annotations" / "instances_train.json"
    if ann_file.exists():
        return ann_file, folder
    folder.mkdir(parents=True)
    ann_file.parent.mkdir()
    height, width = size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        path = folder / f"{number:012d}.jpg"
        if number < DISTINCT:
            coarse = rng.integers(60, 200, (6, 8, 3), dtype=np.uint8)
            picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            picture = cv2.add(picture, rng.integers(0, 16, picture.shape, dtype=np.uint8))
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        else:
            os.link(folder / f"{number % DISTINCT:012d}.jpg", path)
        images.append({"id": number + 1, "file_name": path.name, "height": height, "width": width})
        for x, y in rng.uniform(0, 0.6, (BOXES, 2)).tolist():
            bbox = [round(x * width, 2), round(y * height, 2), 0.3 * width, 0.3 * height]
            box = {"bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0, "category_id": 1}
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, **box})
    categories = [{"id": 1, "name": "thing"}]
    ann_file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return ann_file, folder


def run(code: str, arguments: list[Any]) -> tuple[str, float, float]:
    """Output, seconds and CPU seconds of a process of this checkout, its own processes included."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(code)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, str(script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"the measured process failed:\n{done.stderr.strip()}")
    return done.stdout, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def decoding(folder: Path, count: int) -> float:
    """CPU milliseconds a picture to read and decode ``count`` of the files."""
    import cv2

    cv2.setNumThreads(0)
    begin = time.process_time()
    for number in range(count):
        cv2.imdecode(np.fromfile(folder / f"{number:012d}.jpg", np.uint8), cv2.IMREAD_COLOR)
    return 1e3 * (time.process_time() - begin) / count


def measure(root: Path, count: int, args: argparse.Namespace) -> None:
    """Pack, open and load ``count`` pictures, and print a line of each."""
    ann_file, pictures = generate(root, count, tuple(args.size))
    target = root / "train_lmdb"
    if not target.exists():
        _, wall, cpu = run(PACK, [ann_file, pictures, target, args.num_workers])
        each, plain = 1e3 * cpu / count, decoding(pictures, min(count, 2000))
        print(
            f"{count} images: packed with {each:.2f} CPU ms an image ({plain:.2f} to read and decode it whole), "
            f"{wall:.0f} s ({count / wall:.0f} images/s)",
            flush=True,
        )
    for method in ("fork", "spawn"):
        found = json.loads(run(LOAD, [target, method, args.batches])[0])
        print(
            f"{count} images, {method}: opened in {found['open']:.3f} s (CPU {found['open_cpu']:.3f}); the worker has "
            f"{found['private']:.0f} MiB of its own, RSS {found['rss']:.0f}; the main process RSS {found['main']:.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 50_000, 200_000], metavar="N")
    parser.add_argument("--size", type=int, nargs=2, default=[240, 320], metavar=("H", "W"))
    parser.add_argument("--num-workers", type=int, default=2, metavar="N", help="processes of the packer")
    parser.add_argument("--batches", type=int, default=100, metavar="N", help="of 32, before memory is looked at")
    parser.add_argument("--folder", type=Path, help="for the data sets, which are kept; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for count in args.images:
            measure((args.folder or Path(temporary)) / str(count), count, args)


if __name__ == "__main__":
    main()
