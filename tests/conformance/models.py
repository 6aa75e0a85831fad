"""The model of an official config against its row: parameters, names and shapes of the state, outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.building import Builder
from hatdet.config.mmdetection.load import read
from hatdet.config.mmdetection.network.translate import translate_model
from hatdet.utils.errors import ConfigError
from tests.conformance.material import configs
from tests.helpers.components import reference, state_sha256

PIXELS = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}


def build(row: dict[str, Any]) -> nn.Module:
    """The model of a row's config."""
    values = read(configs(row["vocabulary"]) / row["path"])
    model = translate_model(values, row["vocabulary"], PIXELS).model
    built: nn.Module = Builder().build(model, "model")
    return built


def problems(row: dict[str, Any]) -> list[str]:
    """What is not as the row says; an empty list: all of it is."""
    torch.manual_seed(0)
    try:
        model = build(row)
    except ConfigError as error:
        return [str(error)]
    except Exception as error:  # the report names every row that fails, whatever it is
        return [f"{type(error).__name__}: {str(error).splitlines()[0]}"]
    found = []
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != row["parameters"]:
        found.append(f"{count} parameters, not {row['parameters']}")
    if state_sha256(model) != row["state_sha256"]:
        found.append(f"other names or shapes in the state ({len(model.state_dict())} entries, not "
                     f"{row['state_entries']})")  # fmt: skip
    if found or "outputs" not in row:
        return found
    try:
        return _outputs(model, row)
    except Exception as error:
        return [f"forward: {type(error).__name__}: {error}"]


def _outputs(model: Any, row: dict[str, Any]) -> list[str]:
    material = reference()
    material.fill(model).eval()
    with torch.no_grad():
        feats = model.backbone(material.rnd("input", *row.get("input", (1, 3, 256, 320))))
        feats = model.neck(feats) if hasattr(model, "neck") else feats
        got = dict(_flat(getattr(model, model.head_name).outputs(feats), "bbox_head"))
    found = []
    for want in row["outputs"]:
        value = got.pop(want["name"], None)
        found += [f"no output {want['name']}"] if value is None else list(_compared(value, want))
    return found + [f"an output {name} of shape {list(value.shape)} too many" for name, value in got.items()]


def _flat(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    else:
        for index, item in enumerate(value or ()):
            yield from _flat(item, f"{name}[{index}]")


def _compared(value: Tensor, want: dict[str, Any], tolerance: float = 1e-4) -> Iterator[str]:
    """Checksums, to a ten thousandth of the magnitude."""
    if list(value.shape) != want["shape"]:
        yield f"{want['name']}: shape {list(value.shape)}, not {want['shape']}"
        return
    exact = value.double()
    total = float(exact.abs().sum())
    checks = (
        ("abs_sum", abs(total - want["abs_sum"]), want["abs_sum"]),
        ("sum", abs(float(exact.sum()) - want["sum"]), want["abs_sum"]),
    )
    for name, difference, scale in checks:
        if not difference <= tolerance * max(scale, 1e-6):
            yield f"{want['name']}: {name} differs by {difference:.3g} at {scale:.3g}"
    first = exact.flatten()[:8]
    worst = float((first - torch.tensor(want["first8"], dtype=torch.float64)).abs().max())
    if not worst <= tolerance * max(want["max_abs"], 1e-6):
        yield f"{want['name']}: first8 differ by {worst:.3g} at {want['max_abs']:.3g}"
