"""A folder of image files through the validation preprocessing, as batches of one image: for calibration and parity."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.data.image_file import (
    SUFFIXES,
    ImageError,
    bits_of,
    check_image,
    decode,
    decode_deep,
    may_be_deep,
    read_bytes,
)
from hatdet.data.transforms.apply import apply
from hatdet.data.transforms.sample import Context, Sample, Transform, image_sample
from hatdet.utils.errors import UserError


def image_files(directory: str | os.PathLike[str]) -> list[Path]:
    """The image files under a folder and all folders inside, by path.

    Raises:
        UserError: the folder is missing or holds no image.
    """
    root = Path(directory)
    if not root.is_dir():
        raise UserError(f"no folder of images at {root}; name one with --image_path")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise UserError(f"no image ({', '.join(SUFFIXES)}) under {root}; name a folder with pictures")
    return paths


class ImageFolder:
    """Batches ``{"img": uint8 (1, C, H, W), "file_name": [str]}`` of the images under a folder, by path.

    Args:
        directory: searched with all folders inside.
        transforms: what the validation data set applies; the last makes a tensor.
        limit: at most so many images, evenly spread over the sorted list; None: all.
        bits: of 16-bit files, as in :func:`read_image`.

    Raises:
        UserError: the folder is missing or holds no image.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        transforms: Sequence[Transform],
        limit: int | None = None,
        bits: int = 16,
    ) -> None:
        paths = image_files(directory)
        if limit is not None and len(paths) > limit:
            paths = [paths[i * len(paths) // limit] for i in range(limit)]
        self.paths, self.transforms, self.bits = paths, list(transforms), bits

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index, path in enumerate(self.paths):
            sample = apply_transforms(read_image(path, self.bits), self.transforms, path.name, index)
            assert sample.tensor is not None, "the validation transforms end with ToTensor"
            yield {"img": sample.tensor[None], "file_name": [path.name]}


def read_image(path: Path, bits: int = 16) -> NDArray[np.uint8]:
    """uint8 (h, w, 3) BGR of an image file, checked before it is decoded; ``bits`` of a 16-bit file are used.

    Raises:
        UserError: it cannot be read; with the path and the reason.
    """
    try:
        data = read_bytes(path)
        check_image(data)
        return decode(data, bits=bits)
    except ImageError as error:
        raise UserError(f"{path} {error}") from error


def bits_in_use(paths: Sequence[Path]) -> int:
    """How many bits the 16-bit files among ``paths`` use, all together; 16 where there is none, or none can be read."""
    largest = []
    for path in paths:
        with contextlib.suppress(ImageError):
            data = read_bytes(path)
            if may_be_deep(check_image(data), data) and (pixels := decode_deep(data)).dtype == np.uint16:
                largest.append(int(pixels.max()))
    return bits_of(max(largest)) if largest else 16


def apply_transforms(image: NDArray[np.uint8], transforms: Sequence[Transform], name: str, index: int = 0) -> Sample:
    """An image (uint8 (h, w, 3), BGR) after the validation transforms; ``name`` is what messages call it.

    Raises:
        UserError: a transform dropped it, or wants other images.
    """
    from hatdet.data.transforms.tensor import as_decoded  # it imports OpenCV

    height, width = image.shape[:2]
    sample = Sample(
        index=index,
        img_id=index,
        file_name=name,
        orig_size=(height, width),
        tiles=[],
        canvas=(height, width),
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        img_size=(height, width),
    )
    sample = image_sample(sample, as_decoded(image, transforms))
    context = Context(rng=np.random.default_rng(0), partners=_NoPartners(), must_keep=True)
    for transform in transforms:
        result = apply([transform], sample, context)
        if result is None:
            raise UserError(
                f"{type(transform).__name__} dropped {name}; validation must keep every image; "
                "leave it out of the validation transforms"
            )
        sample = result
    return sample


class _NoPartners:
    """Validation mixes no images."""

    indices: tuple[int, ...] = ()

    def load(self, index: int) -> Sample:
        raise UserError("validation transforms must not mix images (Mosaic, MixUp); leave them out")
