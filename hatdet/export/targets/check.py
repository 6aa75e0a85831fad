"""Before any training: can this model become integers, and does the target run what comes out?

The float model with its random weights is folded, traced and lowered on noise, then written as the file that the target
would get. What is found is structural, so it holds for the trained model as well: no data and no checkpoint is read.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from hatdet.export.targets.report import INFO, REFUSED, WARNING, CheckReport
from hatdet.export.targets.table import Target
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import graph_modules, read_file
from hatdet.export.tflite.int4 import narrow_layers
from hatdet.integer.agreement.together import arithmetic_named
from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.graph import IntGraph
from hatdet.quantization.converters import Float2Calibration, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector
from hatdet.quantization.normalization import INTEGER_MEAN, INTEGER_STD, input_quantization, needs_folding
from hatdet.quantization.operators.table import CALLS
from hatdet.quantization.tracing.refusals import NORMED, NORMS, Problem, refused_at_once
from hatdet.quantization.tracing.trace import unsupported_operators
from hatdet.quantization.tracing.two_sizes import recorded_graph
from hatdet.utils.input_format import input_channels
from hatdet.utils.logging import quiet

_LIMITERS = (nn.ReLU, nn.Hardtanh)
SMALLEST_SIDE = 64


def check_model(
    detector: nn.Module,
    target: Target,
    image_size: tuple[int, int],
    convert: Callable[[nn.Module], nn.Module] | None = None,
    arithmetic: str = PROFILE,
) -> CheckReport:
    """Check a float detector against a target; about a second for a nano.

    Args:
        detector: as the config builds it, with any weights; not changed.
        image_size: (h, w) of the deployed model.
        convert: folds and quantizes, as the config's own converters do; None: FuseBN and Float2Calibration.
        arithmetic: name of what the integers follow (a profile, or two for one file), in ``convert`` too.
    """
    chosen = arithmetic_named(arithmetic)
    second = "" if chosen.second is None else chosen.second.name
    parameters = sum(p.numel() for p in detector.parameters())
    report = CheckReport(target, image_size, parameters, arithmetic=chosen.promised.name, second=second)
    if other := target.other_arithmetic(chosen.promised, chosen.second):
        report.add(REFUSED if target.npu else INFO if second == target.arithmetic else WARNING, "", other)
    if convert is None:
        convert = functools.partial(_quantized, arithmetic=arithmetic)
    state = torch.random.get_rng_state()
    try:
        detector = copy.deepcopy(detector).cpu().eval()
        largest = _check_image_size(detector, image_size, report)
        _check_input(detector, report)
        problems = _check_structure(detector, report)
        if not problems or _bypass(detector, problems):
            height, width = (-(-side // largest) * largest for side in image_size)  # joins need whole strides
            with quiet():
                _check_operators(detector, convert, (height, width), largest, report)
        else:
            report.add(INFO, "", f"the limits of {target.name} are checked once the operators above have integer forms")
    finally:
        torch.random.set_rng_state(state)  # training starts as if nothing had been checked
    return report


def _check_image_size(detector: Any, image_size: tuple[int, int], report: CheckReport) -> int:
    """Refuse a size that is no multiple of the strides; returns the largest stride."""
    strides = [int(s) for s in detector.metadata().get("strides") or (1,)]
    largest = int(getattr(detector, "size_divisor", max(strides)))  # RetinaNet's coarsest levels need no whole cells
    if any(side % largest for side in image_size):
        height, width = (-(-side // largest) * largest for side in image_size)
        report.add(REFUSED, "", f"the image size {image_size} does not suit the strides {strides}; use multiples of "
                   f"{largest}, e.g. ({height}, {width})")  # fmt: skip
    return largest


def _check_input(detector: Any, report: CheckReport) -> None:
    data = detector.metadata()
    mean, std = (np.ravel(data[key]).tolist() for key in ("mean", "std"))
    if needs_folding(mean, std, input_channels(detector)):
        why = "differ between channels" if len({*mean}) > 1 or len({*std}) > 1 else "are no whole levels"
        report.add(INFO, "preprocessor", f"mean {data['mean']} and std {data['std']} {why}: they are "
                   "folded into the first convolution, whose padding then stands for pixel 0")  # fmt: skip
        return
    try:
        input_quantization(detector)
    except ValueError as error:
        report.add(REFUSED, "preprocessor", str(error))
        if hasattr(detector, "preprocessor"):  # the operators can be looked at all the same
            detector.preprocessor.mean, detector.preprocessor.std = INTEGER_MEAN, INTEGER_STD


def _check_structure(detector: Any, report: CheckReport) -> list[Problem]:
    """What tracing alone shows: operators without integer form, activations on their own, modules called repeatedly."""
    network = detector.network().eval()
    problems = unsupported_operators(network)
    for problem in problems:
        report.add(REFUSED, problem.path, f"{problem.what}; {problem.instead}")
    if refused_at_once(network):
        return problems
    nodes = list(recorded_graph(network).nodes)
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    for node in nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, _LIMITERS) and not takes_activation(node.args[0], modules):
            report.add(INFO, str(node.target), f"{type(module).__name__} follows no convolution or addition that could "
                       "take it in: it is an operator of its own")  # fmt: skip
    for path, count in calls.items():
        if count > 1 and any(True for _ in modules[path].parameters()):
            report.add(INFO, path, f"{type(modules[path]).__name__} is called {count} times: one set of weights, a "
                       "range of activations for each call")  # fmt: skip
    return problems


def takes_activation(node: Any, modules: dict[str, nn.Module]) -> bool:
    """Whether an activation of this node's result costs nothing; batch norms and constants are folded by then."""
    while isinstance(node, fx.Node):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        form = CALLS.get(getattr(node.meta.get("call"), "op", ""))
        if form is not None and len(node.args) > 1:
            return form.limited is not None
        if form is None and not isinstance(module, NORMS):
            return isinstance(module, tuple(NORMED))
        node = node.args[0]
    return False


@torch.no_grad()
def _bypass(detector: Any, problems: list[Problem]) -> bool:
    """Put identities where operators without integer form keep the shape, so that the others can be looked at.

    Returns:
        Whether that was possible for all of them.
    """
    network = detector.network().eval()
    if refused_at_once(network):
        return False
    modules = dict(network.named_modules(remove_duplicate=False))
    wrong = {p.path: modules[p.path] for p in problems if p.path in modules and p.path}
    if len(wrong) != len({p.path for p in problems}):
        return False
    kept: dict[int, bool] = {}

    def watch(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        shapes = [getattr(value, "shape", None) for value in (*inputs, output)]
        kept[id(module)] = len(inputs) == 1 and shapes[0] is not None and shapes[0] == shapes[1]

    hooks = [module.register_forward_hook(watch) for module in wrong.values()]
    network(torch.zeros(1, input_channels(detector), SMALLEST_SIDE, SMALLEST_SIDE))
    for hook in hooks:
        hook.remove()
    for path, module in wrong.items():
        if not kept.get(id(module)):
            return False
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())
    return True


def _check_operators(
    detector: nn.Module,
    convert: Callable[[nn.Module], nn.Module],
    image_size: tuple[int, int],
    largest: int,
    report: CheckReport,
) -> None:
    """Lower on noise, write the file, and hold its operators against the target's limits."""
    try:
        graph, on_noise = _lowered(detector, convert, image_size, largest)
        if not _can_write():
            report.add(WARNING, "", f"the operators are not checked against the limits of {report.target.name}: that "
                       "needs the packages ai-edge-litert and flatbuffers (pip install 'hatdet[export]')")  # fmt: skip
            return
        data = tflite.write(graph, weights_as=report.target.weights_as)
    except ValueError as error:  # UserError among them: the message names the module
        for message in str(error).splitlines():
            report.add(REFUSED, "", message.strip())
        return
    report.file, report.model = data, read_file(data, graph_modules(graph))
    if narrow := narrow_layers(graph):
        chosen = "chosen on noise here; calibration chooses by the images" if on_noise else "as named"
        report.add(INFO, "", f"weights of 4 bits in {len(narrow)} layers, {chosen}")
    for violation in report.target.violations(report.model):
        report.add(REFUSED, violation.path, violation.message)
    for cost in report.target.costs(report.model):
        report.add(WARNING, cost.path, cost.message)
    of_its_own = report.target.arithmetic == report.arithmetic  # what other kernels make of its numbers is said above
    for remark in report.target.remarks(report.model) if of_its_own else ():
        report.add(INFO, remark.path, remark.message)


def _can_write() -> bool:
    """Whether files can be made here: training needs no export packages."""
    return all(importlib.util.find_spec(name) is not None for name in ("ai_edge_litert", "flatbuffers"))


def _lowered(
    detector: nn.Module, convert: Callable[[nn.Module], nn.Module], image_size: tuple[int, int], largest: int
) -> tuple[IntGraph, bool]:
    """The integer model, and whether the layers of its 4-bit weights were chosen here."""
    side = -(-SMALLEST_SIDE // largest) * largest
    shape = (1, input_channels(detector), side, side)
    noise = {"img": torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator())}
    quantized = convert(detector).eval()
    assert isinstance(quantized, QuantizedDetector), "the converters quantize"
    with torch.no_grad():
        quantized.set_observing(True)
        quantized.set_quantizing(False)
        quantized.run_network(quantized.preprocess(noise["img"]))
        quantized.set_observing(False)
        quantized.set_quantizing(True)
        on_noise = quantized.undecided
        if on_noise:
            quantized.decide([noise["img"]])
    return quantized.int_graph(image_size), on_noise


def _quantized(detector: nn.Module, arithmetic: str) -> nn.Module:
    """With observers as calibration puts them, of the simplest kind: noise has no range worth finding."""
    pipeline = ModelConvertPipeline(
        converters=[Float2Calibration(observer="min_max")], qconfig_params={"arithmetic": arithmetic}
    )
    return pipeline(detector.eval())
