"""Weights that a model starts from: files on this disk, whatever address a config has for them."""

from __future__ import annotations

import glob
import os
from typing import Any

PRETRAINED_FOLDER = "tmp_pretrained_models"


def local_file(checkpoint: str) -> str:
    """The path of a file for a path, an address or a name like ``torchvision://resnet50``.

    Nothing is downloaded: for what is no path the file lies in ``tmp_pretrained_models``, under the last part of its
    name. Where it is not there the path says where it belongs.
    """
    if "://" not in checkpoint:
        return checkpoint
    name = checkpoint.split("?", 1)[0].rstrip("/").rpartition("/")[2]
    stem = name.removesuffix(".pth")
    exact = os.path.join(PRETRAINED_FOLDER, name if "." in name else f"{name}.pth")
    with_hash = sorted(glob.glob(os.path.join(glob.escape(PRETRAINED_FOLDER), f"{glob.escape(stem)}-*.pth")))
    return with_hash[0] if not os.path.isfile(exact) and with_hash else exact


def start_from(checkpoint: str, key: str) -> dict[str, Any]:
    """What loads a file into the model before it is trained; ``key`` is where the config names it.

    Of an address, which the config's author could not know to be unreachable, the weights may be absent: training
    then starts from random ones and says so. A file that is named and absent is refused.
    """
    return {
        "type": "LoadCheckpoint",
        "checkpoint_path": local_file(checkpoint),
        "allow_miss": True,
        "ignore_extra": True,
        "ignore_tensor_shape": True,
        "optional": "://" in checkpoint,
        "advice": f"{key} asks for {checkpoint}, and nothing is downloaded; put the file there, or start without it: "
        f"--cfg-options {key}=None",
    }


def take_pretrained(model: dict[str, Any], path: str = "model") -> list[tuple[str, str]]:
    """Take every ``init_cfg`` of type Pretrained, or with a checkpoint and no type (as configs of PVT have it), out of
    a model; gives (checkpoint, path of the key)."""
    found = []
    init = model.get("init_cfg")
    entries = [init] if isinstance(init, dict) else list(init or ())
    rest = []
    for entry in entries:
        if not isinstance(entry, dict) or not _is_pretrained(entry):
            rest.append(entry)
        elif entry.get("checkpoint") is not None:
            found.append((entry["checkpoint"], f"{path}.init_cfg"))
    if len(rest) < len(entries):
        model.pop("init_cfg")
        if rest:
            model["init_cfg"] = rest
    for key, value in model.items():
        if isinstance(value, dict) and key != "init_cfg":
            found += take_pretrained(value, f"{path}.{key}")
    return found


def _is_pretrained(entry: dict[str, Any]) -> bool:
    return entry.get("type", "Pretrained" if "checkpoint" in entry else None) in ("Pretrained", "PretrainedInit")
