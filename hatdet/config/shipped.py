"""The configs that come with hatdet, by name: ``hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py``.

They are ``configs/`` of a checkout, which an editable install uses too, and ``configs/`` inside an installed package.
"""

from __future__ import annotations

import os
from pathlib import Path

from hatdet.utils.errors import ConfigError, nearest

SCHEME = "hatdet:"
_PACKAGE = Path(__file__).absolute().parents[1]


def folder() -> Path:
    """Where the shipped configs lie.

    Raises:
        ConfigError: this hatdet came without them.
    """
    for place in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):
        if (place / "_base_" / "rtmdet.py").is_file():
            return place
    raise ConfigError(
        f"the configs of hatdet are neither in {_PACKAGE} nor beside it; install hatdet anew, from a wheel or checkout"
    )


def names() -> list[str]:
    """The names of all shipped configs but those that are only parts of others, in alphabetical order."""
    root = folder()
    files = (file.relative_to(root) for file in root.rglob("*.py"))
    return sorted(SCHEME + file.as_posix() for file in files if file.parts[0] != "_base_")


def locate(path: str | os.PathLike[str]) -> Path:
    """The file of a shipped config's name; any other path is given back as it is.

    Raises:
        ConfigError: no shipped config has this name.
    """
    text = os.fspath(path)
    if not text.startswith(SCHEME):
        return Path(path)
    inside = text.removeprefix(SCHEME).replace("\\", "/")
    file = folder() / inside
    if file.is_file() and ".." not in Path(inside).parts and not Path(inside).is_absolute():
        return file
    known = names()
    close = nearest(SCHEME + inside, known) or [name for name in known if Path(name).stem == Path(inside).stem]
    hint = f"did you mean {close[0]}?" if close else "`hatdet configs` lists them"
    raise ConfigError(f"no config {text} comes with hatdet; {hint}")


def spelled(path: Path) -> str:
    """A path as a command takes it: a config inside an installed hatdet by its short name."""
    inside = _PACKAGE / "configs"
    return SCHEME + path.relative_to(inside).as_posix() if path.is_relative_to(inside) else str(path)
