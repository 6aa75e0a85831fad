"""The scripts under the paths that tutorials name say what their commands say, and start them."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted(
    path.relative_to(Path(__file__).parents[4]).as_posix()
    for folder in ("misc", "analysis_tools", "dataset_converters", "model_converters")
    for path in (Path(__file__).parents[4] / "tools" / folder).glob("*.py")
)


def test_all_are_there() -> None:
    expected = (
        "analysis_tools/analyze_logs analysis_tools/benchmark analysis_tools/browse_dataset "
        "analysis_tools/coco_error_analysis analysis_tools/confusion_matrix analysis_tools/get_flops "
        "analysis_tools/optimize_anchors dataset_converters/cityscapes dataset_converters/crowdhuman2coco "
        "dataset_converters/images2coco dataset_converters/pascal_voc misc/print_config model_converters/publish_model"
    )
    assert [f"tools/{name}.py" for name in expected.split()] == SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_its_command(script: str, repo_root: Path) -> None:
    source = (repo_root / script).read_text(encoding="utf-8")
    (name,) = re.findall(r"^from (hatdet\.commands\.\S+) import main$", source, re.MULTILINE)
    module = importlib.import_module(name)
    assert name.rpartition(".")[2] == Path(script).stem
    assert (ast.get_docstring(ast.parse(source)) or "") == (module.__doc__ or "").splitlines()[0]


def test_help_is_answered_without_torch(repo_root: Path) -> None:
    code = (
        f"import sys, runpy\nfor script in {SCRIPTS}:\n    sys.argv = [script, '--help']\n"
        "    try: runpy.run_path(script, run_name='__main__')\n    except SystemExit as end: assert not end.code\n"
        "print({'torch', 'numpy', 'cv2'} & {*sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()" and done.stdout.count("usage:") == len(SCRIPTS)


@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh"])
def test_shell_scripts_say_how_they_are_called(script: str, repo_root: Path) -> None:
    path = repo_root / "tools" / script
    subprocess.run(["bash", "-n", path], check=True)
    done = subprocess.run([path, "one.py"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"usage: {path} CONFIG")
