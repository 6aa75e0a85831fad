"""Keys of train_cfg and test_cfg that mean nothing are refused before training."""

from __future__ import annotations

from typing import Any

import pytest

from hatdet.models.mmdet.settings import check_test_cfg, check_train_cfg

NMS = {"type": "nms", "iou_threshold": 0.5}


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"score_th": 0.1}, r"test_cfg.score_th: no detector reads it; did you mean 'score_thr'\?"),
        ({"nms": {"type": "nms", "iou_treshold": 0.5}}, "test_cfg.nms.iou_treshold: .* did you mean 'iou_threshold'"),
        ({"nms": {"type": "nmss", "iou_threshold": 0.5}}, "test_cfg.nms.type: unknown 'nmss'; did you mean 'nms'"),
        ({"nms": {"type": "nms"}}, "test_cfg.nms: iou_threshold is missing"),
        ({"nms": {**NMS, "sigma": 0.5}}, "test_cfg.nms.sigma: no detector reads it"),
        ({"nms": {"type": "soft_nms", "method": "gausian"}}, "nms.method: unknown 'gausian'; did you mean 'gaussian'"),
        ({"rpn": {"nms_prae": 10}}, "test_cfg.rpn.nms_prae: .* did you mean 'nms_pre'"),
    ],
)
def test_of_predictions(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_test_cfg(cfg)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"assigner": None, "pos_wieght": 1}, "train_cfg.pos_wieght: .* did you mean 'pos_weight'"),
        ({"refine": {"asigner": None}}, "train_cfg.refine.asigner: .* did you mean 'assigner'"),
        ({"rpn": [{}, {"samplre": None}]}, "train_cfg.rpn.1.samplre: .* did you mean 'sampler'"),
        ({"qqq": 1}, "train_cfg.qqq: no detector reads it; known are allowed_border, alpha, assigner"),
    ],
)
def test_of_training(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_train_cfg(cfg)


def test_what_configs_write_passes() -> None:
    check_test_cfg(None)
    check_test_cfg({"nms_pre": 1000, "min_bbox_size": 0, "score_thr": 0.05, "nms": NMS, "max_per_img": 100})
    check_test_cfg({"nms": {"type": "soft_nms", "iou_threshold": 0.5, "method": "gaussian", "min_score": 0.01}})
    check_test_cfg({"rpn": {"nms": {"iou_threshold": 0.7, "max_num": 5}}, "nms": {"type": "mmcv.nms", "iou_thr": 0.5}})
    check_train_cfg({"init": {"assigner": None, "pos_weight": -1}, "refine": {"allowed_border": -1, "debug": False}})
