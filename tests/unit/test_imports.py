"""Importing is cheap and complete, and the repository names no machine."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hatdet
from tests.helpers.imports import cycle, import_graph

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "ai_edge_litert", "cv2", "faster_coco_eval", "flatbuffers", "hotcoco", "lmdb", "matplotlib", "onnx",
    "pycocotools", "tensorboard", "tensorflow", "tflite_micro",
}  # fmt: skip


def modules() -> list[str]:
    return sorted(module.name for module in pkgutil.walk_packages(hatdet.__path__, "hatdet."))


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_hatdet_imports_nothing_heavy() -> None:
    loaded = set(run_python("import hatdet, sys; print(*sys.modules, sep='\\n')").split())
    assert "hatdet" in loaded
    assert not loaded & HEAVY
    assert "torch" not in loaded, "`import hatdet` alone needs no torch"


def test_loading_a_module_imports_no_heavy_library() -> None:
    """Every module, in one process: libraries of files and pictures are imported where they are used."""
    names = [
        name for name in modules() if name.split(".")[1] not in {"data", "export", "metrics", "visualization"}
    ]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    code += "print(*sys.modules, sep='\\n')"
    loaded = set(run_python(code).split())
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", modules())
def test_every_module_imports(name: str) -> None:
    assert importlib.import_module(name).__name__ == name


def test_imports_have_no_cycle() -> None:
    found = cycle(import_graph("hatdet"))
    assert not found, "a cycle of imports: " + " -> ".join([*found, *found[:1]])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a": "import toy.b", "b": "import toy.c", "c": ""}, []),
        ({"a": "import toy.b", "b": "from toy import c", "c": "from toy.a import x"}, ["toy.a", "toy.b", "toy.c"]),
        ({"a": "import toy.b", "b": "def f():\n    import toy.a"}, ["toy.a", "toy.b"]),
        ({"a": "import toy.b", "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import toy.a"}, []),
        ({"__init__": "from toy.a import x", "a": "x = 1"}, ["toy", "toy.a"]),
        ({"a": "import toy.p.b", "p/__init__": "", "p/b": "import toy.c", "c": "import toy.p"}, []),
        ({"p/__init__": "import toy.c", "p/b": "", "c": "import toy.p.b"}, ["toy.c", "toy.p"]),
    ],
)
def test_a_cycle_is_found_and_named(
    files: dict[str, str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in ({"__init__": ""} | files).items():
        path = tmp_path / "toy" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert cycle(import_graph("toy")) == expected


def test_every_package_folder_has_an_init() -> None:
    folders = {path.parent for path in (ROOT / "hatdet").rglob("*.py")}
    missing = sorted(
        str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()
    )
    assert not missing, "an installed hatdet would lack these packages"


def test_a_folder_fits_the_eye() -> None:
    folders = {path.parent for path in (ROOT / "hatdet").rglob("*.py")}
    counts = {folder: sum(file.name != "__init__.py" for file in folder.glob("*.py")) for folder in folders}
    full = [f"{folder.relative_to(ROOT)}: {count} modules" for folder, count in counts.items() if count > 15]
    assert not full, "make a folder of what belongs together"


def test_no_file_names_a_machine() -> None:
    """No absolute path of anyone's machine and no package host: the project works wherever it is cloned."""
    # Spelt in pieces, so that this file passes its own test.
    words = [
        "/" + "work/",
        "/" + "root/",
        "/" + "tmp/",
        "/" + "home/",
        "C:" + "\\Users",
        "index" + "-url",
        "find" + "-links",
    ]
    pattern = re.compile("|".join(rf"(?<![\w.~}}$/-]){re.escape(word)}" for word in words))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [
            f"{name}:{number}: {line.strip()}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    assert not found, "\n".join(found)
