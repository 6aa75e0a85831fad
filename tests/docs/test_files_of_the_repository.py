"""Files for others' programs: issue templates, pre-commit, Docker. What they name is there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
KINDS = {"textarea", "input", "dropdown", "checkboxes", "markdown"}


def read(path: Path) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.stem)
def test_issue_forms_are_what_github_reads(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) > 0
    for field in form["body"]:
        assert field["type"] in KINDS and field["attributes"]["label"]
    assert "http" not in path.read_text(encoding="utf-8")


def test_the_hooks_of_pre_commit_are_tools_of_this_repository() -> None:
    config = read(ROOT / ".pre-commit-config.yaml")
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [repo["repo"] for repo in config["repos"]] == ["local"] and len(hooks) >= 3  # nothing is fetched
    assert all(hook["language"] == "system" for hook in hooks)
    for hook in hooks:
        for word in shlex.split(hook["entry"]):
            if word.startswith("tests/"):
                assert (ROOT / word).exists(), word


def test_the_image_has_what_the_package_is_built_from() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in line.split()}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {"setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "configs", "hatdet", "constraints.txt"} < copied
    assert {word.removeprefix("!") for word in ignored if word.startswith("!")} == copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    extras = re.findall(r"\.\[([\w,]+)\]", text)
    known = set(re.findall(r'^    "(\w+)": \[', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE))
    assert len(extras) == 1 and set(extras[0].split(",")) <= known


@pytest.mark.slow
def test_the_image_is_built() -> None:
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("there is no docker here")
    words = ["docker", "build", "--quiet", "--tag", "hatdet-test", "."]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    words = ["docker", "run", "--rm", "hatdet-test", "configs"]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "hatdet:rtmdet/" in said.stdout
