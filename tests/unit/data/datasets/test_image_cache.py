"""Decoded images that processes share, and those that each keeps."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest

from hatdet.data.datasets import image_cache
from hatdet.data.datasets.image_cache import ImageCache, SharedImages

SHAPES = np.array([(4, 5, 3), (3, 3, 1), (8, 2, 3), (4, 5, 3)])
BYTES = [60, 9, 48, 60]


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPES[number]).astype(np.uint8)


def in_a_fork(work: object) -> int:
    """What a forked process ends with."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = int(work())  # type: ignore[operator]
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def never() -> np.ndarray:
    raise AssertionError("decoded again")


def test_what_one_process_decodes_the_others_have() -> None:
    cache = ImageCache(1 << 20, SHAPES)
    own = cache.get(0, lambda: picture(0))
    assert np.array_equal(own, picture(0))
    assert in_a_fork(lambda: cache.get(2, lambda: picture(2)).sum() == picture(2).sum()) == 1
    assert np.array_equal(cache.get(2, never), picture(2))
    assert in_a_fork(lambda: all(np.array_equal(cache.get(n, never), picture(n)) for n in (0, 2))) == 1
    assert cache.get(0, never).shape == (4, 5, 3)


def test_images_are_read_only() -> None:
    for cache in (ImageCache(1 << 20, SHAPES), ImageCache(1 << 20), ImageCache(0)):
        for _ in range(2):
            image = cache.get(1, lambda: picture(1))
            with pytest.raises(ValueError, match="read-only"):
                image[0, 0] = 1


@pytest.mark.parametrize(
    ("size", "places"), [(0, 0), (59, 0), (60, 1), (69, 2), (116, 2), (117, 3), (177, 4), (10**6, 4)]
)
def test_as_many_have_a_place_as_fit(size: int, places: int) -> None:
    images = SharedImages(SHAPES, size)
    assert len(images) == places
    for number in range(4):
        assert (images.put(number, picture(number)) is not None) == (number < places)
    for number in range(4):
        kept = images.get(number)
        assert (kept is not None) == (number < places)
        assert kept is None or np.array_equal(kept, picture(number))
    assert images.get(-1) is None and images.put(-1, picture(3)) is None


def test_an_image_of_another_shape_is_kept_by_its_process_alone() -> None:
    cache = ImageCache(1 << 20, SHAPES)
    other = np.zeros((9, 9, 3), np.uint8)
    assert cache.get(0, lambda: other) is other and cache.get(0, never) is other
    assert in_a_fork(lambda: cache.get(0, lambda: picture(0)).shape == (9, 9, 3)) == 1  # it has its parent's
    assert cache._shared is not None and cache._shared.get(0) is None


def test_the_last_ones_that_have_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ImageCache(70)  # not shared
    for number in (0, 1):
        cache.get(number, lambda number=number: picture(number))  # type: ignore[misc]
    cache.get(1, never)
    cache.get(2, lambda: picture(2))  # 60 + 9 + 48: the first one goes
    cache.get(1, never)
    with pytest.raises(AssertionError, match="decoded again"):
        cache.get(0, never)


def test_nothing_is_added_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [400.0]
    monkeypatch.setattr(image_cache, "free_memory", lambda: free[0])
    monkeypatch.setattr(image_cache, "LOOK_AFTER", 50)
    images = SharedImages(SHAPES, None)
    assert len(images) == 4  # 177 of at most 200 bytes
    assert images.put(0, picture(0)) is not None
    free[0] = 199.0
    assert images.put(2, picture(2)) is None and images.put(1, picture(1)) is None
    assert np.array_equal(images.get(0), picture(0))  # type: ignore[arg-type]
    free[0] = 100.0
    assert len(SharedImages(SHAPES, None)) == 0


def test_a_process_that_is_killed_at_the_lock_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "PATIENCE", 0.05)
    cache = ImageCache(1 << 20, SHAPES)
    cache.get(0, lambda: picture(0))

    def die() -> int:
        assert cache._shared is not None
        cache._shared._lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert in_a_fork(die) == -signal.SIGKILL
    for number in (0, 1, 0, 1):
        assert np.array_equal(cache.get(number, lambda number=number: picture(number)), picture(number))  # type: ignore[misc]
    cache.get(0, never)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_has_memory_of_its_own(again: object) -> None:
    cache = ImageCache(1 << 20, SHAPES)
    cache.get(0, lambda: picture(0))
    other = again(cache)  # type: ignore[operator]
    assert other._shared is None and other.max_bytes == 1 << 20
    with pytest.raises(AssertionError, match="decoded again"):
        other.get(0, never)
    assert other.get(1, lambda: picture(1)) is other.get(1, never)


def test_where_there_is_no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(image_cache.mmap, "mmap", refuse)
    cache = ImageCache(None, SHAPES)
    assert cache._shared is None and cache.max_bytes == 256 << 20
    assert cache.get(0, lambda: picture(0)) is cache.get(0, never)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux's /proc says what is mapped")
def test_the_memory_has_no_name_and_goes_with_its_last_array() -> None:
    import gc

    def mapped() -> list[str]:
        return [line for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/zero" in line]

    before, names = len(mapped()), set(os.listdir("/dev/shm"))
    cache: ImageCache | None = ImageCache(1 << 20, np.array([(1000, 1000, 3)] * 2))
    assert cache is not None
    kept = cache.get(0, lambda: np.full((1000, 1000, 3), 7, np.uint8))
    assert len(mapped()) > before and set(os.listdir("/dev/shm")) - names == set()
    del cache
    gc.collect()
    assert kept.max() == kept.min() == 7
