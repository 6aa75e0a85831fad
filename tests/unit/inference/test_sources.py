"""Where pictures come from, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from hatdet.inference.sources import (
    as_bgr,
    frames_of,
    is_moving,
    is_single,
    picture_paths,
    video_length,
    video_rate,
    videos_of,
)
from hatdet.utils.errors import UserError


def picture(level: int) -> Any:
    return np.full((8, 12, 3), (level, 0, 200), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(("a.png", "b.png", "sub/c.png")):
        cv2.imwrite(str(tmp_path / name), picture(number))
    (tmp_path / "notes.txt").write_text("x")
    return tmp_path


def test_files_folders_and_patterns(folder: Path) -> None:
    assert [path.name for path in picture_paths(folder)] == ["a.png", "b.png", "c.png"]
    assert [path.name for path in picture_paths(f"{folder}/*.png")] == ["a.png", "b.png"]
    assert [path.name for path in picture_paths(f"{folder}/**/*.png")] == ["a.png", "b.png", "c.png"]
    cv2.imwrite(str(folder / "d[1].png"), picture(9))
    assert [path.name for path in picture_paths(folder / "d[1].png")] == ["d[1].png"], "a file with signs in its name"
    frames = list(frames_of([folder / "b.png", picture(5), f"{folder}/sub"]))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 5, 2]
    assert [frame.kept for frame in frames] == [False, True, False]


def test_what_is_one_picture_and_what_moves(folder: Path) -> None:
    assert is_single(folder / "a.png") and is_single(picture(0))
    assert not any(map(is_single, (folder, f"{folder}/*.png", [picture(0)], "v.mp4", 0)))
    assert all(map(is_moving, (0, "0", "rtsp://host/1", "V.MP4", Path("a.mkv"))))
    assert not any(map(is_moving, (True, "a.png", picture(0), [])))


def test_a_folder_is_one_whatever_it_is_called(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").rename(folder / "2024")
    monkeypatch.chdir(folder)
    assert not is_moving("2024") and [frame.path for frame in frames_of("2024")] == [Path("2024/c.png")]


def test_a_pattern_of_videos_is_all_of_them(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", "c[1].mp4"):
        (tmp_path / name).touch()
    assert [Path(name).name for name in videos_of(f"{tmp_path}/?.mp4")] == ["a.mp4", "b.mp4"]
    assert videos_of(tmp_path / "c[1].mp4") == [tmp_path / "c[1].mp4"] and videos_of(0) == [0]
    assert videos_of("rtsp://host/1?a=b") == ["rtsp://host/1?a=b"], "an address is no pattern"
    with pytest.raises(UserError, match=r"no video matches .*\.avi; name a pattern of files with \.mp4"):
        videos_of(f"{tmp_path}/*.avi")


def test_arrays_in_either_order_and_gray() -> None:
    bgr = picture(7)
    assert np.array_equal(as_bgr(bgr), bgr) and np.array_equal(as_bgr(bgr[:, :, ::-1], "RGB"), bgr)
    gray = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert as_bgr(gray).shape == (2, 3, 3) and np.array_equal(as_bgr(gray[:, :, None]), as_bgr(gray))
    for bad, message in (
        (np.zeros((3, 8, 12), np.uint8), "got uint8 (3, 8, 12): convert it with array.transpose(1, 2, 0)"),
        (np.zeros((8, 12, 3), np.float32), "got float32 (8, 12, 3): convert it"),
        (np.zeros((8, 12, 4), np.uint8), "got uint8 (8, 12, 4): convert it"),
        (np.zeros((0, 12, 3), np.uint8), "has no pixels"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            as_bgr(bad)


def test_a_pil_image_is_known_to_be_rgb() -> None:
    class Picture:
        """As PIL's, whose colours are RGB whatever the detector was told of arrays."""

        def convert(self, mode: str) -> Any:
            assert mode == "RGB"
            return picture(7)[:, :, ::-1]

    Picture.__module__ = "PIL.Image"
    assert np.array_equal(as_bgr(Picture(), "BGR"), picture(7))


def test_a_video_frame_by_frame(tmp_path: Path) -> None:
    file = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (32, 16))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for level in (0, 100, 200):
        writer.write(np.full((16, 32, 3), level, np.uint8))
    writer.release()
    frames = list(frames_of(str(file)))
    assert [frame.number for frame in frames] == [0, 1, 2] and [frame.time for frame in frames] == [0.0, 0.1, 0.2]
    assert all(abs(int(frame.image.mean()) - level) < 4 for frame, level in zip(frames, (0, 100, 200), strict=True))
    assert frames[0].path == file and video_rate(file) == 10.0 and video_length(file) == 3


def test_a_camera_is_opened_by_its_number_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    class Capture:
        def __init__(self, source: Any) -> None:
            self.left, self.released = 2, False
            opened.append((source, self))

        def isOpened(self) -> bool:
            return True

        def get(self, _: int) -> float:
            return 0.0

        def read(self) -> tuple[bool, Any]:
            self.left -= 1
            return self.left >= 0, picture(self.left)

        def release(self) -> None:
            self.released = True

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    assert len(list(frames_of(0))) == 2 and opened[-1][0] == 0 and opened[-1][1].released
    next(stream := frames_of("rtsp://host/1"))
    assert opened[-1][0] == "rtsp://host/1" and not opened[-1][1].released
    stream.close()  # type: ignore[attr-defined]
    assert opened[-1][1].released, "who stops listening lets the camera go"
    assert video_rate(0, otherwise=12.0) == 12.0 and video_length("0") == 0


def test_refusals(folder: Path) -> None:
    (folder / "v.mp4").write_bytes(b"no video")
    for source, message in (
        (folder / "absent.png", r"no picture, folder or video is at .*absent\.png; name a picture or video, a"),
        (folder / "notes.txt", r"notes\.txt is no picture: its name ends with none of \.jpg, "),
        (f"{folder}/*.bmp", r"no picture matches .*\*\.bmp; name a pattern of files with \.jpg"),
        (folder / "absent.mp4", r"there is no video .*absent\.mp4; name a file that is there"),
        (folder / "v.mp4", r"the video .*v\.mp4 cannot be opened; check that it is whole, or convert it"),
        (b"a file", r"the bytes of a file are no picture; give what cv2\.imdecode"),
        (SimpleNamespace(), r"a SimpleNamespace is nothing to detect in; give a picture or video"),
    ):
        with pytest.raises(UserError, match=message):
            list(frames_of(source))
