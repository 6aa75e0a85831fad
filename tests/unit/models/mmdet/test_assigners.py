"""Which prior learns which box."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hatdet.models.mmdet.instances import Instances
from tests.helpers.components import case, made, names, reference


def instances(tensors: dict[str, Any]) -> Instances:
    return Instances(**tensors)


@pytest.mark.parametrize("name", [n for n in names("assigners") if not str(n).startswith("hungarian")])
def test_reference(name: str) -> None:
    kept = case("assigners", name)
    given, wanted = kept["inputs"], kept["outputs"]
    ignored = given["gt_bboxes_ignore"]
    result = made(kept["args"], kept["type"]).assign(
        instances(given["pred_instances"]),
        instances(given["gt_instances"]),
        None if ignored is None else Instances(bboxes=ignored),
        **given["kwargs"],
    )
    assert result.num_gts == wanted["num_gts"]
    assert torch.equal(result.gt_inds, wanted["gt_inds"])
    assert torch.equal(result.labels, wanted["labels"])
    if wanted["max_overlaps"] is None:
        assert result.max_overlaps is None
    else:
        torch.testing.assert_close(result.max_overlaps, wanted["max_overlaps"], rtol=1e-6, atol=1e-6)
    for key, want in wanted.items():
        if key.startswith("extra_"):
            assert reference().same(result.get_extra_property(key.removeprefix("extra_")), want, 1e-6), key
        elif key == "assign_metrics":
            torch.testing.assert_close(result.assign_metrics, want)
