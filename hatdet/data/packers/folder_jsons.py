"""COCO jsons in the cache that were made from folders in other formats: what of, and whether that is still so."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from hatdet.data.image_file import SUFFIXES
from hatdet.data.walking import walk

RULES = 1
"""Counts up where the same folder gives other boxes."""
NAME = re.compile(r"(?P<format>yolo|voc|labelme)-(?P<split>.+)-[0-9a-f]{10}\.json")
PARTIAL = re.compile(rf"\.{NAME.pattern}\.\d+")
"""What is being written, or what a process that was killed left."""
_HEAD = 4096
_READ = (*SUFFIXES, ".txt", ".xml", ".json", ".yaml", ".yml", ".names", ".labels")


def json_name(format: str, split: str, root: Path) -> str:
    """The name of the json of a split of a data set."""
    digest = hashlib.sha256(str(root.resolve()).encode("utf-8", "replace")).hexdigest()[:10]
    return f"{format}-{split}-{digest}.json"


def state_of_folder(home: Path) -> str:
    """Digest of all files that a reader may look at: which, how large, when changed."""
    digest = hashlib.sha256(f"{RULES}\n".encode())
    for path in walk(home, _READ):
        try:
            status = path.stat()
        except OSError:
            continue
        text = f"{path.relative_to(home)}\n{status.st_size} {status.st_mtime_ns}\n"
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def json_facts(file: Path) -> dict[str, Any]:
    """What a json of the cache says of itself, which stands at its beginning: ``state``, ``pictures`` (their folder),
    ``source``; empty where it is none."""
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            head = opened.read(_HEAD)
    except OSError:
        return {}
    match = re.match(r'\{"info": (\{.*?\}), "images"', head)
    try:
        found = json.loads(match[1]) if match else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def why_unused(file: Path) -> str:
    """Why nothing uses a json of the cache any more; empty: a training would take it as it is."""
    facts = json_facts(file)
    source = Path(str(facts.get("source") or ""))
    if not facts.get("source"):
        return "it is damaged, or of an earlier version"
    if not source.exists():
        return f"{source} does not exist any more"
    state = facts.get("state")
    if state and state != state_of_folder(source if source.is_dir() else source.parent):
        return f"{source} has changed since"
    return ""
