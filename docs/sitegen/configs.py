"""Pages that show the shipped configs, a page a folder."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from sitegen.paths import ROOT

FOLDERS = {
    "rtmdet": "RTMDet",
    "detection/retinanet": "RetinaNet with VarGNetV2",
    "yolox": "YOLOX",
    "picodet": "PicoDet",
    "nanodet": "NanoDet-Plus",
    "fomo": "FOMO",
    "mmdetection": "Dense detectors in int8",
    "retinanet": "RetinaNet in MMDetection's words",
    "classification": "Classification",
    "_base_": "What they inherit",
}


def files_of(folder: str) -> list[Path]:
    return sorted((ROOT / "configs" / folder).glob("**/*.py" if folder == "_base_" else "*.py"))


def page_name(folder: str) -> str:
    return f"configs/{folder.replace('/', '_').strip('_')}.md"


def shown() -> dict[str, str]:
    """Files and folders of configs/ -> their page."""
    found = {"configs": "configs/index.md"}
    for folder in FOLDERS:
        found[f"configs/{folder}"] = page_name(folder)
        for path in files_of(folder):
            found[path.relative_to(ROOT).as_posix()] = f"{page_name(folder)}#{heading_id(path)}"
    return found


def heading_id(path: Path) -> str:
    return path.relative_to(ROOT / "configs").with_suffix("").as_posix().replace("/", "-").strip("_").lower()


def about(path: Path) -> str:
    """A config's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()


def pages() -> Mapping[str, str]:
    made = {"configs/index.md": index()}
    for folder, title in FOLDERS.items():
        lines = [f"# {title}", "", f"The files of `configs/{folder}/`."]
        for path in files_of(folder):
            name = path.relative_to(ROOT / "configs").as_posix()
            source = path.read_text(encoding="utf-8").rstrip()
            lines += ["", f"## `{name}` {{#{heading_id(path)}}}", "", "```python", source, "```"]
        made[page_name(folder)] = "\n".join(lines) + "\n"
    return made


INDEX = """\
# Shipped configs

What `train`, `export` and the other commands take as CONFIG. A config of your own names one and says what differs:

```python
_base_ = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"
```
"""


def index() -> str:
    lines = [INDEX]
    for folder, title in FOLDERS.items():
        if folder == "_base_":
            continue
        lines += ["", f"## {title}", "", "| config | what it is |", "|---|---|"]
        for path in files_of(folder):
            first = about(path).split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            name = path.relative_to(ROOT / "configs").as_posix()
            lines.append(f"| [{name}]({beside(folder)}#{heading_id(path)}) | {first} |")
    return "\n".join([*lines, "", f"What they inherit stands in [_base_]({beside('_base_')}).", ""])


def beside(folder: str) -> str:
    """The page of a folder, for a link on another one."""
    return page_name(folder).removeprefix("configs/")


def nav() -> list[dict[str, str] | str]:
    return ["configs/index.md", *({title: page_name(folder)} for folder, title in FOLDERS.items())]
