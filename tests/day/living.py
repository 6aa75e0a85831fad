"""A day with hatdet: from a data set of one's own to the int8 file and what is done with it, by commands alone.

``python -m tests.day.living`` builds the wheel, gets all that it needs with pip, lives the day and prints what each
step took, and the time from ``pip install`` to the first int8 file.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from hatdet.commands.demo.render import render_dataset
from tests.helpers.wheel import build_wheel, environment_of_pip, run

FORMATS = ("yolo", "voc", "coco")
EXTRAS = "export,data,fast"


@dataclass(frozen=True)
class Amount:
    """How much is trained: enough that every step has something to do."""

    train: int = 16
    val: int = 6
    imgsz: int = 96
    epochs: int = 2


@dataclass
class Day:
    """The commands of a day in an environment.

    Attributes:
        scripts: its folder of programs. place: the user's folder. format: of the data set.
        steps: what was run, and its seconds.
    """

    scripts: Path
    place: Path
    format: str
    amount: Amount = field(default_factory=Amount)
    steps: list[tuple[str, float]] = field(default_factory=list)

    def hatdet(self, *words: object, status: int | None = 0) -> str:
        """Run a command as the user does; what it prints."""
        start = time.perf_counter()
        text = run(self.scripts / "hatdet", *words, cwd=self.place, status=status)
        self.steps.append((f"hatdet {' '.join(map(str, words))}", time.perf_counter() - start))
        return text

    @property
    def data(self) -> str:
        """The data set's folder, below ``place``."""
        return f"my_{self.format}"

    @property
    def config(self) -> str:
        """What ``hatdet init`` writes."""
        return f"{self.data}.py"

    @property
    def options(self) -> tuple[str, ...]:
        """What makes the training short."""
        amount = self.amount
        size = f"imgsz=({amount.imgsz},{amount.imgsz})"
        return ("--cfg-options", size, f"epochs={amount.epochs}", "qat_epochs=1", "workers=0")

    @property
    def work(self) -> Path:
        """The run's folder."""
        return self.place / "work_dirs" / self.data

    def render(self) -> None:
        """The data set: the demo's pictures as COCO, converted where another format is asked for."""
        amount = self.amount
        folder = self.place / ("rendered" if self.format != "coco" else self.data)
        render_dataset(folder, amount.train, amount.val)
        if self.format != "coco":
            self.hatdet("data", "convert", "rendered", self.data, "--to", self.format)

    def look(self) -> None:
        """Before training: what is wrong with the data, and a config for it."""
        self.hatdet("data", "check", self.data)
        self.hatdet("data", "report", self.data, "-o", "data.html")
        self.hatdet("data", "split", self.data, "divided", "--val", 0.25)
        self.hatdet("init", self.data)

    def train(self) -> None:
        """Float, calibration, QAT, and the file."""
        for stage in ("float", "calibration", "qat"):
            self.hatdet("train", "--stage", stage, self.config, *self.options)
        self.hatdet("export", self.config, "--verify", 4, *self.options)

    @property
    def int8(self) -> Path:
        """The file that ships."""
        (found,) = self.work.rglob("*_int8.tflite")
        return found

    def use(self) -> None:
        """The file on pictures, in each form; files beside each other."""
        pictures = next(path for path in sorted(self.place.glob(f"{self.data}/**")) if _has_pictures(path))
        kinds = ("pictures", "json", "coco", "yolo", "csv")
        self.hatdet("infer", self.int8, pictures, "--save-path", "found", "--score-thr", 0.01, "--write", *kinds)
        self.hatdet("report", self.work.relative_to(self.place))
        float_file = self.work / "float-checkpoint-best.pth.tar"
        words = ("--images", pictures, "--runs", 3, "--seconds", 2, "--no-ap", "--out", "benchmark.csv")
        self.hatdet("benchmark", float_file, self.int8, *words)

    def live(self) -> None:
        """All of it."""
        self.render()
        self.look()
        self.train()
        self.use()


def _has_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix in (".jpg", ".png") for path in folder.iterdir())


def measure(amount: Amount, place: Path) -> dict[str, object]:
    """The time from ``pip install`` to the first int8 file, on this machine."""
    wheel = build_wheel(place)
    start = time.perf_counter()
    scripts = environment_of_pip(place / "environment", wheel, EXTRAS)
    installed = time.perf_counter()
    user = place / "user"
    user.mkdir()
    day = Day(scripts, user, "yolo", amount)
    day.render()
    rendered = sum(seconds for _, seconds in day.steps)
    ready = time.perf_counter()
    day.look()
    day.train()
    first = time.perf_counter()
    day.use()
    for line, seconds in day.steps:
        print(f"{seconds:7.1f} s  {line}")
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "pip install, s": round(installed - start, 1),
        "data set to int8 file, s": round(first - ready, 1),
        "pip install to int8 file, s": round(installed - start + first - ready, 1),
        "of which converting to YOLO is not counted, s": round(rendered, 1),
        "bytes of the file": day.int8.stat().st_size,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=100, help="pictures to train with (100)")
    parser.add_argument("--val", type=int, default=20, help="pictures to validate with (20)")
    parser.add_argument("--imgsz", type=int, default=192, help="of the network's input (192)")
    parser.add_argument("--epochs", type=int, default=5, help="of the float stage (5)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        amount = Amount(args.train, args.val, args.imgsz, args.epochs)
        print(json.dumps(measure(amount, Path(folder)), indent=1))


if __name__ == "__main__":
    main()
