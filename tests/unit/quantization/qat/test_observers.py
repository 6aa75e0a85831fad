from __future__ import annotations

import pytest
import torch

from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize, WeightFakeQuantize
from hatdet.quantization.qat.observers import (
    OBSERVERS,
    RangeObserver,
    clip_kl,
    clip_mse,
    clip_percentile,
    quantization_error,
)


def test_min_max_unites_and_moving_average_averages() -> None:
    union, average = RangeObserver("min_max"), RangeObserver("moving_average", 0.25)
    for observer in (union, average):
        for x in (torch.tensor([-1.0, 3.0]), torch.tensor([0.0, 7.0])):
            observer(x)
            observer.commit()
    assert (float(union.min_val), float(union.max_val)) == (-1.0, 7.0)
    assert (float(average.min_val), float(average.max_val)) == (-0.75, 4.0)


def test_tensors_of_one_step_are_united_before_they_count() -> None:
    observer = RangeObserver("moving_average", 0.5)
    observer(torch.tensor([0.0, 6.0]))
    observer(torch.tensor([0.0, 12.0]))
    assert int(observer.count) == 0
    assert observer.commit()
    assert float(observer.max_val) == 12.0
    assert not observer.commit()


def test_not_a_number_never_enters() -> None:
    observer = RangeObserver()
    observer.add_range(0.0, float("inf"))
    assert not observer.commit()
    assert int(observer.count) == 0


def test_qparams_hold_zero_exactly() -> None:
    observer = RangeObserver("min_max")
    observer.add_range(0.0, 5.1)
    observer.commit()
    scale, zero = observer.calculate_qparams()
    assert float(scale) == pytest.approx(0.02, rel=1e-6) and int(zero) == -128
    observer = RangeObserver("min_max")
    observer.add_range(2.0, 5.1)  # widened to zero
    observer.commit()
    assert int(observer.calculate_qparams()[1]) == -128
    observer = RangeObserver("min_max")
    observer.add_range(-2.55, 0.0)
    observer.commit()
    assert int(observer.calculate_qparams()[1]) == 127


@pytest.mark.parametrize("name", OBSERVERS)
def test_every_observer_takes_a_constant_and_a_spread_tensor(name: str) -> None:
    for x in (
        torch.zeros(50),
        torch.full((7,), -3.0),
        torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)),
    ):
        observer = RangeObserver(name)
        observer(x)
        assert observer.commit()
        low, high = float(observer.min_val), float(observer.max_val)
        assert float(x.min()) - 1e-6 <= low <= high <= float(x.max()) + 1e-6


def test_clipping_methods_cut_an_outlier() -> None:
    x = torch.cat([torch.randn(60000, generator=torch.Generator().manual_seed(1)).abs(), torch.tensor([1000.0])])
    assert clip_percentile(x)[1] < 10
    low, high = clip_mse(torch.cat([x[:-1], torch.tensor([9.0])]))
    assert quantization_error(x[:-1], low, high) <= quantization_error(x[:-1], 0.0, 9.0)
    assert clip_kl(x)[1] < 1000


def test_mix_is_never_worse_than_min_max() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(2)) ** 3
    observer = RangeObserver("mix")
    observer(x)
    observer.commit()
    mixed = quantization_error(x, float(observer.min_val), float(observer.max_val))
    assert mixed <= quantization_error(x, float(x.min()), float(x.max()))


def test_unknown_observer() -> None:
    with pytest.raises(ValueError, match="percentile"):
        RangeObserver("histogram")


def test_fixed_quantization_never_moves() -> None:
    quantizer = ActivationFakeQuantize()
    quantizer.fix(1 / 255, -128)
    quantizer(torch.tensor([0.0, 40.0]))
    quantizer.commit()
    assert float(quantizer.scale) == pytest.approx(1 / 255) and quantizer.calibrated


def test_weight_codes_by_hand() -> None:
    quantizer = WeightFakeQuantize()
    quantizer.allocate(2, torch.device("cpu"))
    weight = torch.tensor([[1.27, -0.635], [0.0, 0.0]])
    quantizer.observe(weight, torch.tensor([0.0, 16384.0 * 0.5]))
    assert quantizer.scale.tolist() == pytest.approx([0.01, 0.5])
    assert quantizer.codes(weight).tolist() == [[127.0, -64.0], [0.0, 0.0]]  # -63.5 goes to the even code
