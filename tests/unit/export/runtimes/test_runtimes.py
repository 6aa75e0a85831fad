"""The runtimes' common interface."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from hatdet.export.runtimes import integer as runtimes
from hatdet.export.runtimes import micro_process
from hatdet.export.tflite import int8 as tflite
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import random_codes, small_network

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")


@pytest.fixture(scope="module")
def model() -> bytes:
    return tflite.write(small_network())


@pytest.fixture(params=["LiteRTRuntime", "TFLiteMicroRuntime"])
def make(request: pytest.FixtureRequest) -> type:
    if request.param == "TFLiteMicroRuntime":
        pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    return getattr(runtimes, request.param)


def test_runs_any_number_of_images(make: type, model: bytes) -> None:
    runtime = make(model)
    assert runtime.input_shape == (1, 32, 48, 3) and runtime.output_names == ("cls_8", "reg_8")
    codes = random_codes((3, 32, 48, 3))
    cls, reg = runtime.run(codes)
    assert cls.shape == (3, 16, 24, 3) and reg.shape == (3, 8, 12, 4) and cls.dtype == np.int8
    again = runtime.run(codes[2:])
    assert np.array_equal(again[0], cls[2:]) and np.array_equal(again[1], reg[2:])


def test_all_tensors_on_request(make: type, model: bytes) -> None:
    codes = random_codes((2, 32, 48, 3))
    tensors = make(model, keep_tensors=True).run_all(codes)
    assert np.array_equal(tensors["images"], codes)
    assert tensors["stem"].shape == (2, 16, 24, 8) and "images/pad_1_0_1_0" in tensors
    assert np.array_equal(tensors["cls_8"], make(model).run(codes)[0])
    with pytest.raises(ValueError, match="keep_tensors=True"):
        make(model).run_all(codes)


@pytest.mark.parametrize("shape", [(0, 32, 48, 3), (1, 48, 32, 3), (32, 48, 3)])
def test_wrong_inputs_are_named(make: type, model: bytes, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes int8 codes of shape \(images, 32, 48, 3\)"):
        make(model).run(np.zeros(shape, np.int8))
    with pytest.raises(ValueError, match="got uint8"):
        make(model).run(np.zeros((1, 32, 48, 3), np.uint8))


def test_not_a_model(make: type) -> None:
    with pytest.raises(ValueError, match="not a TensorFlow Lite model"):
        make(b"0123456789")


def test_unknown_kernels(model: bytes) -> None:
    with pytest.raises(ValueError, match="'reference' or 'default'"):
        runtimes.LiteRTRuntime(model, kernels="fast")


def test_missing_packages_are_named(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro.runtime", None)
    with pytest.raises(UserError, match=r"TFLite Micro is not installed .*pip install tflite-micro"):
        runtimes.TFLiteMicroRuntime(model)
    found, missing, refused = runtimes.try_runtimes(model)
    assert [r.name for r in found] == ["LiteRT reference"] and list(missing) == ["TFLite Micro"] and not refused


def test_layouts() -> None:
    codes = torch.arange(24, dtype=torch.int8).reshape(1, 2, 3, 4)
    nhwc = runtimes.to_nhwc(codes)
    assert nhwc.shape == (1, 3, 4, 2) and nhwc[0, 0, 0].tolist() == [0, 12]
    assert torch.equal(runtimes.to_nchw(nhwc), codes)


def test_micro_on_many_images_is_spread_over_processes(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results, and their order, are those of one interpreter; a process that fails is an error, not a result."""
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    micro = runtimes.TFLiteMicroRuntime(model)
    codes = np.random.default_rng(1).integers(-128, 128, (6, *micro.input_shape[1:])).astype(np.int8)
    alone = [micro.run(codes[i : i + 1]) for i in range(6)]
    monkeypatch.setattr(micro_process, "usable_processors", lambda: 2)
    monkeypatch.setattr(runtimes, "usable_processors", lambda: 2)
    monkeypatch.setattr(runtimes, "WORTH_PROCESSES_S", 0.0)
    for count in (6, 2):
        together = micro.run(codes[:count])
        for number, values in enumerate(together):
            assert np.array_equal(values, np.concatenate([outputs[number] for outputs in alone[:count]]))
    monkeypatch.setattr(micro, "_model", model[:200])
    with pytest.raises(runtimes.ModelRefused, match="in a process of its own: its process ended with status -?[0-9]+"):
        micro.run(codes)
