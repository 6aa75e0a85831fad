"""What ``tools/infer.py`` is asked for, and where each picture's drawing goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hatdet.data.image_file import SUFFIXES
from hatdet.export.images import image_files
from hatdet.inference.results import Result
from hatdet.inference.sources import is_moving, picture_paths, videos_of
from hatdet.utils.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        sources: pictures, folders, patterns, videos, cameras' numbers, addresses of streams.
        save_path: the folder for what is written; of one picture also the drawn picture's file.
        stage: ``float``, ``calibration``, ``qat`` or ``int_infer``; None: what ``checkpoint`` holds, else int_infer.
        checkpoint: None: the stage's best.
        device: None: the config's.
        score_thr: boxes below are neither drawn nor listed; None: ``infer_cfg["score_thr"]`` of the config, or 0.3.
        classes: only these, by name. write: some of
            :class:`~hatdet.commands.infer.outputs.Outputs`'s kinds; None: pictures, of videos a video, and json.
        kernels: LiteRT's, of a ``.tflite``. max_frames: of each video, camera or stream. batch: frames at a time.
        track: number the objects of each video.
    """

    sources: Sequence[str]
    save_path: Path
    stage: str | None = None
    checkpoint: str | None = None
    score_thr: float | None = None
    device: str | None = None
    classes: Sequence[str] | None = None
    write: Sequence[str] | None = None
    kernels: str | None = None
    max_frames: int | None = None
    batch: int = 1
    track: bool = False

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self.save_path.parent if self.save_path.suffix else self.save_path


@dataclass(frozen=True)
class Step:
    """A picture, with the file that it is drawn to; or a video, camera or stream, with the folder of its frames."""

    source: str
    target: Path
    moving: bool

    def target_of(self, result: Result) -> Path:
        """Where a result is drawn to."""
        return self.target / f"{result.number:06d}.jpg" if self.moving else self.target


def parse_inputs(text: str) -> Path:
    """The path in HAT's ``imgs:PATH``.

    Raises:
        UserError: another form, or nothing there.
    """
    name, colon, path = text.partition(":")
    if not colon or name != "imgs" or not path:
        example = text if not colon else path or "PATH"
        hint = did_you_mean(name, ["imgs"]) if colon and path else ""
        raise UserError(f"--model-inputs takes imgs:PATH, got {text!r}{hint}; write --model-inputs imgs:{example}")
    if not Path(path).exists():
        raise UserError(
            f"--model-inputs {text}: there is no file or folder {path}; "
            "name a picture or a folder of pictures"
        )
    return Path(path)


def make_plan(request: Request) -> list[Step]:
    """The pictures and videos in order; a picture of a folder keeps its name and its place inside.

    Raises:
        UserError: there is none, or one would be drawn over itself or over another.
    """
    save = request.save_path
    one_picture = save.suffix.lower() in SUFFIXES
    if save.is_file() and not one_picture:
        raise UserError(f"--save-path {save} is a file; name a folder")
    steps: list[Step] = []
    for source in request.sources:
        steps += _steps(source, save, one_picture)
    if one_picture and len(steps) > 1:
        raise UserError(f"--save-path {save} is the name of one picture, but there are {len(steps)}; name a folder")
    taken: dict[Path, str] = {}
    for step in steps:
        if not step.moving and step.target.exists() and step.target.samefile(step.source):
            raise UserError(f"{step.source} would be drawn over itself; choose another --save-path")
        if (other := taken.setdefault(step.target, step.source)) != step.source:
            raise UserError(f"{other} and {step.source} would both be drawn to {step.target}; name the folder of both")
    return steps


def _steps(source: str, save: Path, one_picture: bool) -> list[Step]:
    path = Path(source)
    if is_moving(source):
        if one_picture:
            raise UserError(f"--save-path {save} is the name of one picture, but {source} is a video; name a folder")
        if source.isdecimal():
            return [Step(source, save / f"camera{source}", True)]
        return [Step(one, save / (Path(one).stem or "stream"), True) for one in videos_of(source)]
    if path.is_dir():
        if one_picture:
            raise UserError(f"--save-path {save} is the name of one picture, but {source} is a folder; name a folder")
        return [Step(str(file), save / file.relative_to(path), False) for file in image_files(path)]
    return [Step(str(file), save if one_picture else save / file.name, False) for file in picture_paths(source)]
