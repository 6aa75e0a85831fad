"""Headers, completeness and decoding of image files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from hatdet.data.image_file import ImageError, check_image, decode, read_bytes, read_header

PICTURE = (np.arange(31 * 47 * 3) % 251).reshape(31, 47, 3).astype(np.uint8)


def encoded(suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, PICTURE)[1].tobytes())


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".jpg", "JPEG"), (".png", "PNG"), (".bmp", "BMP"), (".webp", "WebP"), (".tiff", "TIFF")]
)
def test_header_says_the_size(suffix: str, kind: str) -> None:
    data = encoded(suffix)
    assert read_header(data) == (kind, 47, 31)
    assert check_image(data).width == 47
    assert decode(data).shape == (31, 47, 3)


def test_lossless_formats_keep_the_pixels_and_grey_becomes_three_channels() -> None:
    assert np.array_equal(decode(encoded(".png")), PICTURE)
    grey = cv2.imencode(".png", PICTURE[:, :, 0])[1].tobytes()
    assert np.array_equal(decode(grey), np.repeat(PICTURE[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_cut_file_is_noticed(suffix: str) -> None:
    data = encoded(suffix)
    for length in (len(data) // 2, len(data) - 3):
        with pytest.raises(ImageError, match="cut off"):
            check_image(data[:length])


def test_a_damaged_png_is_noticed() -> None:
    data = bytearray(encoded(".png"))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="wrong checksum"):
        check_image(bytes(data))


def test_the_claimed_size_is_limited_before_decoding() -> None:
    data = bytearray(encoded(".png"))
    data[16:24] = struct.pack(">II", 65000, 65000)
    with pytest.raises(ImageError, match="65000x65000 pixels, more than the limit of 128,000,000"):
        check_image(bytes(data))
    with pytest.raises(ImageError, match="more than the limit of 1,456 "):
        check_image(encoded(".jpg"), max_pixels=31 * 47 - 1)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"BM", b"II*\0", b"\x89PNG\r\n\x1a\n", b"<svg/>"])
def test_bytes_that_are_no_image(data: bytes) -> None:
    with pytest.raises(ImageError):
        check_image(data)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, message in [
        ("pipe", "not a regular file"),  # opening it would wait for ever
        ("link", "symbolic link to nowhere"),
        ("missing", "does not exist"),
        (".", "is a directory"),
    ]:
        with pytest.raises(ImageError, match=message):
            read_bytes(tmp_path / name)


def with_thumbnail(data: bytes) -> bytes:
    """A camera's JPEG: a whole small JPEG lies in a segment before the picture."""
    thumbnail = encoded(".jpg")
    content = b"Exif\0\0" + thumbnail
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


def jpeg(*options: int) -> bytes:
    big = cv2.resize(PICTURE, (200, 160), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".jpg", big, list(options))[1].tobytes())


@pytest.mark.parametrize(
    "options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 3)], ids=str
)
def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture(options: tuple[int, ...]) -> None:
    plain = jpeg(*options)
    data = with_thumbnail(plain)
    assert check_image(data) == ("JPEG", 200, 160)
    assert decode(data).shape == (160, 200, 3)
    for length in range(60, len(data) - 1, 53):  # cut inside the thumbnail, behind it, in the picture's own data
        with pytest.raises(ImageError, match=r"cut off|ends inside its header|without a frame header"):
            check_image(data[:length])
    assert check_image(data + b"trailer of a phone \xff\xd8 and more") == ("JPEG", 200, 160)
    with pytest.raises(ImageError, match="cut off"):  # a cut picture with a whole one behind it
        check_image(data[: len(data) // 2])


@pytest.mark.parametrize("suffix", [".bmp", ".tiff"])
def test_cut_bmp_and_tiff_files_are_noticed_without_the_decoder(suffix: str) -> None:
    data = encoded(suffix)
    for length in (len(data) // 3, len(data) * 9 // 10):
        with pytest.raises(ImageError):
            check_image(data[:length])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_a_picture_of_8_bits_beside_deep_ones_is_decoded_once(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever bits the 16-bit pictures of its data set use."""
    data = cv2.imencode(suffix, np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3))[1].tobytes()
    plain, calls, decoder = decode(data), [], cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *args: calls.append(args) or decoder(*args))
    assert np.array_equal(decode(data, bits=12), plain)
    assert len(calls) == 1
