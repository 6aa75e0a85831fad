"""What may happen to a process that loads data: each is one line in the training process, and none hangs."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from hatdet.data.datasets.objects import input_scale
from hatdet.data.loader import build_data_loader
from hatdet.data.transforms.apply import apply
from hatdet.data.transforms.sample import Context, Sample
from hatdet.data.workers import _watched
from hatdet.export.images import apply_transforms
from hatdet.utils.errors import UserError


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch waits 5 s for a worker before it ends it."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))
    yield
    gc.collect()


class Items(Dataset[dict[str, torch.Tensor]]):
    """Six items of 1 MiB; item 3 calls ``fault``."""

    def __init__(self, fault: Any) -> None:
        self.fault = fault

    def __len__(self) -> int:
        return 6

    def __getitem__(self, ref: Any) -> dict[str, torch.Tensor]:
        if ref.index == 3:
            self.fault()
        return {"img": torch.full((1024, 1024), ref.index, dtype=torch.uint8)}


def stack(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {"img": torch.stack([item["img"] for item in items])}


def loader(fault: Any, workers: int = 1, **settings: Any) -> Any:
    return build_data_loader(Items(fault), batch_size=2, num_workers=workers, collate_fn=stack, **settings)


def error_of(fault: Any, workers: int = 1) -> str:
    """The message of the error that a pass over the loader ends in."""
    with pytest.raises(UserError) as caught:
        for _ in loader(fault, workers):
            pass
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    return message


def kill(number: int) -> Any:
    return lambda: os.kill(os.getpid(), number)


def test_a_worker_that_the_system_kills() -> None:
    """As it does where memory runs out."""
    message = error_of(kill(signal.SIGKILL))
    assert message.startswith("data worker ") and "was killed (SIGKILL, mostly: no memory left)" in message
    assert "a smaller batch_size, imgsz or number of workers" in message and "--resume" in message


def test_a_worker_that_just_ends() -> None:
    assert "ended unexpectedly (mostly: no memory left)" in error_of(lambda: os._exit(1))


def test_a_worker_without_room_in_shared_memory_gets_a_bus_error() -> None:
    message = error_of(kill(signal.SIGBUS))
    assert "was killed (SIGBUS: no room in shared memory); use fewer workers" in message
    assert "--shm-size" in message


def test_a_worker_with_a_segmentation_fault() -> None:
    assert "was killed (SIGSEGV)" in error_of(kill(signal.SIGSEGV))


@pytest.fixture
def small_shared_memory() -> Iterator[None]:
    """Files of at most half a MiB: shared memory cannot be enlarged beyond, as where /dev/shm is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_shared_memory")
def test_a_full_shared_memory_is_named_and_does_not_hang() -> None:
    """torch puts the batch there in a thread of the worker's queue, whose errors nobody waits for."""
    message = error_of(lambda: None)
    assert message.startswith("no room in shared memory for a batch of the data workers (File too large); use fewer")
    assert "workers=0" in message


def test_the_sentence_of_torch_for_a_full_shared_memory() -> None:
    def fault() -> None:
        raise RuntimeError("unable to write to file </torch_123_456_0>: No space left on device (28)")

    for workers in (0, 1):
        assert "no room in shared memory for a batch of the data workers (No space left on device)" in error_of(
            fault, workers
        )


def test_too_many_open_files() -> None:
    def fault() -> None:
        raise OSError(errno.EMFILE, "Too many open files", "x.jpg")

    assert "Too many open files" in error_of(fault) and "ulimit -n" in error_of(fault)
    assert error_of(fault, 0) == "Too many open files: x.jpg; raise the limit (ulimit -n 65536) or use fewer workers" \
        " (--cfg-options workers=1)"  # fmt: skip


def test_an_error_for_users_crosses_from_the_worker_as_its_own_line() -> None:
    def fault() -> None:
        try:
            raise KeyError("label")
        except KeyError as error:
            raise UserError("a.jpg: no label; give it one") from error

    assert error_of(fault) == error_of(fault, 0) == "a.jpg: no label; give it one"


def test_a_defect_in_a_worker_keeps_its_traceback() -> None:
    def fault() -> None:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="Original Traceback"):
        list(loader(fault))


def test_no_memory_in_a_worker_and_here() -> None:
    def numpy() -> None:
        np.empty(10**15)

    def tensor() -> None:
        torch.empty(10**15)

    for fault, amount in ((numpy, "7.11 PiB"), (tensor, "3725290.3 GiB")):
        for workers in (0, 1):
            message = error_of(fault, workers)
            assert message.startswith("no memory left") and "a smaller batch_size, imgsz" in message
            assert amount in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_leaves_the_workers_alive(number: signal.Signals) -> None:
    """The training process answers it, and needs its batches until then."""
    seen = [int(batch["img"].sum()) for batch in loader(kill(number))]
    assert seen == [1 << 20, 5 << 20, 9 << 20]


def test_a_signal_that_comes_while_a_worker_starts_leaves_it_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own first step in a new worker; hatdet's (init_worker) comes later."""
    handling = torch.utils.data._utils.signal_handling
    first_step = handling._set_worker_signal_handlers

    def ended_at_once() -> None:
        first_step()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(handling, "_set_worker_signal_handlers", ended_at_once)
    assert len(list(loader(lambda: None))) == 3


def test_a_worker_that_hangs_is_ended_with_the_loader() -> None:
    """It ignores SIGTERM; torch gives up waiting for it all the same."""

    def fault() -> None:
        time.sleep(60)

    batches = iter(loader(fault, persistent_workers=False))
    next(batches)
    workers = multiprocessing.active_children()
    assert workers
    batches.close()
    del batches
    gc.collect()
    for worker in workers:
        worker.join(5)
        assert not worker.is_alive()


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError(),
                                   FileNotFoundError(2, "No such file or directory")])  # fmt: skip
def test_a_worker_that_dies_while_its_batch_is_fetched(error: Exception) -> None:
    worker = multiprocessing.get_context("fork").Process(target=kill(signal.SIGKILL), daemon=True)
    worker.start()

    class Batches:
        _workers = [worker]

        def __next__(self) -> Any:
            raise error

    with pytest.raises(UserError, match=r"data worker \d+ was killed \(SIGKILL"):
        next(_watched(Batches()))  # type: ignore[arg-type]


def test_a_persistent_worker_that_died_between_two_passes() -> None:
    data = loader(lambda: None)
    assert len(list(data)) == 3
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    with pytest.raises(UserError, match=r"data worker \d+ was killed \(SIGKILL"):
        list(data)


def test_a_dead_worker_is_noticed_when_its_batch_is_due_not_in_the_middle_of_a_step() -> None:
    arrived = multiprocessing.get_context("fork").Event()

    def fault() -> None:
        arrived.wait(60)
        os.kill(os.getpid(), signal.SIGKILL)

    batches = iter(loader(fault))
    next(batches)
    arrived.set()
    for worker in multiprocessing.active_children():
        worker.join()
    time.sleep(0.1)  # torch's own handler would raise here
    with pytest.raises(UserError, match="was killed"):
        next(batches)


def test_a_loader_can_be_passed_over_again_after_a_break() -> None:
    data = loader(lambda: None, 1)
    assert int(next(iter(data))["img"][0, 0, 0]) == 0
    assert [int(batch["img"][0, 0, 0]) for batch in data] == [0, 2, 4]


# ------------------------------------------------------------------------------------------------ transforms
def sample() -> Sample:
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return Sample(index=0, img_id=17, file_name="cats/7.jpg", orig_size=(8, 8), tiles=[], canvas=(8, 8), boxes=boxes,
                  labels=labels, img_size=(8, 8))  # fmt: skip


def context() -> Context:
    return Context(np.random.default_rng(0), None, must_keep=False)  # type: ignore[arg-type]


class Sharpen:
    """A user's own transform."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __call__(self, sample: Sample, ctx: Context) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_a_transform_that_raises_is_named_with_the_image() -> None:
    with pytest.raises(UserError) as caught:
        apply([Sharpen(sample()), Sharpen(IndexError("index 3 is out of bounds"))], sample(), context())
    message = str(caught.value)
    assert message.startswith(
        "the transform Sharpen failed on image cats/7.jpg (id 17): IndexError: index 3 is out of bounds ("
    )
    assert "test_workers.py:" in message and message.endswith("); mend the transform, or leave the image out")


def test_a_transform_that_returns_something_else_is_named() -> None:
    with pytest.raises(UserError, match=r"the transform Sharpen returned a Tensor for image cats/7.jpg; a transform"):
        apply([Sharpen(torch.zeros(3))], sample(), context())
    assert apply([Sharpen(None)], sample(), context()) is None


@pytest.mark.parametrize("error", [UserError("mine"), MemoryError()])
def test_other_errors_of_a_transform_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        apply([Sharpen(error)], sample(), context())
    assert caught.value is error


def test_a_users_transform_that_fails_on_a_picture_without_objects_is_no_obstacle() -> None:
    """How large objects are at the network's input is then not known; training begins all the same."""
    assert input_scale([Sharpen(IndexError("no box"))], (8, 8)) is None  # type: ignore[list-item]


def test_a_transform_that_fails_while_an_image_is_exported_or_inferred_is_named() -> None:
    with pytest.raises(UserError, match=r"the transform Sharpen failed on image a/b.png \(id 3\): KeyError: 'x'"):
        apply_transforms(np.zeros((8, 8, 3), np.uint8), [Sharpen(KeyError("x"))], "a/b.png", 3)  # type: ignore[list-item]
