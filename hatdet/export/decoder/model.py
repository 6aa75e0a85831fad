"""What a decoder outside the toolbox has to know of a model, as plain values; from the exported model's metadata.

The score threshold becomes one integer a level: the smallest output code whose score exceeds it. The scores themselves
(in C also ``exp`` of the regression, where a model has it) become tables of float32 values, computed by the functions
of the toolbox's own post-processing, so a device that reads them cannot round differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hatdet.export.arithmetic import named
from hatdet.export.decoder.cells.model import cells_model
from hatdet.export.decoder.input import checked_input
from hatdet.export.decoder.tabled.model import tabled_model
from hatdet.models.task_modules.decoding import DecodeRule, told_keys
from hatdet.models.task_modules.retinanet_post_process import RetinaNetPostProcess
from hatdet.ops import rounded
from hatdet.utils.errors import UserError

CODES = {"int8": (-128, 127), "int16": (-32768, 32767)}
POST_PROCESSES = ("DetectionPostProcess", "RTMDetPostProcess", "RetinaNetPostProcess")
_NEEDED = ("detector", "num_classes", "strides", "post_process", "input", "outputs")


@dataclass(frozen=True)
class Overrides:
    """Settings of the post-processing that a device may want otherwise than evaluation; None: as evaluated.

    Attributes:
        score_thr: detections with a lower score are never made; a high one saves most of the time.
        nms_pre: candidates kept of each level.
        max_per_img: detections of an image.

    Raises:
        UserError: a number out of range.
    """

    score_thr: float | None = None
    nms_pre: int | None = None
    max_per_img: int | None = None

    def __post_init__(self) -> None:
        if self.score_thr is not None and not 0 <= self.score_thr < 1:
            raise UserError(f"the decoder's score threshold is at least 0 and below 1, got {self.score_thr}")
        for name in ("nms_pre", "max_per_img"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"the decoder's {name} is at least 1, got {value}")

    def apply(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` with what is given here."""
        return {**settings, **{name: value for name, value in vars(self).items() if value is not None}}


def decoder_model(metadata: Mapping[str, Any], overrides: Overrides | None = None) -> dict[str, Any]:
    """Everything that :class:`~hatdet.export.decoder.body.Decoder` and the C header need, as JSON's types.

    Args:
        metadata: of an exported model (the ``.json`` beside it).
        overrides: other thresholds than the evaluation's.

    Raises:
        UserError: a detector without decoder, metadata of an older export, or outputs that do not fit the detector.
    """
    if metadata.get("decoding", {}).get("cells"):
        return cells_model(metadata, vars(overrides or Overrides()))
    if "decoding" in metadata:
        return tabled_model(metadata, vars(overrides or Overrides()))
    check_coding(metadata)
    _check_metadata(metadata)
    rule = DecodeRule.of_metadata(metadata)
    settings = (overrides or Overrides()).apply(_settings(metadata["post_process"]))
    classes = [str(name) for name in metadata.get("classes") or range(int(metadata["num_classes"]))]
    outputs = [_output(entry) for entry in metadata["outputs"]]
    model = {
        "detector": metadata["detector"],
        **named(metadata),
        "classes": classes,
        "num_classes": rule.num_classes,
        "input": checked_input(metadata),
        "outputs": outputs,
        **settings,
        **_coding(rule, settings),
    }
    model["levels"] = _levels(model, rule)
    return model


def check_coding(metadata: Mapping[str, Any]) -> None:
    """Refuse what finds no boxes by points or anchors.

    Raises:
        UserError: with what to do instead.
    """
    if "decoding" not in metadata and not told_keys(metadata) and "detector" in metadata:
        raise UserError(
            f"there is no decoder for {metadata['detector']}: its metadata says nothing of points or anchors (a "
            "DenseDetector's does); export it without --emit-decoder, and score the file with tools/test.py"
        )


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    told = told_keys(metadata)
    post_process = (metadata.get("post_process") or {}).get("type", POST_PROCESSES[0])
    if "box_coder" in metadata or post_process not in POST_PROCESSES:
        raise UserError(
            f"there is no decoder for what {metadata.get('box_coder', post_process)} does; use a part of hatdet's, or "
            "leave --emit-decoder out, and decode the raw maps yourself"
        )
    missing = [key for key in (*_NEEDED, *told) if key not in metadata]
    if missing:
        raise UserError(
            f"the model's metadata has no {', '.join(missing)}; export the model again with tools/export.py"
        )
    if metadata["post_process"] is None:
        raise UserError(
            "the detector was built without post_process, so there is nothing to decode to; "
            "give it one in the config, or leave --emit-decoder out"
        )
    if metadata["post_process"].get("nms_type", "nms") != "nms":
        kind = metadata["post_process"]["nms_type"]
        raise UserError(
            f"decoders suppress overlapping boxes; nms_type={kind!r} lowers their scores instead: evaluate and export "
            "with nms_type='nms'"
        )


def _settings(post_process: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of either post-processing under one name each."""
    theirs = {} if "score_thr" in post_process else RetinaNetPostProcess.names
    names = ("score_thr", "nms_pre", "iou_threshold", "max_per_img")
    return {**{n: post_process[theirs.get(n, n)] for n in names}, "multi_label": post_process.get("multi_label", True)}


def _coding(rule: DecodeRule, settings: Mapping[str, Any]) -> dict[str, Any]:
    """How boxes and scores follow from the outputs."""
    if len(set(rule.priors.num_priors)) > 1 or (rule.priors.num_priors[0] > 1 and not settings["multi_label"]):
        raise UserError(
            "decoders take as many anchors at every level, each class of them a candidate; the detector has "
            f"{list(rule.priors.num_priors)} of them, with multi_label={settings['multi_label']}; "
            "set multi_label=True, or leave --emit-decoder out"
        )
    known = {"boxes": rule.coder.form, "num_anchors": rule.priors.num_priors[0], "prior_offset": rule.priors.offset}
    return {**known, **rule.coder.metadata(), **({"score_factor": True} if rule.score_factor else {})}


def _output(entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry["dtype"] not in CODES:
        raise UserError(
            f"a decoder reads raw integer outputs ({', '.join(CODES)}); output {entry['name']} is {entry['dtype']}; "
            "give it the int8 .tflite"
        )
    _, height, width, channels = entry["shape"]
    return {
        "name": entry["name"],
        "height": int(height),
        "width": int(width),
        "channels": int(channels),
        "dtype": entry["dtype"],
        "scale": float(entry["scale"]),
        "zero_point": int(entry["zero_point"]),
    }


def _levels(model: dict[str, Any], rule: DecodeRule) -> list[dict[str, Any]]:
    outputs, strides, kinds = model["outputs"], rule.priors.strides, rule.columns
    if len(outputs) != len(kinds) * len(strides):
        raise UserError(
            f"{len(strides)} strides need {len(kinds) * len(strides)} outputs, the model has {len(outputs)}; "
            "export the model again with tools/export.py"
        )
    if len({entry["dtype"] for entry in outputs}) > 1:
        raise UserError("the outputs mix int8 and int16; a decoder needs one type")
    return [_level(model, rule, number) for number in range(len(strides))]


def _level(model: dict[str, Any], rule: DecodeRule, number: int) -> dict[str, Any]:
    stride, outputs = rule.priors.strides[number], model["outputs"]
    indices = [number + kind * len(rule.priors.strides) for kind in range(len(rule.columns))]
    size = (-(-model["input"]["height"] // stride), -(-model["input"]["width"] // stride))
    for entry, columns in zip((outputs[i] for i in indices), rule.columns, strict=True):
        expected = (*size, columns * model["num_anchors"])
        if (entry["height"], entry["width"], entry["channels"]) != expected:
            raise UserError(
                f"output {entry['name']} should be {expected} (h, w, channels) at stride {stride}, it is "
                f"{(entry['height'], entry['width'], entry['channels'])}; "
                "export the model again with tools/export.py"
            )
    cls = outputs[indices[0]]
    scores, threshold = score_table(cls, float(model["score_thr"]))
    level = {
        "stride": stride,
        "cls": indices[0],
        "box": indices[1],
        "threshold": threshold,
        "gate": max(threshold, _filter_code(cls, rule.gate)),
        "scores": scores.tolist() if cls["dtype"] == "int8" else None,
    }
    if rule.score_factor:
        factor = outputs[indices[2]]
        level["factor"] = indices[2]
        level["factors"] = score_table(factor, -1.0)[0].tolist() if factor["dtype"] == "int8" else None
    if rule.priors.base_anchors is not None:
        level["anchors"] = rule.priors.base_anchors[number].tolist()
    return level


def _filter_code(output: Mapping[str, Any], threshold: float | None) -> int:
    """The smallest code that a filter of logits lets pass: a position whose best code is below it is not looked at."""
    low, high = CODES[output["dtype"]]
    if threshold is None:
        return low
    return high + 1 - int((real_values(output) >= torch.tensor(threshold, dtype=torch.float32)).sum())


def score_table(output: Mapping[str, Any], score_thr: float) -> tuple[Tensor, int]:
    """(scores of the codes from the threshold on, the smallest code whose score is above ``score_thr``).

    The threshold is one more than the largest code where no score is.
    """
    scores = rounded.sigmoid(real_values(output))
    above = scores > score_thr  # a float32 comparison, as in the toolbox's post-processing
    count = int(above.sum())
    assert bool(above[len(above) - count :].all()), "scores rise with the code"
    return scores[len(scores) - count :], CODES[output["dtype"]][1] + 1 - count


def real_values(output: Mapping[str, Any]) -> Tensor:
    """float32 real value of every code of an output, from the lowest."""
    low, high = CODES[output["dtype"]]
    codes = torch.arange(low, high + 1, dtype=torch.float32)
    return (codes - output["zero_point"]) * output["scale"]


def workspace_entries(model: Mapping[str, Any]) -> int:
    """The most candidates that an image can have."""
    outputs = model["outputs"]
    total = 0
    for level in model["levels"]:
        cls = outputs[level["cls"]]
        pairs = cls["height"] * cls["width"] * (cls["channels"] if model["multi_label"] else 1)
        total += min(pairs, model["nms_pre"])
    return total
