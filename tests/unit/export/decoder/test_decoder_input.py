"""The decoders' way from a picture to input codes: the toolbox's own, to the last code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.geometry import Pad, Resize
from hatdet.data.transforms.sample import Context, Sample, image_sample
from hatdet.data.transforms.tensor import Normalize, ToTensor
from hatdet.export.decoder.body import bgr_to_yuv, resize
from hatdet.export.decoder.input import preprocessing
from hatdet.export.decoder.model import decoder_model
from hatdet.utils.errors import UserError
from tests.helpers.decoders import Decoders, file_metadata
from tests.helpers.rtmdet import build_rtmdet

SIZE = (96, 160)
SCALES = [(0.05, 0)] * 6
FILES = [(96, 160), (192, 320), (48, 80), (480, 640), (61, 400), (333, 97), (1, 1), (1, 500), (97, 1), (95, 161)]


def toolbox_codes(image: np.ndarray, transforms: list[Any], bgr_to_rgb: bool = False) -> np.ndarray:
    """Pixels minus 128 of the transforms' picture."""
    size = image.shape[:2]
    no_boxes = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    sample = image_sample(Sample(0, 0, "x", size, [], size, *no_boxes, size), image)
    for transform in transforms:
        sample = transform(sample, Context(np.random.default_rng(0), None))  # type: ignore[arg-type]
    assert sample.tensor is not None
    pixels = sample.tensor.permute(1, 2, 0).numpy().astype(np.int16)
    return ((pixels[:, :, ::-1] if bgr_to_rgb else pixels) - 128).astype(np.int8)[None]


@pytest.mark.parametrize(
    "options",
    [
        dict(keep_ratio=True),
        dict(to_yuv=True),
        dict(to_rgb=True),
        dict(bgr_to_rgb=True),
        dict(to_rgb=True, bgr_to_rgb=True),
        dict(keep_ratio=False),
        dict(fill=0, to_yuv=True),
        dict(limit=(60, 160)),  # the picture stays smaller than the input, as in RetinaNet's (800, 1024) of 1024 x 1024
        dict(limit=(60, 100), keep_ratio=False),
    ],
    ids=str,
)
def test_both_decoders_make_the_toolbox_s_codes(options: dict[str, Any], tmp_path: Path) -> None:
    flip = bool(options.get("bgr_to_rgb", False))
    transforms = [
        Resize(tuple(options.get("limit", SIZE)), keep_ratio=bool(options.get("keep_ratio", True))),
        Pad(SIZE, fill=int(options.get("fill", 114))),
        ToTensor(to_yuv=bool(options.get("to_yuv", False)), to_rgb=bool(options.get("to_rgb", False))),
    ]
    detector = build_rtmdet(num_classes=3, widen_factor=0.125)
    metadata = {**file_metadata(detector, SIZE, SCALES), "bgr_to_rgb": flip}
    metadata["preprocessing"] = preprocessing(transforms, metadata)
    decoders = Decoders(tmp_path, metadata)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*file, 3), dtype=np.uint8) for file in FILES]
    for image, from_c in zip(images, decoders.c_letterbox(images), strict=True):
        expected = toolbox_codes(image, transforms, flip)
        assert len(np.unique(expected)) > 1
        assert np.array_equal(decoders.module.preprocess(image), expected), image.shape
        assert np.array_equal(from_c, expected), image.shape


def test_resize_is_opencv_s() -> None:
    rng = np.random.default_rng(1)
    for _ in range(150):
        height, width, h, w = (int(n) for n in rng.integers(1, 200, 4))
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert np.array_equal(resize(image, h, w), cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR))


def test_yuv_is_opencv_s_on_a_grid_of_all_colours() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(1, -1, 3)
    assert np.array_equal(bgr_to_yuv(grid), cv2.cvtColor(grid, cv2.COLOR_BGR2YCrCb)[:, :, [0, 2, 1]])


METADATA = {"bgr_to_rgb": False}


def test_record() -> None:
    transforms = [Resize(SIZE), Pad(SIZE), ToTensor(to_yuv=True), Normalize(128.0, (128.0, 128.0, 128.0))]
    assert preprocessing(transforms, METADATA) == {
        "resize": [96, 160],
        "size": [96, 160],
        "keep_ratio": True,
        "interpolation": "linear",
        "fill": 114,
        "channels": "YUV",
        "code": "pixel - 128",
    }
    assert preprocessing([Resize(SIZE, keep_ratio=False)], METADATA)["channels"] == "BGR"


@pytest.mark.parametrize(
    ("transforms", "metadata", "message"),
    [
        ([Resize(SIZE), HSVRandomAug(), Pad(SIZE)], METADATA, "HSVRandomAug is none of Resize, Pad, ToTensor"),
        ([Pad(SIZE), Resize(SIZE)], METADATA, "Resize stands after Pad"),
        ([Pad(SIZE)], METADATA, "there is no Resize"),
        ([Resize(SIZE)], METADATA, "without Pad"),
        ([Resize(SIZE, interpolation="area"), Pad(SIZE)], METADATA, "averages"),
        ([Resize(SIZE, either_way=True), Pad(SIZE)], METADATA, "the network's input does not turn"),
        ([Resize(SIZE), Pad(SIZE)], {**METADATA, "input_color": "yuv444"}, "make BGR pictures, .* is 'yuv444'"),
        ([Resize((97, 96)), Pad(SIZE)], METADATA, r"img_scale=\(97, 96\)\) does not fit into Pad\(size=\(96, 160\)\)"),
        ([Resize(SIZE), Pad(SIZE), ToTensor(to_yuv=True)], {**METADATA, "bgr_to_rgb": True}, "gives V, U, Y"),
    ],
)
def test_what_a_decoder_cannot_repeat_is_refused(transforms: list[Any], metadata: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        preprocessing(transforms, metadata)


def test_size_of_the_transforms_is_that_of_the_model() -> None:
    detector = build_rtmdet(num_classes=3, widen_factor=0.125)
    metadata = file_metadata(detector, SIZE, SCALES)
    metadata["preprocessing"] = preprocessing([Resize((96, 96)), Pad((96, 96))], metadata)
    with pytest.raises(UserError, match=r"make pictures of \[96, 96\], the model takes \[96, 160\]"):
        decoder_model(metadata)
