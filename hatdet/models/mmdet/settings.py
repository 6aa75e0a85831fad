"""The keys of ``train_cfg`` and ``test_cfg``: one that no head reads is a mistake, and is said before training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from hatdet.models.mmdet.heads.suppression import KINDS
from hatdet.models.mmdet.post.suppression import METHODS, kind_of
from hatdet.utils.errors import did_you_mean

TRAIN = frozenset(
    ("assigner", "sampler", "allowed_border", "pos_weight", "debug", "rpn", "rpn_proposal", "rcnn", "smoothl1_beta",
     "neg_pos_ratio", "init", "refine", "initial_epoch", "initial_assigner", "alpha", "beta", "ga_assigner",
     "ga_sampler", "center_ratio", "ignore_ratio", "isr", "carl", "reg_assigner")
)  # fmt: skip
"""Of all dense heads together."""
TEST = frozenset(
    ("score_thr", "nms", "max_per_img", "nms_pre", "min_bbox_size", "rpn", "rcnn", "local_maximum_kernel", "conf_thr",
     "corner_topk", "distance_threshold", "topk", "score_voting", "mask_thr_binary", "nms_post", "nms_thr", "max_num",
     "nms_across_levels", "nms_cfg")
)  # fmt: skip
"""Of all dense heads together."""


def check_train_cfg(cfg: Any) -> None:
    """Refuse a key that means nothing.

    Raises:
        ValueError: there is one.
    """
    for part, path in _parts(cfg, "train_cfg", ("rpn", "rcnn", "init", "refine")):
        _check(part, path, TRAIN)


def check_test_cfg(cfg: Any) -> None:
    """Refuse a key that means nothing, here or in ``nms``, and a suppression that is not known.

    Raises:
        ValueError: there is one.
    """
    for part, path in _parts(cfg, "test_cfg", ("rpn", "rcnn")):
        _check(part, path, TEST)
        nms = part.get("nms")
        if isinstance(nms, Mapping):
            _check_nms(nms, f"{path}.nms")


def _check_nms(nms: Mapping[str, Any], path: str) -> None:
    kind = kind_of(nms)
    if kind not in KINDS:
        raise ValueError(f"{path}.type: unknown {kind!r}{did_you_mean(kind, KINDS)}; write 'nms' or 'soft_nms'")
    _check(nms, path, KINDS[kind])
    if kind == "nms" and not {"iou_threshold", "iou_thr"} & set(nms):
        raise ValueError(f"{path}: iou_threshold is missing; write the overlap above which a box is dropped")
    if nms.get("method", "linear") not in METHODS:
        hint = did_you_mean(str(nms["method"]), METHODS)
        raise ValueError(f"{path}.method: unknown {nms['method']!r}{hint}; write one of {', '.join(METHODS)}")


def _parts(cfg: Any, path: str, inner: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The dict itself, and those inside it (of stages: in a list)."""
    if isinstance(cfg, (list, tuple)):
        for index, item in enumerate(cfg):
            yield from _parts(item, f"{path}.{index}", inner)
    elif isinstance(cfg, Mapping):
        yield cfg, path
        for key in inner:
            yield from _parts(cfg.get(key), f"{path}.{key}", inner)


def _check(cfg: Mapping[str, Any], path: str, known: Collection[str]) -> None:
    for key in cfg:
        if key not in known:
            near = did_you_mean(str(key), known) or f"; known are {', '.join(sorted(known))}"
            raise ValueError(f"{path}.{key}: no detector reads it{near}")
