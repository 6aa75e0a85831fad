"""Ten training steps of one official config of each family, unchanged but for data paths and classes.

    python -m tests.conformance.ten_steps --data DIR [--only fcos atss] [--limit 1800] [--out build/ten_steps]

DIR holds COCO-format data: annotations/instances_{train,val}.json beside the folders train and val. Each family is a
run of tools/train.py as a user starts it, on one thread, ended by SIGTERM after its tenth step. A line a family: steps,
seconds a step, first and last loss. The exit status is 1 where a run gave fewer steps or a loss that is not finite.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatdet.config.mmdetection.syntax.files import read
from tests.conformance.material import ROOT, configs

FAMILIES: dict[str, tuple[int, str]] = {
    "retinanet": (3, "retinanet/retinanet_r18_fpn_1x_coco.py"),
    "retinanet-2.x": (2, "retinanet/retinanet_r18_fpn_1x_coco.py"),
    "ghm": (3, "ghm/retinanet_r50_fpn_ghm-1x_coco.py"),
    "free_anchor": (3, "free_anchor/freeanchor_r50_fpn_1x_coco.py"),
    "pisa": (3, "pisa/retinanet-r50_fpn_pisa_1x_coco.py"),
    "guided_anchoring": (3, "guided_anchoring/ga-retinanet_r50_fpn_1x_coco.py"),
    "sabl": (3, "sabl/sabl-retinanet_r50_fpn_1x_coco.py"),
    "nas_fpn": (3, "nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py"),
    "pvt": (3, "pvt/retinanet_pvtv2-b0_fpn_1x_coco.py"),
    "ssd": (3, "ssd/ssd300_coco.py"),
    "ssdlite": (3, "ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py"),
    "ssdlite-2.x": (2, "ssd/ssdlite_mobilenetv2_scratch_600e_coco.py"),
    "yolov3": (3, "yolo/yolov3_d53_8xb8-320-273e_coco.py"),
    "yolov3-mobilenetv2": (3, "yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py"),
    "yolox": (3, "yolox/yolox_nano_8xb8-300e_coco.py"),
    "yolox-2.x": (2, "yolox/yolox_tiny_8x8_300e_coco.py"),
    "rtmdet": (3, "rtmdet/rtmdet_tiny_8xb32-300e_coco.py"),
    "fcos": (3, "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"),
    "nas_fcos": (3, "nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco.py"),
    "atss": (3, "atss/atss_r50_fpn_1x_coco.py"),
    "dyhead": (3, "dyhead/atss_r50_fpn_dyhead_1x_coco.py"),
    "gfl": (3, "gfl/gfl_r50_fpn_1x_coco.py"),
    "ld": (3, "ld/ld_r18-gflv1-r101_fpn_1x_coco.py"),
    "paa": (3, "paa/paa_r50_fpn_1x_coco.py"),
    "lad": (3, "lad/lad_r50-paa-r101_fpn_2xb8_coco_1x.py"),
    "vfnet": (3, "vfnet/vfnet_r50_fpn_1x_coco.py"),
    "tood": (3, "tood/tood_r50_fpn_1x_coco.py"),
    "ddod": (3, "ddod/ddod_r50_fpn_1x_coco.py"),
    "autoassign": (3, "autoassign/autoassign_r50-caffe_fpn_1x_coco.py"),
    "fsaf": (3, "fsaf/fsaf_r50_fpn_1x_coco.py"),
    "foveabox": (3, "foveabox/fovea_r50_fpn_4xb4-1x_coco.py"),
    "reppoints": (3, "reppoints/reppoints-moment_r50_fpn_1x_coco.py"),
    "yolof": (3, "yolof/yolof_r50-c5_8xb8-1x_coco.py"),
    "centernet": (3, "centernet/centernet_r18_8xb16-crop512-140e_coco.py"),
    "centernet-2.x": (2, "centernet/centernet_resnet18_140e_coco.py"),
    "centernet_update": (3, "centernet/centernet-update_r18_fpn_8xb8-amp-lsj-200e_coco.py"),
    "cornernet": (3, "cornernet/cornernet_hourglass104_32xb3-210e-mstest_coco.py"),
    "centripetalnet": (3, "centripetalnet/centripetalnet_hourglass104_16xb6-crop511-210e-mstest_coco.py"),
    "rpn": (3, "rpn/rpn_r50_fpn_1x_coco.py"),
    "hrnet": (3, "hrnet/fcos_hrnetv2p-w18-gn-head_4xb4-1x_coco.py"),
    "regnet": (3, "regnet/retinanet_regnetx-800MF_fpn_1x_coco.py"),
    "efficientnet": (3, "efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco.py"),
}
"""Name: vocabulary and file. The smallest of each family."""
STEP = re.compile(r"^epoch \d+/\d+ \[(\d+)/\d+\]\s+loss (\S+)")


@dataclass
class Run:
    """What a run showed: the losses of its steps, their times (seconds since the first), its last lines."""

    losses: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)

    def problem(self, steps: int) -> str:
        """Why this run is no success; empty where it is one."""
        if len(self.losses) < steps:
            return f"{len(self.losses)} steps of {steps}: {' | '.join(self.tail[-2:])}"
        if not all(map(math.isfinite, self.losses)):
            return f"losses {self.losses}"
        return ""


def data_options(values: dict[str, Any], version: int, data: Path) -> Iterator[str]:
    """The options that a user gives: where the data set lies, how many classes it has."""
    classes = len(json.loads((data / "annotations" / "instances_train.json").read_text(encoding="utf-8"))["categories"])
    for part in ("train", "val"):
        loader = "data" if version == 2 else f"{part}_dataloader"
        path, node = (f"data.{part}", values["data"][part]) if version == 2 else (
            f"{loader}.dataset", values[loader]["dataset"])  # fmt: skip
        while "ann_file" not in node:
            path, node = f"{path}.dataset", node["dataset"]
        json_file = f"annotations/instances_{part}.json"
        if version == 2:
            yield from (f"{path}.ann_file={data / json_file}", f"{path}.img_prefix={data / part}/")
        else:
            yield from (f"{path}.data_root={data}/", f"{path}.ann_file={json_file}", f"{path}.data_prefix.img={part}/")
    for key in ("bbox_head", "mask_head"):
        if "num_classes" in values["model"].get(key, {}):
            yield f"model.{key}.num_classes={classes}"


def run(name: str, data: Path, out: Path, steps: int, limit: float) -> Run:
    """A family's training until its step number `steps`, or until `limit` seconds have passed."""
    version, path = FAMILIES[name]
    file = configs(version) / path
    options = [*data_options(read(file), version, data),
               "log_config.interval=1" if version == 2 else "default_hooks.logger.interval=1"]  # fmt: skip
    command = [sys.executable, "tools/train.py", str(file), "--work-dir", str(out / name), "--overwrite",
               "--cfg-options", *options]  # fmt: skip
    found = Run()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    out.mkdir(parents=True, exist_ok=True)
    job = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    alarm = threading.Timer(limit, job.terminate)
    alarm.start()
    with open(out / f"{name}.log", "w", encoding="utf-8") as log, job:
        for line in job.stdout or ():
            log.write(line)
            log.flush()
            found.tail.append(line.strip())
            if step := STEP.match(line):
                found.losses.append(float(step[2].rstrip(",")))
                found.times.append(time.monotonic())
                if len(found.losses) == steps:
                    job.send_signal(signal.SIGTERM)
    alarm.cancel()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a COCO-format data set")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--limit", type=float, default=1800, help="seconds a family")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "ten_steps")
    args = parser.parse_args()
    failed = 0
    for name in args.only:
        found = run(name, args.data.resolve(), args.out, args.steps, args.limit)
        problem = found.problem(args.steps)
        failed += bool(problem)
        pace = (found.times[-1] - found.times[0]) / max(1, len(found.times) - 1) if found.times else 0.0
        fine = f"loss {found.losses[0]:.4g} -> {found.losses[-1]:.4g}" if found.losses and not problem else problem
        print(f"{name:20} {FAMILIES[name][1]:75} {len(found.losses):3} steps  {pace:6.1f} s/step  {fine}", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
