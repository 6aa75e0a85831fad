"""Three detectors, trained here in a few minutes by hatdet's own commands, and their int8 files in both arithmetics."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatdet.commands.demo.objects import KINDS
from hatdet.commands.demo.render import render_dataset
from hatdet.commands.demo.road import Step, run_step, tail
from hatdet.integer.graph import IntGraph
from tests.arm.cases import Case, Codes, write_case

PROFILES = ("tflite_ref", "xnnpack")
TRAINED = ("xnnpack",)
"""Those with a QAT; files of the others are of the calibrated model."""
ALL = "_all"
"""Ends the name of a copy whose activations are all outputs."""
SIZE = (160, 160)
TRAIN_PICTURES, VAL_PICTURES, EPOCHS = 48, 8, 16


@dataclass(frozen=True)
class Network:
    """A shipped config, and how long it is trained in floating point."""

    name: str
    config: str
    epochs: int = EPOCHS

    def options(self, images: Path, work_dir: Path, arithmetic: str) -> tuple[str, ...]:
        """``--cfg-options`` of every command."""
        return (
            "--cfg-options", f"data_root={images}", f"num_classes={len(KINDS)}", f"imgsz=({SIZE[0]},{SIZE[1]})",
            "batch_size=4", f"epochs={self.epochs}", "qat_epochs=1", "lr=3e-3", "warmup_steps=12",
            "calibration_steps=8", f"val_interval={self.epochs}", f"late_epochs={self.epochs * 3 // 4}", "workers=0",
            "run_pictures=False", f"arithmetic={arithmetic}", f"work_dir={work_dir}",
        )  # fmt: skip

    def steps(self, images: Path, folder: Path) -> Iterator[tuple[Step, Callable[[], None]]]:
        """The commands, each with what follows it."""
        float_dir = folder / "float"

        def step(stage: str, title: str, arithmetic: str, where: Path, command: str = "train", *more: str) -> Step:
            arguments = (command, self.config, "--stage", stage, *more, *self.options(images, where, arithmetic))
            return Step(f"{self.name}-{arithmetic}-{stage}", f"{self.name}: {title}", arguments)

        def share() -> None:
            for profile in PROFILES:
                (folder / profile).mkdir(exist_ok=True)
                shutil.copy(float_dir / "float-checkpoint-best.pth.tar", folder / profile)

        yield step("float", "train in floating point", PROFILES[0], float_dir), share
        for profile in PROFILES:
            where = folder / profile
            yield step("calibration", f"calibrate in {profile}", profile, where), _nothing
            if profile in TRAINED:
                yield step("qat", f"train in {profile}", profile, where), _nothing
            checks = ("--format", "tflite", "--verify", "2", "--intermediates")
            yield step("int_infer", f"export in {profile}", profile, where, "export", *checks), _nothing


NETWORKS = (
    Network("relu6", "hatdet:rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"),
    Network("silu_attention", "hatdet:rtmdet/rtmdet_nano_8xb32_300e_coco_silu.py"),
    Network("hardswish", "hatdet:rtmdet/rtmdet_nano_8xb32_300e_coco_hardswish.py"),
)


def _nothing() -> None:
    pass


def train(networks: Sequence[Network], folder: Path, keep: bool = False, say: Callable[[str], None] = print) -> None:
    """Train and export networks into ``folder``; ``keep``: what an earlier run of the same commands did is not done
    again.

    Raises:
        RuntimeError: a command failed; with its last lines.
    """
    images, log = folder / "images", folder / "done.txt"
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    done = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if not done:
        shutil.rmtree(folder, ignore_errors=True)
        render_dataset(images, TRAIN_PICTURES, VAL_PICTURES)
    steps = [pair for network in networks for pair in network.steps(images, folder / network.name)]
    for number, (step, then) in enumerate(steps, start=1):
        if step.command_line() in done:
            continue
        done = []  # what follows a command that is run rests on it
        result = run_step(step, number, len(steps), folder / "logs", say)
        if result.status:
            raise RuntimeError(f"{step.command_line()} ended with status {result.status}:\n{tail(result.log)}")
        say(f"      {result.seconds:.0f} s; {_verdict(result.log)}")
        then()
        with log.open("a", encoding="utf-8") as file:
            file.write(step.command_line() + "\n")


def _verdict(log: Path) -> str:
    """What a log says of accuracy or parity, in its last line on it."""
    lines = log.read_text(encoding="utf-8").splitlines()
    said = [line.strip() for line in lines if line.startswith("parity:") or "AP" in line]
    return said[-1][:160] if said else "done"


def network_cases(networks: Sequence[Network], folder: Path, out: Path, pictures: int) -> list[Case]:
    """The exported files, as they are and with all activations as outputs, on validation pictures."""
    out.mkdir(parents=True, exist_ok=True)
    cases = []
    for network in networks:
        for profile in PROFILES:
            graph, codes, model = exported(network, profile, folder, pictures)
            name = f"{network.name}_{profile}"
            row = f"{profile}: {network.name}"
            cases.append(write_case(out, row, name, graph, codes, model, everything=False))
            cases.append(write_case(out, f"{row}, every tensor", f"{name}{ALL}", graph, codes, model))
    return cases


def exported(network: Network, profile: str, folder: Path, pictures: int) -> tuple[IntGraph, Codes, bytes]:
    """The integer graph that was evaluated, codes (B, 3, H, W) of validation pictures, and the exported file."""
    from hatdet.commands.export.run import real_images
    from hatdet.commands.export.source import open_source
    from hatdet.config.load import load_config
    from hatdet.config.options import parse_options

    where = folder / network.name / profile
    config = load_config(network.config, parse_options(network.options(folder / "images", where, profile)[1:]))
    source, size = open_source(config, None, "int_infer", None), SIZE
    codes = source.codes(real_images(source.predictor.data_loader, size, pictures), size)
    (path,) = where.glob("*_int8.tflite")
    return source.graph(size), codes.numpy(), path.read_bytes()
