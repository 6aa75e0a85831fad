"""The notebook of the quick start as a page: its texts and its code, without outputs."""

from __future__ import annotations

import json

from sitegen.paths import DOCS

NOTEBOOK = DOCS / "quickstart.ipynb"
PAGE = "quickstart_notebook.md"
NOTE = "Get it: [quickstart.ipynb](quickstart.ipynb). A test runs all of its cells."


def pages() -> dict[str, str]:
    parts: list[str] = []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"]).strip("\n")
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        if len(parts) == 1:
            parts.append(NOTE)
    return {PAGE: "\n\n".join(parts) + "\n"}
