"""QAT in bfloat16: the integers are the same, only the products of gradients are not float32's."""

from __future__ import annotations

import pytest
import torch
from quantization_toy import batch, detector

from hatdet.quantization.converters import Float2QAT, ModelConvertPipeline
from hatdet.quantization.operators.windows.weighted import Call
from hatdet.quantization.qat.network import _backward_dtype

PROFILES = ["tflite_ref", "xnnpack"]


def _step(arithmetic: str, dtype: torch.dtype | None) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The maps of a training step and the gradients of all parameters."""
    q = ModelConvertPipeline(converters=[Float2QAT()], qconfig_params={"arithmetic": arithmetic})(detector(0))
    data = batch(1, size=2, height=32, width=32)
    images = q.preprocess(data["img"])
    q.run_network(images)  # first ranges
    q.train()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        maps = q.run_network(images)
    torch.stack([(m.float() ** 2).mean() for m in maps]).sum().backward()
    return [m.detach() for m in maps], {n: p.grad for n, p in q.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("arithmetic", PROFILES)
def test_integers_do_not_depend_on_it_and_gradients_are_near(arithmetic: str) -> None:
    plain_maps, plain = _step(arithmetic, None)
    mixed_maps, mixed = _step(arithmetic, torch.bfloat16)
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(plain_maps, mixed_maps, strict=True))
    assert plain.keys() == mixed.keys() and len(plain) > 10
    assert all(g.dtype == torch.float32 for g in mixed.values())
    errors = {n: float((g - mixed[n]).norm() / g.norm().clamp(min=1e-12)) for n, g in plain.items()}
    assert max(errors.values()) < 0.05, errors
    assert sum(error > 1e-4 for error in errors.values()) > len(errors) // 2  # they are bfloat16's


@pytest.mark.parametrize("arithmetic", PROFILES)
def test_without_autocast_gradients_are_those_of_float32(arithmetic: str) -> None:
    first, second = _step(arithmetic, None)[1], _step(arithmetic, torch.float16)[1]
    assert all(torch.equal(first[name], second[name]) for name in first)  # float16 has too little range


def test_the_dtype_is_read_where_the_step_begins() -> None:
    assert _backward_dtype("cpu") is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert _backward_dtype("cpu") is torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            assert _backward_dtype("cpu") is None
    with torch.autocast("cpu", dtype=torch.float16):
        assert _backward_dtype("cpu") is None


def test_depthwise_gradients_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 they take several times as long, and codes and gradients are float32 already."""
    dtypes: dict[bool, set[torch.dtype | None]] = {True: set(), False: set()}
    products = Call.products

    def recorded(call: Call, g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, wanted: list[bool]) -> object:
        dtypes[weight.shape[1] == 1 and x.shape[1] > 1].add(call.backward)
        return products(call, g, x, weight, wanted)

    monkeypatch.setattr(Call, "products", recorded)
    _step("tflite_ref", torch.bfloat16)
    assert dtypes == {True: {None}, False: {torch.bfloat16}}
