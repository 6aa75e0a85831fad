"""The wheel of this checkout, and environments with it that do not see the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PARTS = ("hatdet", "configs", "setup.py", "pyproject.toml", "README.md", "MANIFEST.in", "LICENSE")
ROOT = Path(__file__).resolve().parents[2]
QUIET = ("--disable-pip-version-check", "--quiet")


def run(*words: object, cwd: Path, status: int | None = 0, timeout: float = 400) -> str:
    """What a command prints on both streams; nothing of the environment leads it to the checkout."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
    )  # fmt: skip
    assert status in (None, done.returncode), done.stdout
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """Build in ``folder``, from a copy: a build leaves folders, and reads those that an earlier one left."""
    source = folder / "source"
    source.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source)
    options = ("--no-deps", "--no-build-isolation", "--no-index", *QUIET)
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", "dist", ".", cwd=source)
    (found,) = (source / "dist").glob("*.whl")
    return found


def programs(root: Path) -> Path:
    """The folder of an environment's programs."""
    return root / ("Scripts" if os.name == "nt" else "bin")


def environment_beside(root: Path, wheel: Path) -> Path:
    """A fresh environment at ``root`` with the wheel and with this one's other packages; its folder of programs."""
    venv.create(root, with_pip=False)
    (packages,) = root.rglob("site-packages")
    # Folders of a .pth are only searched: an editable install of the checkout, itself a .pth there, is not followed.
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    python = programs(root) / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", *QUIET, wheel, cwd=root)
    return _checked(root)


def environment_of_pip(root: Path, wheel: Path, extras: str) -> Path:
    """A fresh environment at ``root`` with the wheel and all that pip gets for it; its folder of programs."""
    venv.create(root, with_pip=True)
    words = ("install", *QUIET, "-c", ROOT / "constraints.txt", f"hatdet[{extras}] @ {wheel.as_uri()}")
    run(programs(root) / "python", "-m", "pip", *words, cwd=root, timeout=1800)
    return _checked(root)


def _checked(root: Path) -> Path:
    where = run(programs(root) / "python", "-c", "import hatdet; print(hatdet.__file__)", cwd=root)
    assert Path(where.strip()).is_relative_to(root)
    return programs(root)
