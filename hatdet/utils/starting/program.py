"""As what this process was started, ``hatdet train`` or ``tools/train.py``, and how texts name commands then.

Texts in the code name commands by their scripts, ``tools/train.py``. Who installed a wheel has none of these, so where
the program is ``hatdet`` they are printed as ``hatdet train``.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

NAME = "hatdet"
GROUPS = {
    "analysis_tools": "analysis ",
    "dataset_converters": "convert ",
    "model_converters": "",
    "misc": "",
    "datasets": "",
}
"""Folders of ``tools/``, and what stands before the names of their scripts in a command of ``hatdet``."""

_SCRIPT = re.compile(r"(?:\bpython3? )?(?<![\w./-])(?:\./)?tools/(?:(?P<folder>\w+)/)?(?P<name>[a-z]\w*)\.py\b")
_TORCHRUN = re.compile(r"(torchrun(?: -\S+(?: [^-\s]\S*)?)*) tools/(?P<name>[a-z]\w*)\.py\b")
_command = ""


def begin(command: str) -> None:
    """From now on this process is ``hatdet COMMAND``."""
    global _command
    _command = command


def is_hatdet() -> bool:
    """Whether the process was started as ``hatdet``, or ``python -m hatdet``, and not as a script or from Python."""
    place = Path(sys.argv[0])
    return place.stem == NAME or (place.name == "__main__.py" and place.parent.name == NAME)


def name() -> str:
    """How usage lines and errors call the program: ``hatdet train``, or the script's file name."""
    if is_hatdet():
        return f"{NAME} {_command}".rstrip()
    return os.path.basename(sys.argv[0])


def command_of(folder: str | None, script: str) -> str | None:
    """The command of ``hatdet`` that a script of ``tools/`` is, e.g. ``analysis analyze-logs``; None: none is."""
    if folder is not None and folder not in GROUPS:
        return None
    return (GROUPS[folder] if folder else "") + script.replace("_", "-")


def spoken(text: str) -> str:
    """``text`` with the commands in it as the user of this process types them."""
    if "tools/" not in text or not is_hatdet():
        return text
    return _SCRIPT.sub(_shown, _TORCHRUN.sub(r"\1 -m hatdet \g<name>", text))


def help_text(text: str) -> str:
    """``text`` of a command's help, in which ``configs/*.py`` is a shipped config: by the name that works anywhere."""
    return re.sub(r"(?<![\w./-])configs/(?=[\w/]+\.py\b)", f"{NAME}:", spoken(text)) if is_hatdet() else text


def _shown(found: re.Match[str]) -> str:
    command = command_of(found["folder"], found["name"])
    return found[0] if command is None else f"{NAME} {command}"


def command_words(script: str) -> list[str]:
    """The words that start another command as this one was started: ``["hatdet", "train"]``."""
    if is_hatdet():
        return [NAME, *str(command_of(None, script)).split()]
    place = Path(sys.argv[0])
    return ["python", str(place.with_name(f"{script}.py") if place.parent.name == "tools" else f"tools/{script}.py")]


def again() -> list[str]:
    """This command line as torchrun starts it in each of its processes."""
    return ["--module", NAME, *sys.argv[1:]] if is_hatdet() else list(sys.argv)
