"""What else a config says: seeds, the machine, pictures for the eye, where to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet.config.mmdetection.reader import Reader
from hatdet.config.mmdetection.training.notes import Notes
from hatdet.utils.errors import ConfigError

_IDLE = {
    "visualizer": "type", "vis_backends": "", "log_processor": "", "log_level": "", "env_cfg": "", "dist_params": "",
    "opencv_num_threads": "", "mp_start_method": "", "cudnn_benchmark": "", "launcher": "", "gpu_ids": "",
    "device": "", "experiment_name": "", "cfg": "",
}  # fmt: skip
"""Names of the machine and of what is shown: nothing that is learned depends on them."""
_LOOPS = {"val_cfg": ("ValLoop", "TestLoop"), "test_cfg": ("TestLoop", "ValLoop")}


def translate_rest(values: Mapping[str, Any], version: int, notes: Notes) -> dict[str, Any]:
    """Arguments of the trainer: ``seed``, ``find_unused_parameters``; refuses what would change the result.

    Raises:
        ConfigError: with the name.
    """
    result: dict[str, Any] = {}
    randomness = Reader(dict(values.get("randomness") or {}), "randomness")
    seed = randomness.take("seed", int, None)
    seed = values.get("seed") if seed is None and isinstance(values.get("seed"), int) else seed
    randomness.take("deterministic", bool, False)  # a training is repeatable anyway
    randomness.take("diff_rank_seed", bool, False)
    randomness.finish()
    if seed is not None:
        result["seed"] = seed
    wrapper = values.get("model_wrapper_cfg") or {}
    if values.get("find_unused_parameters") or wrapper.get("find_unused_parameters"):
        result["find_unused_parameters"] = True
    for name in ("resume", "resume_from", "auto_resume"):
        if values.get(name):
            raise ConfigError(
                f"{name}: resuming is asked for on the command line: tools/train.py CONFIG --resume; leave {name} out"
            )
    steps = [tuple(step) for step in values.get("workflow") or ()]
    if steps not in ([], [("train", 1)]):
        raise ConfigError("workflow: only [('train', 1)]; val_interval says when to validate")
    if version == 3:
        _check_loops(values, notes)
    if values.get("tta_model") is not None:
        kind = str(values["tta_model"].get("type", "DetTTAModel")).removeprefix("mmdet.")
        if kind != "DetTTAModel":
            raise ConfigError(f"tta_model.type: {kind!r} has no counterpart; use DetTTAModel")
    notes.without_effect(*(name for name in _IDLE if values.get(name) is not None))
    return result


def _check_loops(values: Mapping[str, Any], notes: Notes) -> None:
    for name, kinds in _LOOPS.items():
        reader = Reader(dict(values.get(name) or {}), name)
        reader.one_of("type", kinds, kinds[0])
        if reader.take("fp16", bool, False):
            notes.say(f"{name}.fp16: scores are of the model in float32")
        reader.finish()


def translate_auto_scale(values: Mapping[str, Any]) -> tuple[bool, int | None]:
    """``auto_scale_lr``: whether the rate is scaled with the batch size, and for which batch size it is."""
    reader = Reader(dict(values.get("auto_scale_lr") or {}), "auto_scale_lr")
    enabled, base = reader.take("enable", bool, False), reader.take("base_batch_size", int, None)
    reader.finish()
    if enabled and base is None:
        raise ConfigError("auto_scale_lr.base_batch_size is missing; add the batch size that the rate is for")
    return bool(enabled), base
