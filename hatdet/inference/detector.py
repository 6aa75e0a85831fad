"""``Detector``: a model file as a function of pictures, with the numbers that evaluation finds.

::

    from hatdet import Detector

    detector = Detector("model_int8.tflite")
    result = detector("street.jpg")
    for box, score, label, name in result: ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.data.collate import Collate2D
from hatdet.engine.checkpoints.adoption import adopted
from hatdet.engine.checks.config import check_format
from hatdet.engine.evaluation import scored_model
from hatdet.engine.predictor import Predictor
from hatdet.export.images import apply_transforms, bits_in_use
from hatdet.inference.checkpoints import set_device
from hatdet.inference.model_files import OtherSizeError, model_file, open_model
from hatdet.inference.results import Result, class_labels
from hatdet.inference.sources import (
    COLORS,
    Frame,
    frames_of,
    is_moving,
    is_single,
    picture_paths,
    video_rate,
    videos_of,
)
from hatdet.inference.surroundings import Surroundings, file_metadata, find_surroundings, surroundings_of
from hatdet.inference.tracking import Tracker
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.errors import UserError
from hatdet.utils.seed import preserved_rng_state

DEFAULT_THRESHOLD = 0.3
KERNELS = ("reference", "default")
Names = Callable[[], Sequence[str]]


@dataclass
class Engine:
    """An opened model with all that a picture goes through.

    Attributes:
        predictor: its batch processor and device. network: what gives boxes of a batch. transforms, collate: built.
        names: classes by label. bits: of pictures with 16 bits; None: as the pictures need.
    """

    predictor: Predictor
    network: Any
    transforms: list[Any]
    collate: Any
    names: tuple[str, ...]
    bits: int | None

    def detect(self, frames: Sequence[Frame]) -> list[Result]:
        """What is found in a batch of pictures, all scores."""
        batch = self.collate([self._item(frame) for frame in frames])
        found = self.predictor.batch_processor.predict(self.network, batch, self.predictor.device)
        of_points = bool(getattr(getattr(self.network, "task", self.network), "points", False))
        results = []
        for frame, one in zip(frames, found, strict=True):
            boxes, scores, labels = (one[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
            size = (frame.image.shape[0], frame.image.shape[1])
            image = frame.image if frame.kept else None
            place = (frame.path, frame.number, frame.time, image)
            results.append(Result(boxes, scores, labels, self.names, size, *place, of_points=of_points))
        return results

    def _item(self, frame: Frame) -> dict[str, Any]:
        name = "the picture" if frame.path is None else frame.path.name
        sample = apply_transforms(frame.image, self.transforms, name)
        item = {
            "img": sample.tensor,
            "gt_boxes": torch.zeros((0, 4)),
            "gt_labels": torch.zeros(0, dtype=torch.int64),
            "img_id": 0,
            "orig_size": sample.orig_size,
            "img_size": sample.img_size,
            "scale_factor": sample.scale,
        }
        return item if sample.border is None else {**item, "border": sample.border}


class Detector:
    """Boxes of pictures, from any file that hatdet writes: a checkpoint of any stage, an integer graph, ``.tflite``
    (int8, float32, float16), ``.onnx`` (float, QDQ, exact), ``.torchscript``, a SavedModel folder.

    Preprocessing, network and post-processing are those of evaluation, so the numbers are, too. An exported file says
    itself what is around its network; of an older one the checkpoint beside it does, or ``config``.

    Args:
        model: the file, or the SavedModel's folder.
        config: a config file (or a loaded one) that says what is around the network.
        kernels: LiteRT's for a ``.tflite``: ``reference`` (what a microcontroller computes, slow here) or ``default``
            (fast; phones and Linux boards). None: those of an integer file's arithmetic, under which its numbers are
            the evaluated ones (other kernels are warned of); default for float.
        device: of a checkpoint: ``cpu``, ``cuda``, ``cuda:1``; None: a GPU where there is one.
        threshold: the least score of what is given. classes: only these, by name or label; None: all.
        color: order of the channels of arrays: ``BGR`` (as OpenCV reads) or ``RGB``.
        batch: pictures that go through the network together. Integer models find the same for any number; of float
            ones the last digits may differ from one by one.

    Attributes:
        path: the file. kind: what it is (``int_infer``, ``tflite``, ``onnx_qdq``, ...). runtime: what runs it.
        names: the classes, by label. origin: what said what is around the network.

    Raises:
        UserError: the file is none of these, damaged, or says too little of itself; with what to do.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        config: str | os.PathLike[str] | Config | None = None,
        kernels: str | None = None,
        device: str | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        classes: Collection[str | int] | None = None,
        color: str = "BGR",
        batch: int = 1,
    ) -> None:
        if kernels not in (None, *KERNELS):
            raise UserError(f"kernels={kernels!r} is none of LiteRT's: use 'reference' or 'default'")
        if color not in COLORS:
            raise UserError(f"color={color!r} is no order of an array's channels: use 'BGR' or 'RGB'")
        check_threshold(threshold)
        self.color, self.threshold, self.batch = color, threshold, check_batch(batch)
        with preserved_rng_state():  # weights are drawn at random before the file's replace them
            self.path, self.kind, self.runtime, self.origin, self.engine = _opened(Path(model), config, kernels, device)
        self.classes = classes
        if classes is not None:
            class_labels(classes, self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, by label."""
        return self.engine.names

    def __repr__(self) -> str:
        from hatdet.utils.class_names import listed

        return f"Detector({str(self.path)!r}: {self.kind}, {self.runtime}; classes {listed(self.names)})"

    def __call__(
        self,
        source: Any,
        *,
        threshold: float | None = None,
        classes: Collection[str | int] | None = None,
        batch: int | None = None,
    ) -> Any:
        """Detect.

        Args:
            source: an array (height, width, 3) or (height, width) of uint8, a PIL image, a picture's path: gives a
                :class:`Result`. A folder, a pattern (``day/*.jpg``), a list: gives a list of them. A generator, a
                video, a camera (its number), a stream (its address): gives an iterator, which reads as it goes.
            threshold, classes, batch: instead of those of the detector.

        Raises:
            UserError: the source is none of these, or a picture cannot be read.
        """
        results = self.stream(source, threshold=threshold, classes=classes, batch=batch)
        if is_single(source):
            return next(results)
        counted = isinstance(source, (list, tuple, str, os.PathLike)) and not is_moving(source)
        return list(results) if counted else results

    def stream(
        self,
        source: Any,
        *,
        threshold: float | None = None,
        classes: Collection[str | int] | None = None,
        batch: int | None = None,
    ) -> Iterator[Result]:
        """As :meth:`__call__`, but always an iterator, so that nothing is kept of a long source."""
        threshold = check_threshold(self.threshold if threshold is None else threshold)
        classes = self.classes if classes is None else classes
        if classes is not None:
            class_labels(classes, self.names)
        size = check_batch(self.batch if batch is None else batch)
        frames = frames_of(source, self.color, self._bits(source))
        return self._results(frames, size, threshold, classes)

    def track(
        self, source: Any, *, threshold: float | None = None, classes: Collection[str | int] | None = None
    ) -> Iterator[Result]:
        """Follow the objects of a video, a camera, a stream or a generator of frames: results with ``ids``.

        Args:
            threshold: the least score that begins a track. classes: only these. Both instead of the detector's.

        Raises:
            UserError: the source is a picture, or supervision is not installed.
        """
        if not is_moving(source) and isinstance(source, (str, os.PathLike)):
            raise UserError(f"{source} is no video; name one, a camera, a stream, or give a generator of frames")
        threshold = check_threshold(self.threshold if threshold is None else threshold)
        classes = self.classes if classes is None else classes
        videos = videos_of(source) if is_moving(source) else [source]
        trackers = [Tracker(video_rate(one) if is_moving(one) else 25.0, threshold, classes) for one in videos]
        everything = [self.stream(one, threshold=0.0, classes=range(len(self.names))) for one in videos]
        return chain.from_iterable(map(tracker.update, found) for tracker, found in zip(trackers, everything))

    def _results(
        self, frames: Iterator[Frame], size: int, threshold: float, classes: Collection[str | int] | None
    ) -> Iterator[Result]:
        while group := list(islice(frames, size)):
            for result in self.engine.detect(group):
                yield result.keep(threshold, classes)

    def _bits(self, source: Any) -> int:
        """Of files with 16-bit pictures: as in training; where that had none, as these pictures need."""
        if self.engine.bits is not None:
            return self.engine.bits
        names = source if isinstance(source, (list, tuple)) else [source]
        names = [name for name in names if isinstance(name, (str, os.PathLike)) and not is_moving(name)]
        return bits_in_use([path for name in names for path in picture_paths(name)])


def check_threshold(threshold: float) -> float:
    """Refuse what is no score.

    Raises:
        UserError: it is not between 0 and 1.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"threshold={threshold} is no score: give a number between 0 and 1")
    return float(threshold)


def check_batch(batch: int) -> int:
    """Refuse what is no number of pictures.

    Raises:
        UserError: it is below 1.
    """
    if batch < 1:
        raise UserError(f"batch={batch} is no number of pictures: give 1 or more")
    return int(batch)


def _opened(
    model: Path, config: Any, kernels: str | None, device: str | None
) -> tuple[Path, str, str, str, Engine]:
    """(file, kind, runtime, origin, engine) of a model."""
    path = model_file(model)
    around, reload = _surroundings(path, config)
    set_device(around.config, device)
    try:
        kind, runtime, predictor = open_model(around.config, path, kernels)
    except OtherSizeError as error:
        if reload is None:
            raise
        around = _of_config(load_config(reload.path, {**reload.options, "imgsz": error.size}))
        set_device(around.config, device)
        kind, runtime, predictor = open_model(around.config, path, kernels)
    predictor.prepare()
    return path, kind, runtime, around.origin, make_engine(predictor, around, _known(path))


def _surroundings(path: Path, config: Any) -> tuple[Surroundings, Config | None]:
    """What is around a file, and the config to load again for images of another size (None: it is no file)."""
    if config is None:
        return find_surroundings(path), None
    loaded = config if isinstance(config, Config) else load_config(config)
    loaded = adopted(loaded, [path] if path.is_file() else [])
    return _of_config(loaded), loaded if loaded.path.is_file() and "imgsz" not in loaded.options else None


def _of_config(config: Config) -> Surroundings:
    return surroundings_of(config, str(config.path), config.get("imgsz"))


def _known(path: Path) -> KnownClasses | None:
    """Classes and bits that a file tells of itself."""
    state = read_without_tensors(path) if path.is_file() else None
    found = KnownClasses.of(state, str(path)) if state is not None else None
    return found or KnownClasses.of({"metadata": file_metadata(path)}, str(path))


def make_engine(
    predictor: Predictor, around: Surroundings, known: KnownClasses | None, names: Names | None = None
) -> Engine:
    """The engine of a prepared predictor; ``names``: see :func:`class_names`.

    Raises:
        UserError: the transforms make other images than the model takes.
    """
    from hatdet.data.transforms.tensor import input_format  # it imports OpenCV

    model: Any = predictor.model
    network = scored_model(model).eval()
    transforms = around.build_transforms()
    check_format(getattr(model, "task", model), f"{around.origin} gives", input_format(transforms))
    collate = Builder().build(dict(around.collate)) if isinstance(around.collate, Mapping) else Collate2D()
    bits = known.scaled_bits if known is not None else None
    return Engine(predictor, network, transforms, collate, class_names(model, known, names), bits)


def class_names(model: Any, known: KnownClasses | None, otherwise: Names | None = None) -> tuple[str, ...]:
    """Names by label: the file's, the model's, or what ``otherwise`` finds; numbers where nobody knows."""
    metadata = getattr(model, "task", model).metadata()
    count = int(metadata["num_classes"])
    told = (lambda: known.names if known is not None else (), lambda: metadata.get("classes") or (), otherwise)
    for names in (ask() for ask in told if ask is not None):
        if len(names) == count:
            return tuple(str(name) for name in names)
    return tuple(str(label) for label in range(count))

