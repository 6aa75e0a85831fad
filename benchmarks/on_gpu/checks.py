"""Rows of the GPU benchmark that compare the device with the CPU, or a run with itself."""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.on_gpu.setting import Setting, graphed
from benchmarks.steps import raw_map_loss
from hatdet.data.transforms.batch.finish import finish
from hatdet.engine.callbacks.base import Callback
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.ops.nms import batched_nms
from hatdet.quantization.converters import Float2QAT


@torch.no_grad()
def integer_graph(setting: Setting, name: str, size: int) -> IntGraph:
    """Of a detector whose batch norms have seen noise; made on the CPU, so that both devices have the same ranges."""
    model = setting.model(name, size)
    images = model.preprocess(setting.pictures(size, 4)).contiguous(memory_format=torch.channels_last)  # type: ignore[operator]
    for _ in range(3):
        model.train().run_network(images)  # type: ignore[operator]
    quantized: Any = Float2QAT(qat_forward="integer")(model.eval())
    quantized.run_network(images)
    quantized.set_observing(False)
    return quantized.eval().int_graph((size, size))  # type: ignore[no-any-return]


def codes_of(setting: Setting, size: int, count: int | None = None) -> Tensor:
    return (setting.pictures(size, count).to(torch.int16) - 128).to(torch.int8)


def integers(setting: Setting, size: int) -> dict[str, Any]:
    """Every tensor of the integer model, and those of a captured CUDA graph's replay."""
    graph, codes = integer_graph(setting, "nano", size), codes_of(setting, size, 4)
    here = IntExecutor(graph)(codes, keep=True)
    executor, there = IntExecutor(graph, setting.device), codes.to(setting.device)
    found = executor(there, keep=True)
    differing = [name for name, value in here.items() if not torch.equal(value, found[name].cpu())]
    return {"equal": not differing, "tensors": len(here), "differing": ", ".join(differing[:3]) or "none"}


def captured_integers(setting: Setting, size: int) -> dict[str, Any]:
    """The executor as a CUDA graph: new codes in the captured input give the eager outputs."""
    setting.needs_gpu("a CUDA graph")
    executor = IntExecutor(integer_graph(setting, "nano", size), setting.device)
    first = codes_of(setting, size, 4).to(setting.device)
    held = first.clone()
    replay, made = graphed(lambda: executor(held))
    other = first.flip(0)
    expected = executor(other)
    held.copy_(other)
    replay()
    return {"equal": all(torch.equal(a, b) for a, b in zip(expected, made, strict=True))}


def suppression(setting: Setting) -> dict[str, Any]:
    """Kept boxes of a crowd with ties, three classes, and none at all."""
    generator = torch.Generator().manual_seed(0)
    count = 20_000 if setting.device == "cuda" else 500
    corner = torch.rand((count, 2), generator=generator) * 600
    boxes = torch.cat([corner, corner + 5 + torch.rand((count, 2), generator=generator) * 80], 1)
    scores = (torch.rand(count, generator=generator) * 200).round() / 200
    labels = torch.randint(0, 3, (count,), generator=generator)
    equal = True
    for number in (count, 1, 0):
        here = boxes[:number], scores[:number], labels[:number]
        there = tuple(value.to(setting.device) for value in here)
        expected = batched_nms(here[0], here[1], here[2], 0.65)
        found = batched_nms(there[0], there[1], there[2], 0.65, backend="torch")
        equal &= torch.equal(expected, found.cpu())
    return {"equal": equal, "boxes": count}


def augmentation(setting: Setting, size: int) -> dict[str, Any]:
    """A batch finished on the device, beside the same on the CPU."""
    loader = setting.trainer("nano", size, {"augment_on": "device", "mixup_prob": 1.0}).data_loader
    batch = next(iter(loader))
    left = batch["unfinished"]
    expected = finish(batch["img"], left)
    there = {key: value.to(setting.device) if isinstance(value, Tensor) else value for key, value in left.items()}
    found = finish(batch["img"].to(setting.device), there)
    return {"equal": torch.equal(expected, found.cpu()), "pictures": len(expected), "mixed": len(left["mix_rows"])}


class _FirstLoss(Callback):
    """The loss of the first step, before any weight has moved."""

    value = 0.0

    def on_step_end(self, loop: Any) -> None:
        if loop.progress.step == 1:
            self.value = float(loop.loss)


def mixed_precision(setting: Setting, size: int, dtype: str) -> dict[str, Any]:
    """Some steps: weights stay finite. The first loss is told beside that in float32 and not judged: maps that are not
    trained have few matches, and what is assigned may differ."""
    if dtype == "float16":
        setting.needs_gpu("float16")
    losses, finite = {}, True
    for kind in ("float32", dtype):
        processor: dict[str, Any] = {"type": "BasicBatchProcessor", "enable_amp": kind != "float32"}
        if kind != "float32":
            processor["enable_amp_dtype"] = dtype
        trainer = setting.trainer("nano", size, batch_processor=processor, num_epochs=None, num_steps=4)
        first = _FirstLoss()
        trainer.add_callback(first)
        trainer.fit()
        losses[kind] = first.value
        finite &= all(bool(p.isfinite().all()) for p in trainer.model.parameters())
    off = abs(losses[dtype] / losses["float32"] - 1)
    return {"equal": finite, "first_loss_off": round(off, 4)}


def synchronized_norms(setting: Setting, size: int) -> dict[str, Any]:
    """One process of NCCL: gradients and statistics of synchronized norms beside those of plain ones."""
    setting.needs_gpu("SyncBatchNorm")
    plain = setting.model("nano", size).network().to(setting.device).train()  # type: ignore[operator]
    images = setting.pictures(size, 8).to(setting.device).float() / 255
    with tempfile.NamedTemporaryFile() as store:
        torch.distributed.init_process_group("nccl", f"file://{store.name}", rank=0, world_size=1)
        synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
        networks = (plain, nn.parallel.DistributedDataParallel(synchronized, device_ids=[0]))
        for network in networks:
            raw_map_loss(network(images)).backward()
        torch.distributed.destroy_process_group()
    pairs = list(zip(plain.parameters(), synchronized.parameters(), strict=True))
    off = max(float((a.grad - b.grad).norm() / (a.grad.norm() + 1e-6)) for a, b in pairs if a.grad is not None)
    means = max(
        float((a - b).abs().max()) for a, b in zip(plain.buffers(), synchronized.buffers(), strict=True) if len(a.shape)
    )
    return {"equal": off < 1e-2 and means < 1e-3, "gradients_off": off, "statistics_off": means}


class _Snapshot(Callback):
    """Writes the loop's state after one of its steps."""

    def __init__(self, file: Path, step: int) -> None:
        self.file, self.step = file, step

    def on_step_end(self, loop: Any) -> None:
        if loop.progress.step == self.step:
            torch.save(loop.state_dict(), self.file)


def resumed(setting: Setting, size: int, steps: int = 4) -> dict[str, Any]:
    """Weights of a training beside those of one that went on from its middle, with torch's deterministic kernels."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    file, options = setting.folder / "middle.pth", {"batch_size": min(setting.batch_size, 8)}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        whole = setting.trainer("nano", size, options, num_epochs=None, num_steps=steps)
        whole.add_callback(_Snapshot(file, steps // 2))
        whole.fit()
        again = setting.trainer("nano", size, options, num_epochs=None, num_steps=steps)
        again.fit(resume=file)
    pairs = zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True)
    differing = [name for (name, a), b in pairs if not torch.equal(a, b)]
    without = sorted({str(w.message).split(" does not have")[0] for w in said if "determinis" in str(w.message)})
    return {"equal": not differing, "differing": len(differing), "not_deterministic": ", ".join(without) or "none"}
