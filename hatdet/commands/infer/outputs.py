"""What ``tools/infer.py`` writes: pictures, videos, json, COCO, YOLO, CSV; each while the pictures go by."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from hatdet.export.delivery import write_json
from hatdet.inference.results import Image, Result
from hatdet.inference.sources import video_rate
from hatdet.utils.errors import UserError
from hatdet.visualization.pictures import write_image

RESULTS_NAME, COCO_NAME, CSV_NAME, LABELS = "detections.json", "detections_coco.json", "detections.csv", "labels"
CODECS = ((".mp4", "mp4v"), (".avi", "MJPG"))
"""Of written videos: the first one that this OpenCV has."""
COLUMNS = ("file", "frame", "seconds", "class", "label", "score", "x1", "y1", "x2", "y2", "track")


class Outputs:
    """The files of a run.

    Args:
        folder: where they go. kinds: some of ``pictures``, ``video``, ``json``, ``coco``, ``yolo``, ``csv``; None:
            json, a drawn picture of each picture, a video of each video.
        names: classes by label.
    """

    def __init__(self, folder: Path, kinds: Sequence[str] | None, names: Sequence[str]) -> None:
        self.folder, self.kinds, self.names = folder, tuple(kinds or ("pictures", "video", "json")), tuple(names)
        self.frames_too = kinds is not None
        """Whether ``pictures`` are asked for by name: of each frame one."""
        self.records: list[dict[str, Any]] = []
        self.coco: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        self.count, self.written = 0, {"pictures": 0, "yolo": 0}
        self.videos: list[Path] = []
        self._video: tuple[Path, Any] | None = None
        self._csv: tuple[IO[str], Any] | None = None

    def add(self, result: Result, target: Path, moving: bool) -> None:
        """Write what belongs to one picture.

        Args:
            target: the drawn picture's file. moving: a frame of a video; ``target``'s folder is named like the video.
        """
        pictured = "pictures" in self.kinds and (self.frames_too or not moving)
        filmed = "video" in self.kinds and moving
        if pictured or filmed:
            drawn = result.draw()
            if pictured:
                write_image(target, drawn)
                self.written["pictures"] += 1
            if filmed:
                self._frame(target.parent, drawn, str(result.path))
        if "yolo" in self.kinds:
            self._labels(target, result)
        if "json" in self.kinds:
            self.records.append(record_of(result, target if pictured else None, moving))
        if "coco" in self.kinds:
            self._coco(result, target)
        if "csv" in self.kinds:
            self._rows(result)
        self.count += 1

    def _labels(self, target: Path, result: Result) -> None:
        inside = target.relative_to(self.folder) if target.is_relative_to(self.folder) else Path(target.name)
        path = (self.folder / LABELS / inside).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(result.to_yolo(), encoding="utf-8")
        self.written["yolo"] += 1

    def _coco(self, result: Result, target: Path) -> None:
        number, (height, width) = len(self.coco["images"]) + 1, result.size
        name = target.relative_to(self.folder) if target.is_relative_to(self.folder) else Path(target.name)
        self.coco["images"].append({"id": number, "file_name": name.as_posix(), "height": height, "width": width})
        for row in result.to_coco(number):
            area, count = row["bbox"][2] * row["bbox"][3], len(self.coco["annotations"])
            self.coco["annotations"].append({"id": count + 1, "area": area, "iscrowd": 0, **row})

    def _rows(self, result: Result) -> None:
        if self._csv is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / CSV_NAME).open("w", encoding="utf-8", newline="")
            self._csv = (file, csv.writer(file))
            self._csv[1].writerow(COLUMNS)
        stream, writer = self._csv
        seconds = "" if result.time is None else f"{result.time:.3f}"
        frame = "" if result.time is None else result.number
        for row, (box, score, label, name) in enumerate(result):
            numbers = (*(f"{v:.2f}" for v in box), "" if result.ids is None else result.ids[row])
            writer.writerow([result.path, frame, seconds, name, label, f"{score:.6g}", *numbers])
        stream.flush()  # who follows a camera's file reads it while it grows

    def _frame(self, place: Path, drawn: Image, source: str) -> None:
        """Another frame of the video that is called like ``place``; a new one where that changes."""
        if self._video is None or self._video[0] != place:
            self.end_video()
            path, writer = open_video(place, (drawn.shape[1], drawn.shape[0]), video_rate(source))
            self.videos.append(path)
            self._video = (place, writer)
        self._video[1].write(drawn)

    def end_video(self) -> None:
        """Finish the file of the present video."""
        if self._video is not None:
            self._video[1].release()
            self._video = None

    def close(self, facts: dict[str, Any]) -> list[str]:
        """Finish all files; what was written, in words.

        Args:
            facts: what ``detections.json`` says besides the pictures.
        """
        self.end_video()
        lines = [f"{self.written['pictures']} pictures"] if self.written["pictures"] else []
        lines += [str(path) for path in self.videos]
        if "yolo" in self.kinds:
            lines.append(f"{self.written['yolo']} files in {self.folder / LABELS}")
        if "json" in self.kinds:
            lines.append(str(write_json(self.folder / RESULTS_NAME, {**facts, "images": self.records})))
        if "coco" in self.kinds:
            categories = [{"id": label + 1, "name": name} for label, name in enumerate(self.names)]
            lines.append(str(write_json(self.folder / COCO_NAME, {**self.coco, "categories": categories})))
        if self._csv is not None:
            self._csv[0].close()
            lines.append(str(self.folder / CSV_NAME))
        return lines


def open_video(place: Path, size: tuple[int, int], rate: float) -> tuple[Path, Any]:
    """(file, writer) of a video of frames of ``size`` (width, height).

    Raises:
        UserError: this OpenCV writes none.
    """
    import cv2

    place.parent.mkdir(parents=True, exist_ok=True)
    for suffix, codec in CODECS:
        path = place.with_name(place.name + suffix)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
        if writer.isOpened():
            return path, writer
        writer.release()
    raise UserError(f"OpenCV cannot write a video at {place}; write something else: --write pictures json csv")


def record_of(result: Result, target: Path | None, moving: bool) -> dict[str, Any]:
    """What ``detections.json`` lists of a picture."""
    record: dict[str, Any] = {
        "file": str(result.path),
        "picture": str(target) if target is not None else None,
        "height": result.size[0],
        "width": result.size[1],
        "detections": [
            {"class": found.name, "label": found.label, "score": found.score, "box": list(found.box)}
            | ({"point": result.points[row].tolist()} if result.of_points else {})
            | ({} if result.ids is None else {"track": int(result.ids[row])})
            for row, found in enumerate(result)
        ],
    }
    return {**record, "frame": result.number, "seconds": result.time} if moving else record
