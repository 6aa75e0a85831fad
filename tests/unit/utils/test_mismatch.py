from __future__ import annotations

import pytest
from torch import nn

from hatdet.utils.checkpoints.checkpoint import load_state
from hatdet.utils.checkpoints.mismatch import reasons
from hatdet.utils.errors import UserError


def test_other_classes() -> None:
    rows = [("bbox_head.rtm_cls.0.weight", (80, 64, 1, 1), (3, 64, 1, 1)), ("bbox_head.rtm_cls.0.bias", (80,), (3,))]
    assert reasons(rows, [], []) == [
        "bbox_head.rtm_cls.0.weight is 80x64x1x1 in the file, 3x64x1x1 in the model, another num_classes?, "
        "and 1 more in bbox_head"
    ]


def test_another_width_is_one_reason_however_many_layers() -> None:
    rows = [(f"backbone.{i}.weight", (96, 48, 3, 3), (64, 32, 3, 3)) for i in range(300)]
    rows.append(("bbox_head.reg.weight", (4, 96, 1, 1), (4, 64, 1, 1)))  # nothing but the width, too
    rows.append(("bbox_head.cls.weight", (80, 96, 1, 1), (3, 64, 1, 1)))
    found = reasons(rows, [], [])
    assert found[0] == "300 layers of the file are 1.5 times as wide as the model's (widen_factor, or another variant)"
    assert found[1] == "bbox_head.cls.weight is 80x96x1x1 in the file, 3x64x1x1 in the model" and len(found) == 2
    narrow = [(name, ours, theirs) for name, theirs, ours in rows]
    assert reasons(narrow, [], [])[0].startswith("300 layers of the file are 1.5 times narrower than the model's")


def test_empty_tensors_have_no_ratio() -> None:
    rows = [(f"a.{i}", (0, 2), (3, 2)) for i in range(9)]
    assert reasons(rows, [], []) == ["a.0 is 0x2 in the file, 3x2 in the model, and 8 more in a"]


def test_parts_that_one_side_lacks_the_largest_first() -> None:
    missing = [f"neck.blocks.{i}.weight" for i in range(5)]
    extra = [f"backbone.stage4.0.conv{i}.weight" for i in range(7)] + ["bbox_head.scale"] + ["x.y"]
    assert reasons([], missing, extra) == [
        "the model has nothing for backbone.stage4.0 (7 tensors)",
        "the file has nothing for neck.blocks (5 tensors)",
        "the model has nothing for bbox_head.scale (1 tensor)",
    ]


def test_names_that_share_only_their_first_word_have_an_example() -> None:
    assert reasons([], ["backbone.stage1.attention.weight", "backbone.stage2.attention.weight"], []) == [
        "the file has nothing for backbone (2 tensors, such as backbone.stage1.attention.weight)"
    ]


def test_the_refusal_is_one_line() -> None:
    weights = {f"layer{i}.weight": nn.Linear(2, 2).weight for i in range(400)}
    with pytest.raises(UserError) as raised:
        load_state(nn.Sequential(*(nn.Linear(2, 2) for _ in range(50))), weights, source="a.pth")
    text = str(raised.value)
    assert text.startswith("the weights do not fit the model (0 of 100 tensors do): the ")
    assert text.endswith(
        "take the config that a.pth was trained with, or load what fits with allow_miss=True, ignore_extra=True"
    )
    assert "\n" not in text and len(text) < 420
