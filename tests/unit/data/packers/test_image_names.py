"""Which file a listed name stands for."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from hatdet.data.packers.image_names import ImageFolder

NFC, NFD = (unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "train2017"
    (root / "sub").mkdir(parents=True)
    for name in ("x.jpg", "sub/y.jpg", "a b.jpg", "100%.jpg", "Big.JPG", "same.jpg", "SAME.JPG", NFD):
        (root / name).write_bytes(name.encode())
    (tmp_path / "data" / "secret.jpg").write_bytes(b"outside")
    return root


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("x.jpg", "x.jpg"),
        ("./x.jpg", "x.jpg"),
        (".\\x.jpg", "x.jpg"),
        ("sub/y.jpg", "sub/y.jpg"),
        ("sub\\y.jpg", "sub/y.jpg"),
        ("sub//y.jpg", "sub/y.jpg"),
        ("sub/../x.jpg", "x.jpg"),
        ("train2017/x.jpg", "x.jpg"),
        ("train2017\\sub\\y.jpg", "sub/y.jpg"),
        ("data/train2017/x.jpg", "x.jpg"),
        ("../train2017/x.jpg", "x.jpg"),
        ("C:\\Users\\me\\train2017\\x.jpg", "x.jpg"),
        ("/data/train2017/sub/y.jpg", "sub/y.jpg"),
        ("a%20b.jpg", "a b.jpg"),
        ("train2017/a%20b.jpg", "a b.jpg"),
        ("100%.jpg", "100%.jpg"),
        ("100%25.jpg", "100%.jpg"),
        ("x.jpg \r\n", "x.jpg"),
        ("big.jpg", "Big.JPG"),
        ("SUB/Y.JPG", "sub/y.jpg"),
        (NFC, NFD),
        (NFC.upper(), NFD),
        ("same.jpg", "same.jpg"),
    ],
)
def test_what_is_meant_is_found(folder: Path, name: str, path: str) -> None:
    found = ImageFolder(folder).look_up(name)
    assert not found.error
    assert (folder / found.path).samefile(folder / path)
    assert found.size == (folder / path).stat().st_size


def test_absolute_paths_inside_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    for root in (folder, tmp_path / "link"):
        for name in (str(folder / "x.jpg"), f"file://{folder}/x.jpg", f"file://localhost{folder}/a%20b.jpg"):
            found = ImageFolder(root).look_up(name)
            assert found.path in ("x.jpg", "a b.jpg") and not found.error


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no.jpg", "does not exist"),
        ("x.png", "does not exist; there is 'x.jpg'"),
        ("sub/y", "does not exist; there is 'y.jpg'"),
        ("../secret.jpg", "leaves the image folder, refused"),
        ("train2017/../../secret.jpg", "leaves the image folder, refused"),
        ("..%2Fsecret.jpg", "does not exist"),
        ("..\\secret.jpg", "leaves the image folder, refused"),
        ("/etc/hostname", "leaves the image folder, refused"),
        ("../" * 12 + "etc/hostname", "leaves the image folder, refused"),
        ("C:\\x.jpg", "leaves the image folder, refused"),
        ("half \ud800.jpg", "is not a possible file name: it holds half a surrogate pair"),
        ("nul\0.jpg", "is not a possible file name"),
        ("n" * 300, "is not a possible file name (File name too long)"),
        ("Same.jpg", "does not exist; there are 'SAME.JPG' and 'same.jpg': which is meant?"),
    ],
)
def test_what_is_not_found_says_why(folder: Path, name: str, error: str) -> None:
    assert ImageFolder(folder).look_up(name).error == error


def test_another_spelling_is_noted(folder: Path) -> None:
    names = ImageFolder(folder)
    assert names.look_up("x.jpg").note == names.look_up("train2017\\x.jpg").note == ""
    assert names.look_up("big.jpg").note == "is on the disk as 'Big.JPG'"
    assert names.look_up("a%20b.jpg").note == "is on the disk as 'a b.jpg'"
