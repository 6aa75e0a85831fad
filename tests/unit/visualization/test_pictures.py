from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hatdet.visualization.colors import bgr_color
from hatdet.visualization.pictures import batch_picture, labels_picture, save_train_batch, write_image


def batch(size: int) -> dict[str, torch.Tensor]:
    images = torch.full((size, 3, 32, 48), 100, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    boxes = torch.tensor([[8.0, 16, 40, 28], [0, 0, 0, 0]]).repeat(size, 1, 1)
    return {"img": images, "gt_boxes": boxes, "gt_labels": torch.tensor([[0, -1]]).repeat(size, 1)}


def test_batch_picture_draws_real_boxes_only() -> None:
    """Images of 32 x 48 are enlarged to a longer side of 320, so that labels have room."""
    picture = batch_picture(batch(1), ("cup",))
    assert picture.shape == (213, 320, 3)
    assert tuple(picture[167, 53]) == bgr_color(0)
    assert tuple(picture[200, 0]) == (100, 100, 100)
    assert batch_picture(batch(5), ("cup",)).shape == (2 * 217 - 4, 3 * 324 - 4, 3)
    assert batch_picture(batch(5), ("cup",), max_images=1).shape == (213, 320, 3)
    with pytest.raises(ValueError, match="expected"):
        batch_picture({"img": np.zeros((3, 4, 4))}, ())


def test_train_batch_file_reads_back(tmp_path: Path) -> None:
    path = save_train_batch(tmp_path / "run" / "train_batch0.jpg", batch(2), ("cup",))
    assert cv2.imread(str(path)).shape == (213, 644, 3)


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises((OSError, cv2.error)):
        write_image(tmp_path / "a.nothing", np.zeros((4, 4, 3), np.uint8))
    assert not (tmp_path / "a.nothing").exists()


def test_labels_picture() -> None:
    boxes = np.array([[0, 0, 10, 20], [100, 50, 200, 100]], float)
    picture = labels_picture(boxes, np.array([0, 1]), np.array([[240, 320], [100, 200]]), ("a", "b", "c"))
    assert picture.shape == (324, 3 * 300 + 16, 3)
    assert tuple(picture[40, 280]) == bgr_color(0)  # one object each: the bars of a and b are full
    assert labels_picture(np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 2), int), ()).shape == picture.shape
