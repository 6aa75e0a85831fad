"""The arithmetic of docs/own/arithmetic.md: its formula, its thresholds, and that training and executor have it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.config.load import load_config
from hatdet.engine.checks.arithmetic import config_arithmetic
from hatdet.integer.executor import IntExecutor
from hatdet.integer.profile import WeightedSums
from hatdet.integer.profiles.table import PROFILES, add_profile
from hatdet.integer.profiles.tflite_ref import TfliteRef
from hatdet.quantization.detector import quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams
from tests.unit.quantization.toy import ToyDetector

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example's module, and afterwards no trace of it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    sys.modules.pop("own_arithmetic", None)
    yield importlib.import_module("own_arithmetic")
    sys.modules.pop("own_arithmetic", None)
    PROFILES.pop("dsp16", None)


def rounded(acc: int, m: int, n: int) -> int:
    """Half up, in exact fractions."""
    return int((Fraction(acc * m, 2**n) + Fraction(1, 2)).__floor__())


def test_the_config_names_it(example: ModuleType) -> None:
    assert config_arithmetic(load_config(EXAMPLES / "own_arithmetic_config.py")) == "dsp16"
    assert isinstance(PROFILES["dsp16"], example.Dsp16)
    add_profile(example.Dsp16())  # a module that is executed again

    class Other(TfliteRef):
        name = "dsp16"

    with pytest.raises(UserError, match=r"an arithmetic 'dsp16' is there already \(the DSP's convolutions, everything"):
        add_profile(Other())
    with pytest.raises(UserError, match="unknown arithmetic 'dsp17'; did you mean 'dsp16'"):
        config_arithmetic(load_config(EXAMPLES / "own_arithmetic_config.py", {"arithmetic": "dsp17"}))


def test_a_number_by_hand(example: ModuleType) -> None:
    """0.1 is 0.8 / 2**3: m = 26214 (of 26214.4), n = 18. 125 times that is 12.4998: 12, where 12.5 would become 13."""
    req = example.SixteenBits(np.array([0.1]), "cpu")
    assert (int(req.m), int(req.n)) == (26214, 18) and float(req.scale) == 26214 / 2**18
    acc = torch.tensor([125.0, 126.0, -125.0, 2.0**24]).reshape(1, 1, 2, 2)
    assert req.centred(acc, -128, 127).flatten().tolist() == [12, 13, -12, 127]
    assert req.codes(acc, -128, 127, 128).flatten().tolist() == [140, 141, 116, 255]
    half = example.SixteenBits(np.array([0.5]), "cpu")
    assert half.centred(torch.tensor([1.0, -1.0, 3.0, -3.0]).reshape(1, 1, 2, 2), -9, 9).flatten().tolist() == [
        1, 0, 2, -1
    ]  # fmt: skip


def test_sums_on_both_sides_of_every_threshold(example: ModuleType) -> None:
    """The executor against exact fractions; the reference's rounding differs somewhere, or the test tells nothing."""
    multipliers = np.exp2(np.linspace(7.5, -20, 23)) * np.linspace(0.51, 0.99, 23)
    q = qparams(1.0, 0)
    of = WeightedSums(1.0, multipliers.astype(np.float32), q, np.full(23, 2.0**31))
    req = example.Dsp16().sums(of)
    differing = 0
    for channel, (m, n) in enumerate(zip(req.m.flatten().tolist(), req.n.flatten().tolist(), strict=True)):
        steps = [-(-((2 * code - 1) * 2 ** (n - 1)) // m) for code in range(-127, 128)]  # the first sum of each code
        sums = [s + d for s in steps for d in (-1, 0, 1) if abs(s + d) < 2**31]
        acc = torch.zeros(1, 23, 1, len(sums), dtype=torch.float64)
        acc[0, channel, 0] = torch.tensor(sums, dtype=torch.float64)
        found = req.centred(acc, -128, 127)[0, channel, 0].int().tolist()
        assert found == [min(127, max(-128, rounded(s, m, n))) for s in sums]
        reference = TfliteRef().sums(of)
        differing += sum(a != b for a, b in zip(found, reference.centred(acc, -128, 127)[0, channel, 0].tolist()))
    assert differing > 100


def test_the_executor_has_it(example: ModuleType) -> None:
    weight = np.array([3, -2], np.int8).reshape(2, 1, 1, 1)
    g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
    data: Any = dict(weight=weight, bias=np.array([5, -7], np.int32), weight_scale=np.array([0.1, 0.25], np.float32))
    g.conv("x", "y", 2, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0, 4), **data)
    codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 16, 16)
    made = IntExecutor(g.graph("y", profile="dsp16"))(torch.from_numpy(codes))[0].numpy()
    for channel, (w, b, real) in enumerate(((3, 5, 0.1), (-2, -7, 0.25))):
        req = example.SixteenBits(np.array([np.float64(np.float32(real))]), "cpu")
        whole = [4 + rounded(int(x) * w + b, int(req.m), int(req.n)) for x in codes.flatten()]
        assert made[0, channel].flatten().tolist() == [min(127, max(-128, v)) for v in whole]


def test_training_runs_what_is_scored(example: ModuleType) -> None:
    torch.manual_seed(0)
    model = ToyDetector().eval()
    fuse_bn(model)
    q = quantize_detector(
        model, observer="min_max", averaging_constant=0.01, qat_forward="integer", arithmetic="dsp16"
    ).eval()
    images = q.preprocess(torch.randint(0, 256, (2, 3, 36, 28), dtype=torch.uint8))
    with torch.no_grad():
        q.set_observing(True)
        q.set_quantizing(False)
        q.run_network(images)
        q.set_observing(False)
        q.set_quantizing(True)
        maps = q.run_network(images)
    graph = q.int_graph((36, 28))
    assert graph.metadata["profile"] == "dsp16" and graph.profile is PROFILES["dsp16"]
    executor = IntExecutor(graph)
    assert all(torch.equal(a, b) for a, b in zip(maps, executor.run_real(images), strict=True))
    graph.metadata["profile"] = "tflite_ref"
    assert not all(torch.equal(a, b) for a, b in zip(maps, IntExecutor(graph).run_real(images), strict=True))
