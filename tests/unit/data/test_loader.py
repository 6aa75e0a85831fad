"""Batches: their form, and that they do not depend on workers, interruptions or the number of processes."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.building import Builder
from hatdet.data.collate import Collate2D
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.loader import build_data_loader
from hatdet.data.samplers import RefSampler, SeededSampler
from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.geometry import Pad, RandomCrop, RandomFlip, RandomResize
from hatdet.data.transforms.mixup import MixUp
from hatdet.data.transforms.mosaic import Mosaic
from hatdet.utils.errors import UserError

SIZE = (48, 64)


def dataset(packed: Path) -> CocoFromLMDB:
    late = [
        RandomResize(scale=SIZE, ratio_range=(0.5, 2.0)),
        RandomCrop(crop_size=SIZE),
        HSVRandomAug(),
        RandomFlip(px=0.5),
        Pad(size=SIZE),
    ]
    full = [Mosaic(img_scale=SIZE, max_cached=6), *late, MixUp(prob=0.5, max_cached=3)]
    return CocoFromLMDB(data_path=packed, transforms=full, late_transforms=late)


def loader(packed: Path, **options: Any) -> Any:
    return build_data_loader(**{"dataset": dataset(packed), "batch_size": 3, "shuffle": True, **options})


def same(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_form_of_a_batch(packed: Path) -> None:
    batch = next(iter(loader(packed)))
    assert batch["img"].shape == (3, 3, 48, 64) and batch["img"].dtype == torch.uint8
    assert batch["img"].is_contiguous(memory_format=torch.channels_last)
    most = batch["gt_labels"].shape[1]
    assert batch["gt_boxes"].shape == (3, most, 4) and batch["gt_boxes"].dtype == torch.float32
    assert batch["gt_labels"].dtype == torch.int64
    counts = (batch["gt_labels"] >= 0).sum(dim=1)
    assert int(counts.max()) == most
    for boxes, count in zip(batch["gt_boxes"], counts, strict=True):
        assert (boxes[:count, 2:] > boxes[:count, :2]).all() and (boxes[count:] == 0).all()
        assert (boxes >= 0).all() and (boxes[:, 2] <= 64).all() and (boxes[:, 3] <= 48).all()
    for key, kind in [("orig_size", torch.int64), ("img_size", torch.int64), ("scale_factor", torch.float32)]:
        assert batch[key].shape == (3, 2) and batch[key].dtype == kind
    assert batch["img_id"].shape == (3,)


def test_collate_without_any_box_and_of_one_image() -> None:
    item = {
        "img": torch.zeros((3, 4, 5), dtype=torch.uint8),
        "gt_boxes": torch.zeros((0, 4)),
        "gt_labels": torch.zeros(0, dtype=torch.int64),
        "img_id": 5,
        "orig_size": (4, 5),
        "img_size": (4, 5),
        "scale_factor": (1.0, 0.5),
        "file_name": "x.jpg",
    }
    batch = Collate2D()([item])
    assert batch["gt_boxes"].tolist() == [[[0, 0, 0, 0]]] and batch["gt_labels"].tolist() == [[-1]]
    assert batch["scale_factor"].tolist() == [[1.0, 0.5]] and batch["file_name"] == ["x.jpg"]
    with pytest.raises(UserError, match=r"different sizes in a batch: .*\(3, 4, 5\), \(3, 6, 5\)"):
        Collate2D()([item, {**item, "img": torch.zeros((3, 6, 5), dtype=torch.uint8)}])


def epochs(loader: Any, count: int) -> list[Any]:
    batches = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_batches_do_not_depend_on_the_number_of_workers(packed: Path) -> None:
    expected = epochs(loader(packed), 2)
    assert len(expected) == 6
    assert not same(expected[0], expected[3])
    for workers in (1, 2, 3):
        found = epochs(loader(packed, num_workers=workers), 2)
        assert all(same(a, b) for a, b in zip(expected, found, strict=True))


def test_spawned_workers_give_the_same(packed: Path) -> None:
    found = list(loader(packed, num_workers=1, multiprocessing_context="spawn", persistent_workers=False))
    assert all(same(a, b) for a, b in zip(list(loader(packed)), found, strict=True))


def test_an_epoch_continues_in_the_middle(packed: Path) -> None:
    whole = epochs(loader(packed), 2)[3:]
    resumed = loader(packed, num_workers=2)
    resumed.sampler.set_epoch(1)
    resumed.sampler.start = 3
    assert all(same(a, b) for a, b in zip(whole[1:], list(resumed), strict=True))


def test_ranks_together_see_what_one_process_sees(packed: Path) -> None:
    data = dataset(packed)
    one = SeededSampler(dataset=data, num_replicas=1, rank=0)
    alone = [data[ref] for ref in one]
    parts = [[data[ref] for ref in SeededSampler(dataset=data, num_replicas=2, rank=rank)] for rank in range(2)]
    dealt = [item for row in zip(*parts, strict=True) for item in row]
    assert len(dealt) == 8
    assert all(torch.equal(a["img"], b["img"]) for a, b in zip(alone, dealt, strict=True))
    assert all(torch.equal(a["gt_boxes"], b["gt_boxes"]) for a, b in zip(alone, dealt, strict=True))


def test_the_pipeline_switches_without_restarting_workers(packed: Path) -> None:
    switching = loader(packed, num_workers=2)
    list(switching)
    switching.sampler.pipeline = 1
    plain = loader(packed)
    plain.sampler.pipeline = 1
    assert all(same(a, b) for a, b in zip(list(plain), list(switching), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_states_are_left_alone(packed: Path, workers: int) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()
    list(loader(packed, num_workers=workers))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tobytes() == before[1] and random.getstate() == before[2]


def config(packed: Path, **options: Any) -> dict[str, Any]:
    data = dict(type="CocoFromLMDB", data_path=str(packed), transforms=[dict(type="Pad", size=(96, 96))])
    return dict(type=torch.utils.data.DataLoader, dataset=data, **options)


def test_built_from_a_config(packed: Path) -> None:
    built = Builder().build(
        config(
            packed,
            sampler=dict(type="SeededSampler", shuffle=True, seed=3),
            batch_size=2,
            collate_fn=dict(type="Collate2D"),
            drop_last=True,
        )
    )
    assert isinstance(built, torch.utils.data.DataLoader)
    assert isinstance(built.sampler, SeededSampler) and built.sampler.seed == 3
    assert len(built) == 4


def test_torch_samplers_work_too(packed: Path) -> None:
    distributed = torch.utils.data.DistributedSampler
    built = Builder().build(config(packed, sampler=dict(type=distributed, seed=5), batch_size=2))
    assert isinstance(built.sampler, SeededSampler)
    assert built.sampler.shuffle and built.sampler.seed == 5
    built = Builder().build(
        config(packed, sampler=dict(type=distributed, shuffle=False, num_replicas=2, rank=1), shuffle=False)
    )
    assert [int(b["img_id"]) for b in built] == [101, 104, 106, 108]  # 1, 3, 5, 7 of those with boxes
    data = dataset(packed)
    built = build_data_loader(dataset=data, sampler=torch.utils.data.RandomSampler(data), batch_size=2)  # type: ignore
    assert isinstance(built.sampler, RefSampler)
    assert len(list(built)) == 4


def test_what_a_loader_is_without_any_wish(packed: Path) -> None:
    plain = build_data_loader(dataset(packed))
    assert (plain.batch_size, plain.num_workers, plain.timeout, plain.drop_last) == (1, 0, 0, False)
    assert not plain.pin_memory and not plain.persistent_workers and plain.multiprocessing_context is None
    assert isinstance(plain.sampler, SeededSampler) and not plain.sampler.shuffle and plain.sampler.seed == 0
    assert plain.generator is not None and plain.generator.initial_seed() == 0
    other = loader(packed, seed=5, drop_last=True, batch_size=3)
    assert other.sampler.seed == 5 and other.sampler.shuffle and other.generator.initial_seed() == 5
    assert len(other) == 2 and len(loader(packed, batch_size=8, drop_last=True)) == 1


def test_no_more_workers_than_processors(
    packed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hatdet.data.loader.usable_processors", lambda: 2)
    with caplog.at_level("INFO", "hatdet"):
        assert [loader(packed, num_workers=n).num_workers for n in (7, 7, 2, 0)] == [2, 2, 2, 0]
    assert [r.getMessage() for r in caplog.records if "num_workers" in r.getMessage()] == [
        "num_workers=7: 2 work here, one a processor; the batches are the same"
    ]


def test_settings_of_workers(packed: Path) -> None:
    one = loader(packed, num_workers=1, prefetch_factor=3)
    assert one.persistent_workers and one.prefetch_factor == 3 and one.num_workers == 1
    assert one.multiprocessing_context.get_start_method() == "fork"
    assert not loader(packed, num_workers=1, persistent_workers=False).persistent_workers
    spawned = loader(packed, num_workers=1, multiprocessing_context="spawn")
    assert spawned.multiprocessing_context.get_start_method() == "spawn"
    with pytest.raises(UserError, match="prefetch_factor needs num_workers of at least 1"):
        loader(packed, prefetch_factor=3)
    with pytest.raises(UserError, match="num_workers must be at least 0, got -1"):
        loader(packed, num_workers=-1)
    with pytest.raises(UserError, match=r"unknown arguments \['world'\]"):
        Builder().build(config(packed, sampler=dict(type=torch.utils.data.DistributedSampler, world=2)))


def test_fewer_images_than_a_batch_are_one_batch(packed: Path, caplog: pytest.LogCaptureFixture) -> None:
    few = loader(packed, batch_size=9, drop_last=True)
    assert [len(batch["img_id"]) for batch in few] == [8]
    assert "fewer images (8) than batch_size (9)" in caplog.text


def test_wrong_arguments(packed: Path) -> None:
    with pytest.raises(UserError, match="batch_size must be at least 1"):
        loader(packed, batch_size=0)
    with pytest.raises(UserError, match="not both"):
        Builder().build(config(packed, sampler=dict(type="SeededSampler"), shuffle=True))


def test_collate_pads_images_of_different_sizes() -> None:
    """Heights 33 and 40, widths 50 and 20, in multiples of 32: 64 x 64; the picture stays top left."""
    items = [
        {
            "img": torch.full((3, height, width), i + 1, dtype=torch.uint8),
            "gt_boxes": torch.zeros((0, 4)),
            "gt_labels": torch.zeros(0, dtype=torch.int64),
            "img_id": i,
            "orig_size": (height, width),
            "img_size": (height, width),
            "scale_factor": (1.0, 1.0),
        }
        for i, (height, width) in enumerate([(33, 50), (40, 20)])
    ]
    img = Collate2D(size_divisor=32)(items)["img"]
    assert img.shape == (2, 3, 64, 64)
    for i, (height, width) in enumerate([(33, 50), (40, 20)]):
        assert (img[i, :, :height, :width] == i + 1).all()
        assert int((img[i] == 114).sum()) == 3 * (64 * 64 - height * width)
    assert Collate2D(size_divisor=1, fill=0)(items)["img"].shape == (2, 3, 40, 50)
    with pytest.raises(UserError, match="size_divisor must be at least 1, got 0"):
        Collate2D(size_divisor=0)


def test_workers_and_what_they_opened_survive_from_pass_to_pass(packed: Path) -> None:
    """A validation is a pass; its worker and the descriptor of its data file are those of the one before."""
    made = loader(packed, num_workers=1, shuffle=False)
    seen = []
    for _ in range(3):
        list(made)
        worker = made._iterator._workers[0]
        files = Path(f"/proc/{worker.pid}/fd")
        opened = {(fd.name, os.readlink(fd)) for fd in files.iterdir() if os.readlink(fd).endswith("data.mdb")}
        seen.append((worker.pid, sorted(opened)))
    assert seen[0] == seen[1] == seen[2] and seen[0][1]
