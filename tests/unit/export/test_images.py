"""A folder of images through the validation preprocessing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hatdet.data.transforms.geometry import Pad, Resize
from hatdet.data.transforms.tensor import ToTensor
from hatdet.export.images import ImageFolder
from hatdet.utils.errors import UserError

TRANSFORMS = (Resize(img_scale=(32, 32)), Pad(size=(32, 32), fill=114), ToTensor())


def save(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return image


def test_every_image_is_resized_and_padded(tmp_path: Path) -> None:
    save(tmp_path / "b.png", 20, 40)
    square = save(tmp_path / "sub" / "a.png", 32, 32, 1)
    (tmp_path / "notes.txt").write_text("no image")
    batches = list(ImageFolder(tmp_path, TRANSFORMS))
    assert [b["file_name"] for b in batches] == [["b.png"], ["a.png"]]
    assert all(b["img"].shape == (1, 3, 32, 32) and b["img"].dtype == torch.uint8 for b in batches)
    assert np.array_equal(batches[1]["img"][0].permute(1, 2, 0).numpy(), square), "BGR as decoded"
    assert (batches[0]["img"][0, :, 16:] == 114).all(), "20 x 40 becomes 16 x 32 with fill below"


def test_a_limit_spreads_over_the_list(tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path / f"{i}.png", 8, 8)
    assert [p.stem for p in ImageFolder(tmp_path, TRANSFORMS, limit=4).paths] == ["0", "2", "5", "7"]
    assert len(ImageFolder(tmp_path, TRANSFORMS, limit=40)) == 10


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of images at"):
        ImageFolder(tmp_path / "absent", TRANSFORMS)
    with pytest.raises(UserError, match="no image"):
        ImageFolder(tmp_path, TRANSFORMS)
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        next(iter(ImageFolder(tmp_path, TRANSFORMS)))
