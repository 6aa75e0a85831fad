"""Checkpoints in the layouts of MMDetection and MMYOLO, built here in exactly those layouts."""

from __future__ import annotations

import re
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.commands.convert_checkpoint import convert
from hatdet.quantization.loading import LoadCheckpoint
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.checkpoints.foreign_checkpoint import layout_of, read_foreign, to_hatdet, weights_of
from hatdet.utils.errors import UserError
from tests.helpers.rtmdet import build_rtmdet

TO_MMYOLO = (
    (r"^bbox_head\.", "bbox_head.head_module."),
    (r"^neck\.reduce_layers\.0\.", "neck.reduce_layers.2."),
    (r"^neck\.top_down_blocks\.0\.", "neck.top_down_layers.0.0."),
    (r"^neck\.reduce_layers\.1\.", "neck.top_down_layers.0.1."),
    (r"^neck\.top_down_blocks\.1\.", "neck.top_down_layers.1."),
    (r"^neck\.downsamples\.", "neck.downsample_layers."),
    (r"^neck\.bottom_up_blocks\.", "neck.bottom_up_layers."),
    (r"^neck\.out_convs\.", "neck.out_layers."),
)


@pytest.fixture
def mmengine() -> Iterator[Any]:
    """Modules of the names that official files refer to, with a class that would betray being run."""
    names = ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer")
    before = {name: sys.modules.get(name) for name in names}
    for name in names:
        sys.modules[name] = types.ModuleType(name)

    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history = np.array([1.5, 2.5])
            self._count_history = np.array([1, 1])
            self._max_length = np.int64(1000000)
            self._statistics_methods = OrderedDict()

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = names[-1], "HistoryBuffer"
    sys.modules[names[-1]].HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    yield HistoryBuffer
    for name, module in before.items():
        if module is None:
            del sys.modules[name]
        else:
            sys.modules[name] = module


def detector(seed: int, **options: Any) -> Any:
    torch.manual_seed(seed)
    return build_rtmdet(share_conv=True, channel_attention=True, activation="SiLU", **options)


def mmdet_file(path: Path, model: Any, history: Any, exp_on_reg: bool | None) -> Path:
    """What MMEngine's runner saves with EMA: averaged weights in state_dict, raw ones beside, histories, a config."""
    weights = OrderedDict(model.state_dict())
    weights["data_preprocessor.mean"] = torch.tensor([103.53, 116.28, 123.675]).reshape(-1, 1, 1)
    raw = OrderedDict((f"module.{k}", v + 1 if v.is_floating_point() else v) for k, v in model.state_dict().items())
    meta: dict[str, Any] = {"epoch": 300, "dataset_meta": {"classes": ("cat", "dog"), "palette": [(1, 2, 3)]}}
    if exp_on_reg is not None:
        meta["cfg"] = f"model = dict(\n    bbox_head=dict(\n        exp_on_reg={exp_on_reg},\n        type='Head'))"
    state = {
        "meta": meta,
        "state_dict": weights,
        "ema_state_dict": OrderedDict(steps=torch.tensor(7), **raw),
        "message_hub": {"log_scalars": OrderedDict(train=history()), "runtime_info": {}, "resumed_keys": {}},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": np.float64(0.004)}]},
        "param_schedulers": [{"last_step": 3}],
    }
    torch.save(state, path)
    return path


def mmyolo_file(path: Path, model: Any, history: Any) -> Path:
    mmdet_file(path, model, history, None)
    state = torch.load(path, weights_only=False)
    renamed = OrderedDict()
    for key, value in state["state_dict"].items():
        for pattern, name in TO_MMYOLO:
            key, count = re.subn(pattern, name, key)
            if count:
                break
        renamed[key] = value
    state["state_dict"] = renamed
    torch.save(state, path)
    return path


def same_weights(a: Any, b: Any) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_load_checkpoint_maps_mmdetections_file(tmp_path: Path, mmengine: Any) -> None:
    source = detector(1)
    path = mmdet_file(tmp_path / "rtmdet.pth", source, mmengine, exp_on_reg=False)
    target = detector(2)
    LoadCheckpoint(checkpoint_path=str(path))(target)
    assert same_weights(source, target) and target.exp_on_reg is False


def test_load_checkpoint_maps_mmyolos_file(tmp_path: Path, mmengine: Any) -> None:
    source = detector(1)
    path = mmyolo_file(tmp_path / "rtmdet.pth", source, mmengine)
    assert layout_of(read_foreign(path)) == "mmyolo"
    target = detector(2, exp_on_reg=True)
    LoadCheckpoint(checkpoint_path=str(path))(target)
    assert same_weights(source, target)
    assert target.exp_on_reg is False and target.bbox_head.exp_on_reg is False  # MMYOLO has none


def test_the_files_exp_on_reg_wins_over_the_configs(tmp_path: Path, mmengine: Any) -> None:
    path = mmdet_file(tmp_path / "rtmdet.pth", detector(1), mmengine, exp_on_reg=True)
    target = detector(2)
    LoadCheckpoint(checkpoint_path=str(path))(target)
    assert target.exp_on_reg is True and target.metadata()["exp_on_reg"] is True


def test_both_sets_of_weights_can_be_had(tmp_path: Path, mmengine: Any) -> None:
    source = detector(1)
    path = mmdet_file(tmp_path / "rtmdet.pth", source, mmengine, exp_on_reg=False)
    name = "backbone.stem.0.conv.weight"
    convert(path, tmp_path / "ema.pth")
    convert(path, tmp_path / "raw.pth", weights="raw")
    ema, raw = (load_checkpoint(tmp_path / f"{which}.pth") for which in ("ema", "raw"))
    assert torch.equal(ema["state_dict"][name], source.state_dict()[name])
    assert torch.equal(raw["state_dict"][name], source.state_dict()[name] + 1)
    assert ema["metadata"] == {"source": "mmdet", "exp_on_reg": False, "classes": ["cat", "dog"]}
    assert "data_preprocessor.mean" not in ema["state_dict"]


def test_there_and_back_again(tmp_path: Path, mmengine: Any) -> None:
    """MMYOLO -> hatdet -> MMDetection: the names and numbers that MMDetection's own file has."""
    source = detector(1)
    yolo = mmyolo_file(tmp_path / "yolo.pth", source, mmengine)
    text = convert(yolo, tmp_path / "ours.pth.tar", "mmyolo")
    assert "exp_on_reg False" in text
    convert(tmp_path / "ours.pth.tar", tmp_path / "det.pth", to="mmdet")
    det = load_checkpoint(tmp_path / "det.pth")
    assert list(det["state_dict"]) == list(source.state_dict())
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in det["state_dict"].items())
    assert layout_of(det) == "mmdet"


def test_an_unknown_exp_on_reg_is_asked_for(tmp_path: Path, mmengine: Any) -> None:
    path = mmdet_file(tmp_path / "rtmdet.pth", detector(1), mmengine, exp_on_reg=None)
    assert "say it with --exp-on-reg" in convert(path, tmp_path / "out.pth")
    assert "exp_on_reg True" in convert(path, tmp_path / "out.pth", exp_on_reg=True)


def test_other_objects_are_still_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("ran",))

    torch.save({"state_dict": {}, "x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="which is neither a tensor nor a plain value"):
        read_foreign(tmp_path / "evil.pth")


def test_wrong_claims_are_refused(tmp_path: Path, mmengine: Any) -> None:
    det = mmdet_file(tmp_path / "det.pth", detector(1), mmengine, exp_on_reg=False)
    with pytest.raises(UserError, match="no MMYOLO names"):
        convert(det, tmp_path / "out.pth", "mmyolo")
    yolo = mmyolo_file(tmp_path / "yolo.pth", detector(1), mmengine)
    with pytest.raises(UserError, match="use --from mmyolo"):
        convert(yolo, tmp_path / "out.pth", "mmdet")
    with pytest.raises(UserError, match="both source and target"):
        convert(det, det)
    with pytest.raises(UserError, match="no second set of weights .* without EMA; leave --weights out"):
        weights_of({"state_dict": {"a": torch.zeros(1)}}, "raw")
    with pytest.raises(UserError, match="holds no weights"):
        weights_of({"state_dict": {}})


def test_the_two_sets_of_weights_of_hatdets_own_files() -> None:
    state = {"state_dict": {"a": torch.zeros(1)}, "raw_state_dict": {"a": torch.ones(1)}}
    assert weights_of(state)["a"].item() == 0.0 and weights_of(state, "raw")["a"].item() == 1.0


def test_weights_that_are_not_finite_are_not_converted(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a.weight": torch.tensor([1.0, float("nan")])}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth are not finite: a\.weight: 1 of 2 values are NaN; take an earlier"):
        convert(tmp_path / "a.pth", tmp_path / "b.pth")
    assert not (tmp_path / "b.pth").exists()


def test_the_head_of_a_proposal_network_has_an_older_name() -> None:
    one = torch.ones(1)
    alone = {"backbone.conv1.weight": one, "rpn_head.rpn_cls.bias": one}
    assert list(to_hatdet(alone, "mmdet")) == ["backbone.conv1.weight", "bbox_head.rpn_cls.bias"]
    two_stage = {"rpn_head.rpn_cls.bias": one, "roi_head.bbox_head.fc_cls.bias": one}
    assert list(to_hatdet(two_stage, "mmdet")) == list(two_stage)
