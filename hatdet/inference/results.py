"""What a detector finds in a picture, as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hatdet.utils.errors import UserError

Image = NDArray[np.uint8]
SHOWN = 8


class Detection(NamedTuple):
    """One box: (x1, y1, x2, y2) in pixels of the picture, its score in [0, 1], its class by number and by name."""

    box: tuple[float, float, float, float]
    score: float
    label: int
    name: str


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The detections of one picture, best first.

    Attributes:
        boxes: float32 (n, 4), xyxy in pixels of the picture. scores: float32 (n,). labels: int64 (n,), places in
            ``names``.
        names: the model's classes, by label.
        size: (height, width) of the picture.
        path: its file, or the video's; None for a picture in memory. number: of the frame in a video or stream, from 0.
        time: of the frame, in seconds from the video's beginning; None for pictures.
        ids: int64 (n,), the number of each object in its video, the same from frame to frame; None: not followed.
        of_points: the model finds points, and boxes are cells around them (FOMO).
        image: the picture (uint8 BGR) where it came as pixels; of a file None: ``draw`` reads it again.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    size: tuple[int, int]
    path: Path | None = None
    number: int = 0
    time: float | None = None
    image: Image | None = field(default=None)
    ids: NDArray[np.int64] | None = None
    of_points: bool = False

    @property
    def points(self) -> NDArray[np.float32]:
        """float32 (n, 2): the middles of the boxes, x and y."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) * np.float32(0.5)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), score, label in rows:
            yield Detection((x1, y1, x2, y2), score, label, self.name(label))

    def __repr__(self) -> str:
        """``Result(street.jpg, 480x640: 2 car 0.91 0.55, 1 person 0.78)``."""
        where = "picture" if self.path is None else self.path.name
        where += f"#{self.number}" if self.time is not None else ""
        counts = Counter(self.labels.tolist()).most_common()
        parts = []
        for label, count in counts[:SHOWN]:
            best = " ".join(f"{score:.2f}" for score in self.scores[self.labels == label][:3].tolist())
            parts.append(f"{count} {self.name(label)} {best}" + (" ..." if count > 3 else ""))
        parts += [f"... {len(counts) - SHOWN} more classes"] if len(counts) > SHOWN else []
        return f"Result({where}, {self.size[0]}x{self.size[1]}: {', '.join(parts) or 'nothing found'})"

    def name(self, label: int) -> str:
        """The name of a class; its number where it has none."""
        return self.names[label] if 0 <= label < len(self.names) else str(label)

    def keep(self, threshold: float = 0.0, classes: Collection[str | int] | None = None) -> Result:
        """The detections with at least this score and of these classes (names or labels)."""
        kept = self.scores >= threshold
        if classes is not None:
            kept &= np.isin(self.labels, sorted(class_labels(classes, self.names)))
        return self.rows(kept, None if self.ids is None else self.ids[kept])

    def rows(self, which: NDArray[Any], ids: NDArray[np.int64] | None) -> Result:
        """Some of the detections, with these ``ids``."""
        found = {"boxes": self.boxes[which], "scores": self.scores[which], "labels": self.labels[which]}
        return replace(self, **found, ids=ids)

    def to_coco(self, image_id: int = 0, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO's results: ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`` for each box, and
        ``track_id`` where objects are followed.

        Args:
            category_ids: of the annotation file, by label; None: label + 1.
        """
        ids = category_ids if category_ids is not None else range(1, len(self.names) + 1)
        return [
            {
                "image_id": image_id,
                "category_id": int(ids[found.label]),
                "bbox": [found.box[0], found.box[1], found.box[2] - found.box[0], found.box[3] - found.box[1]],
                "score": found.score,
                **({} if self.ids is None else {"track_id": int(self.ids[row])}),
            }
            for row, found in enumerate(self)
        ]

    def to_yolo(self) -> str:
        """A line a box, as in YOLO's label files with confidence: ``label x y width height score``, the middle and size
        as shares of the picture; the object's number at the end where objects are followed."""
        height, width = self.size
        lines = []
        for row, ((x1, y1, x2, y2), score, label, _) in enumerate(self):
            number = "" if self.ids is None else f" {self.ids[row]}"
            shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(f"{label} {' '.join(f'{share:.6f}' for share in shares)} {score:.6f}{number}\n")
        return "".join(lines)

    def to_supervision(self) -> Any:
        """A ``supervision.Detections`` with ``class_name`` in its data, and ``tracker_id`` where objects are followed.

        Raises:
            UserError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError(
                f"to_supervision() needs supervision ({error}); install it with: pip install 'hatdet[track]'"
            ) from error
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32).reshape(-1, 4),
            confidence=self.scores.astype(np.float32),
            class_id=self.labels.astype(int),
            tracker_id=None if self.ids is None else self.ids.astype(int),
            data={"class_name": np.array([self.name(label) for label in self.labels.tolist()], dtype=str)},
        )

    def draw(self, image: Image | None = None) -> Image:
        """The picture with the boxes (of a model that finds points: with these), classes and scores: uint8 (height,
        width, 3) BGR.

        Args:
            image: what is drawn on (BGR, of the same size); None: the picture itself.

        Raises:
            UserError: its file cannot be read any more.
        """
        from hatdet.export.images import read_image
        from hatdet.visualization.draw import draw_boxes

        if image is None:
            image = self.image if self.image is not None or self.path is None else read_image(self.path)
        if image is None:
            raise UserError("this result keeps no picture: give draw(image) the one that was detected in")
        return draw_boxes(image, self.boxes, self.labels, self.names, self.scores, ids=self.ids, points=self.of_points)

    def save(self, path: str | Path) -> Path:
        """Write :meth:`draw`'s picture; the suffix chooses the format.

        Raises:
            UserError: it is none of a picture.
        """
        from hatdet.data.image_file import SUFFIXES
        from hatdet.visualization.pictures import write_image

        if Path(path).suffix.lower() not in SUFFIXES:
            raise UserError(f"save({str(path)!r}) is no name of a picture; end it with one of {', '.join(SUFFIXES)}")
        return write_image(path, self.draw())


def class_labels(classes: Collection[str | int], names: Sequence[str]) -> set[int]:
    """The labels of classes that are named, or numbered.

    Raises:
        UserError: the model has no such class.
    """
    from hatdet.utils.class_names import listed
    from hatdet.utils.errors import did_you_mean

    labels = set()
    for one in (classes,) if isinstance(classes, (str, int)) else classes:
        if isinstance(one, str) and one in names:
            labels.add(list(names).index(one))
        elif not isinstance(one, str) and 0 <= int(one) < len(names):
            labels.add(int(one))
        else:
            hint = did_you_mean(one, names) if isinstance(one, str) else ""
            raise UserError(f"classes: the model has no {one!r}{hint}; it has {listed(names)}: name some of them")
    return labels
