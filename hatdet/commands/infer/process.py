"""Pictures and frames through an opened model, one after another, into what is written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hatdet.commands.infer.outputs import Outputs
from hatdet.commands.infer.plan import Request, Step
from hatdet.export.images import bits_in_use, read_image
from hatdet.inference.detector import Engine
from hatdet.inference.results import Result, class_labels
from hatdet.inference.sources import Frame, is_live, video_frames, video_length, video_rate
from hatdet.inference.tracking import Tracker, byte_track
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.errors import UserError
from hatdet.utils.logging import live_line

SHOWN = 20
logger = logging.getLogger("hatdet")


def process(engine: Engine, plan: Sequence[Step], request: Request, score_thr: float, facts: dict[str, Any]) -> bool:
    """Detect in all sources and write what is asked for; whether every picture could be read.

    Ctrl-C ends a camera or a stream, with whole files; of pictures and video files it is an interruption.
    """
    if request.classes is not None:
        class_labels(request.classes, engine.names)
    if request.track:
        if not any(step.moving for step in plan):
            raise UserError("--track follows objects through frames, but the sources are pictures; name a video")
        byte_track()  # not there is said before a camera is opened
    moving = any(step.moving for step in plan)
    outputs = Outputs(request.folder, request.write, engine.names)
    pictures = [Path(step.source) for step in plan if not step.moving]
    bits = engine.bits if engine.bits is not None else picture_bits(None, pictures)
    unread: list[str] = []
    shown = 0
    total, what = expected(plan, request.max_frames), "frames" if moving else "pictures"
    stopped = False
    with live_line() as show:
        try:
            for step in plan:
                tracker = tracker_of(step, request, score_thr)
                for result in detect(engine, step, bits, request, unread):
                    result = tracker.update(result) if tracker else result.keep(score_thr, request.classes)
                    outputs.add(result, step.target_of(result), step.moving)
                    if not step.moving and shown < SHOWN:
                        print(summary(result))
                        shown += 1
                    if show is not None:
                        show(f"{outputs.count} of {total} {what}" if total else f"{outputs.count} {what}")
        except KeyboardInterrupt:
            stopped = is_live(step.source) and outputs.count > 0
            if not stopped:
                raise
    if not outputs.count:
        hint = "" if moving else "; name pictures in a format of OpenCV's"
        raise UserError(f"no picture could be read: {'; '.join(unread[:5])}{hint}")
    if not moving and outputs.count > shown:
        print(f"... and {outputs.count - shown} more pictures")
    for text in unread:
        logger.warning("left out: %s", text)
    lines = outputs.close({**facts, "unread": unread})
    if stopped:
        print(f"stopped after {outputs.count} frames")
    print(f"written: {' and '.join(lines)}", flush=True)
    return not unread


def tracker_of(step: Step, request: Request, score_thr: float) -> Tracker | None:
    """What follows the objects of a video, a new one for each; None: they are not followed."""
    if not (request.track and step.moving):
        return None
    return Tracker(video_rate(step.source), score_thr, request.classes)


def expected(plan: Sequence[Step], most: int | None) -> int:
    """How many pictures and frames there will be; 0: nobody knows."""
    counts = [video_length(step.source) if step.moving else 1 for step in plan]
    counts = [min(count, most) if step.moving and most else count for step, count in zip(plan, counts, strict=True)]
    return sum(counts) if all(counts) else 0


def detect(engine: Engine, step: Step, bits: int, request: Request, unread: list[str]) -> Iterator[Result]:
    """The results of one source, all scores; one that cannot be read is noted in ``unread``, and the others go on."""
    groups = batches(step, bits, request)
    while True:
        try:
            group = next(groups, None)
        except UserError as error:
            unread.append(str(error))
            return
        if group is None:
            return
        yield from engine.detect(group)


def batches(step: Step, bits: int, request: Request) -> Iterator[list[Frame]]:
    """The frames that go through the network together.

    Raises:
        UserError: the source cannot be read.
    """
    if step.moving:
        frames = islice(video_frames(step.source), request.max_frames)
        while group := list(islice(frames, request.batch)):
            yield group
        return
    # Drawn from memory: a picture that is written in the place of another one's file must not be read again.
    path = Path(step.source)
    yield [Frame(read_image(path, bits), path)]


def summary(result: Result) -> str:
    """``street.jpg: 2 car, 1 person``."""
    counts = Counter(found.name for found in result)
    return f"{result.path}: {', '.join(f'{n} {name}' for name, n in counts.most_common()) or 'nothing found'}"


def picture_bits(known: KnownClasses | None, paths: Sequence[Path]) -> int:
    """How many bits of 16-bit pictures are used: as in training; where that had none, as these pictures need."""
    if known is not None and known.scaled_bits is not None:
        return known.scaled_bits
    bits = bits_in_use(paths)
    if bits < 16:
        logger.info("16-bit pictures with %d bits in use, scaled from these: a value v becomes v >> %d", bits, bits - 8)
    return bits
