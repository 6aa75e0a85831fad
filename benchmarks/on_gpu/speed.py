"""Rows of the GPU benchmark that are images a second."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.on_gpu.checks import codes_of, integer_graph
from benchmarks.on_gpu.setting import Setting, graphed
from benchmarks.stepper import Stepper
from benchmarks.steps import raw_map_loss
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.progress import set_position
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.converters import Float2QAT

VIEWS = set(
    "view permute expand as_strided slice select unbind detach _unsafe_view t transpose unsqueeze squeeze".split()
)


def speed(setting: Setting, ours: float, baseline: float, waits: float | None, **more: Any) -> dict[str, Any]:
    """A row's fields, of seconds a step."""
    fields = {"images_per_s": setting.batch_size / ours, "baseline": setting.batch_size / baseline}
    return fields | {"ratio": ours / baseline} | ({} if waits is None else {"waits": waits}) | more


def stepper(setting: Setting, name: str, size: int, **changes: Any) -> Stepper:
    """The config's float training on one batch, a step at a time."""
    return Stepper.of(setting.trainer(name, size, **changes), setting.batch(name, size))


def train_step(setting: Setting, name: str, size: int, form: str) -> dict[str, Any]:
    """A form of the step against the plain network's forward and backward, eager, channels_last, float32.

    ``eager``: hatdet's whole step (assignment, losses, optimizer, average); ``compiled`` and ``graph``: the plain
    network's forward and backward through torch.compile, and as a CUDA graph, for this input shape.
    """
    if form != "eager":
        setting.needs_gpu(form)
    network = setting.model(name, size).network().to(setting.device).train()  # type: ignore[operator]
    images = (setting.pictures(size).to(setting.device).float() / 255).contiguous(memory_format=torch.channels_last)

    def backward(through: Callable[..., Any]) -> None:
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        raw_map_loss(through(images)).backward()

    def bare() -> None:
        backward(network)

    if form == "eager":
        ours = stepper(setting, name, size)
        call: Callable[[], object] = ours.step
    elif form == "compiled":
        compiled = torch.compile(network)
        call = lambda: backward(compiled)  # noqa: E731
    else:
        call, _ = graphed(bare)
    times = setting.in_turns({"ours": call, "bare": bare})
    return speed(setting, times["ours"], times["bare"], setting.waits(call, times["ours"]))


class _Marks(Callback):
    """When each step ended on the device."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.times = setting, list[float]()

    def on_step_end(self, loop: Any) -> None:
        self.setting.wait()
        self.times.append(time.perf_counter())


def with_data(setting: Setting, size: int, where: str, workers: int = 2) -> dict[str, Any]:
    """Whole training with its loader against the step alone: the data's cost; and what the loader alone gives."""
    options = {
        "augment_on": where,
        "workers": workers,
        "batch_size": setting.batch_size,
        "amp": setting.device == "cuda",
    }
    trainer = setting.trainer("nano", size, options)
    loader, steps, seconds = trainer.data_loader, 0, 0.0
    for epoch in range(3 if setting.device == "cuda" else 1):  # the first ones start workers and fill their caches
        set_position(loader, epoch=epoch, start=0)
        begin = time.perf_counter()
        steps = sum(1 for _ in loader)
        seconds = time.perf_counter() - begin
    alone = len(loader) * setting.batch_size / seconds
    epochs = 6 if setting.device == "cuda" else 1
    run = setting.trainer("nano", size, options, num_epochs=epochs)
    marks = _Marks(setting)
    run.add_callback(marks)
    run.fit()
    late = marks.times[len(marks.times) // 2 :]
    rate = (len(late) - 1) * setting.batch_size / (late[-1] - late[0]) if len(late) > 1 else 0.0
    return {"images_per_s": rate, "loader_alone": alone, "workers": workers, "steps": steps}


def qat_step(setting: Setting, size: int, forward: str) -> dict[str, Any]:
    """A training step of QAT against the float one."""
    model = setting.model("nano", size)
    images = model.preprocess(setting.pictures(size, 4))  # type: ignore[operator]
    with torch.no_grad():
        for _ in range(3):
            model.train().run_network(images)  # type: ignore[operator]
    qat = stepper(setting, "nano", size, model=model, model_convert_pipeline=Float2QAT(qat_forward=forward))
    plain = stepper(setting, "nano", size)
    times = setting.in_turns({"qat": qat.step, "float": plain.step})
    return speed(setting, times["qat"], times["float"], setting.waits(qat.step, times["qat"]))


def executor(setting: Setting, size: int, form: str) -> dict[str, Any]:
    """The integer executor, eager or as a CUDA graph, against the float forward."""
    if form == "graph":
        setting.needs_gpu("a CUDA graph")
    runner = IntExecutor(integer_graph(setting, "nano", size), setting.device)
    codes = codes_of(setting, size).to(setting.device)
    network = setting.model("nano", size).network().to(setting.device).eval()  # type: ignore[operator]
    images = (setting.pictures(size).to(setting.device).float() / 255).contiguous(memory_format=torch.channels_last)

    def float_forward() -> None:
        with torch.no_grad():
            network(images)

    call: Callable[[], object] = lambda: runner(codes)  # noqa: E731
    if form == "graph":
        call, _ = graphed(call)
    times = setting.in_turns({"ours": call, "float": float_forward})
    return speed(setting, times["ours"], times["float"], setting.waits(call, times["ours"]))


class _Count(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[str(func).split(".")[1]] += 1
        return func(*args, **(kwargs or {}))


def launches(setting: Setting, size: int, what: str) -> dict[str, Any]:
    """Operators of a forward and backward (about as many kernels), and values read back, each of which waits."""
    model = setting.model("nano", size).to(setting.device)
    images = model.preprocess(setting.pictures(size, 2).to(setting.device))  # type: ignore[operator]
    if what == "float":
        network: Any = copy.deepcopy(model).network().train()  # type: ignore[operator]
    else:
        with torch.no_grad():
            model.train().run_network(images)  # type: ignore[operator]
        network = Float2QAT(qat_forward="integer")(model.eval()).train().run_network  # type: ignore[attr-defined]
    raw_map_loss(network(images)).backward()
    with _Count() as count:
        raw_map_loss(network(images)).backward()
    operators = sum(number for name, number in count.calls.items() if name not in VIEWS)
    return {"operators": operators, "host_reads": count.calls["_local_scalar_dense"]}
