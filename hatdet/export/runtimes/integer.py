"""The runtimes that execute an exported model, behind one small interface.

``run(codes)`` takes int8 NHWC codes of any number of images and returns one NHWC array an output, int8 or int16;
``run_all`` returns every tensor by its name in the file (of a runtime made with ``keep_tensors=True``). Files hold
batch 1; images are run one by one.
"""

from __future__ import annotations

import importlib
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.export.opening import WIDE_VERSION
from hatdet.export.runtimes.micro_process import run_spread
from hatdet.export.tflite.consistency import check_file
from hatdet.export.tflite.flatbuffer import load_schema
from hatdet.integer.tensors import QuantParams
from hatdet.utils.environment import usable_processors
from hatdet.utils.errors import UserError

Codes = NDArray[Any]
"""int8 codes; of outputs with 16 bits int16."""
WORTH_PROCESSES_S = 2.0
"""Images of TensorFlow Lite Micro that take longer together are spread over processes, which take a second to start."""


class ModelRefused(UserError):
    """A runtime that is installed cannot run this model."""


class Runtime(Protocol):
    """What parity and evaluation need of a runtime."""

    name: str
    input_shape: tuple[int, ...]
    output_names: tuple[str, ...]

    def run(self, codes: Codes) -> list[Codes]:
        """Outputs (B, H, W, C), in the file's order, for ``codes`` (B, H, W, C)."""
        ...

    def run_all(self, codes: Codes) -> dict[str, Codes]:
        """Every activation by its name in the file, each (B, H, W, C)."""
        ...


class _Base(ABC):
    """The loop over images and the check of the input, shared by the runtimes."""

    name = ""

    def __init__(self, model: bytes, keep_tensors: bool) -> None:
        layout = FileLayout(model)
        self.layout = layout
        self.keep_tensors = keep_tensors
        self.input_shape = layout.input_shape
        self.output_names = layout.output_names

    def run(self, codes: Codes) -> list[Codes]:
        results = self._each(self._checked(codes))
        return [np.concatenate(maps) for maps in zip(*results, strict=True)]

    def _each(self, images: Sequence[Codes]) -> list[list[Codes]]:
        """The outputs of each image."""
        return [self._outputs(image) for image in images]

    def run_all(self, codes: Codes) -> dict[str, Codes]:
        if not self.keep_tensors:
            raise ValueError(f"{self.name} was made without keep_tensors=True; intermediate tensors are overwritten")
        images = self._checked(codes)
        results = [self._everything(image) for image in images]
        return {name: np.concatenate([r[name] for r in results]) for name in results[0]}

    def _checked(self, codes: Codes) -> list[Codes]:
        if codes.dtype != np.int8 or codes.ndim != 4 or codes.shape[1:] != self.input_shape[1:] or len(codes) == 0:
            raise ValueError(
                f"{self.name} takes int8 codes of shape (images, {', '.join(map(str, self.input_shape[1:]))}), "
                f"got {codes.dtype} {codes.shape}"
            )
        return [np.ascontiguousarray(codes[i : i + 1]) for i in range(len(codes))]

    @abstractmethod
    def _outputs(self, image: Codes) -> list[Codes]:
        """The outputs for one image, in order."""

    @abstractmethod
    def _everything(self, image: Codes) -> dict[str, Codes]:
        """Every tensor for one image, by name."""


class LiteRTRuntime(_Base):
    """Google's LiteRT (TensorFlow Lite) interpreter.

    Args:
        model: bytes of the ``.tflite`` file.
        kernels: ``reference`` (``BUILTIN_REF``: the profile ``tflite_ref``) or ``default`` (optimized kernels and
            XNNPACK: the profile ``xnnpack``).
        keep_tensors: keep intermediate tensors, for :meth:`run_all`; of the default kernels through a copy of the file
            whose activations are all outputs.
        threads: how many it may use.

    Attributes:
        interpreter: LiteRT's own, for whoever asks what it is made of.

    Raises:
        UserError: ai-edge-litert is not installed. ModelRefused: the model cannot be run.
    """

    def __init__(
        self, model: bytes, kernels: str = "reference", keep_tensors: bool = False, threads: int = 1
    ) -> None:
        super().__init__(model, keep_tensors)
        if kernels not in ("reference", "default"):
            raise ValueError(f"kernels are 'reference' or 'default', got {kernels!r}")
        self.kernels, self.threads = kernels, threads
        self.name = "LiteRT reference" if kernels == "reference" else "LiteRT default"
        self.name += "" if threads == 1 else f", {threads} threads"
        if keep_tensors and kernels == "default":  # what runs in one piece of a delegate keeps no tensors between
            model = with_all_outputs(model)
        module = load_package("ai_edge_litert.interpreter", "ai-edge-litert", "LiteRT")
        types = module.OpResolverType
        with warnings.catch_warnings(), _refusals(self.name, self._needs()):
            warnings.simplefilter("ignore")  # it warns that keeping every tensor costs memory: asked for
            self.interpreter = module.Interpreter(
                model_content=model,
                num_threads=threads,
                experimental_op_resolver_type=types.BUILTIN_REF if kernels == "reference" else types.BUILTIN,
                experimental_preserve_all_tensors=keep_tensors,
            )
            self.interpreter.allocate_tensors()
        self._input = self.interpreter.get_input_details()[0]["index"]

    def _needs(self) -> str:
        """What a version of LiteRT that refuses the file may be lacking."""
        if all(q.bits == 8 for q in self.layout.output_quantization):
            return ""
        return f"; its 16-bit outputs need LiteRT {WIDE_VERSION} or later: pip install -U ai-edge-litert"

    def _invoke(self, image: Codes) -> None:
        self.interpreter.set_tensor(self._input, image)
        self.interpreter.invoke()

    def _outputs(self, image: Codes) -> list[Codes]:
        self._invoke(image)
        return [self.interpreter.get_tensor(i) for i in self.layout.outputs]

    def _everything(self, image: Codes) -> dict[str, Codes]:
        self._invoke(image)
        return {name: self.interpreter.get_tensor(i) for name, i in self.layout.activations.items()}


class TFLiteMicroRuntime(_Base):
    """TensorFlow Lite Micro, the interpreter of microcontrollers, on this machine (its x86 kernels are reference ones).

    Args:
        model: bytes of the ``.tflite`` file.
        keep_tensors: keep intermediate tensors, for :meth:`run_all`.
        arena_size: bytes of working memory; by default an upper bound, the sum of all activations and bookkeeping.

    Raises:
        UserError: tflite-micro is not installed. ModelRefused: the model cannot be run.
    """

    name = "TFLite Micro"

    def __init__(self, model: bytes, keep_tensors: bool = False, arena_size: int | None = None) -> None:
        super().__init__(model, keep_tensors)
        module = load_package("tflite_micro.python.tflite_micro.runtime", "tflite-micro", "TFLite Micro")
        config = module.InterpreterConfig
        self._model, self._arena = bytes(model), arena_size or self.layout.arena_bound
        with _refusals(self.name):
            self._interpreter = module.Interpreter.from_bytes(
                model,
                arena_size=self._arena,
                intrepreter_config=config.kPreserveAllTensors if keep_tensors else config.kAllocationRecording,
            )

    def _invoke(self, image: Codes) -> None:
        self._interpreter.set_input(image, 0)
        self._interpreter.invoke()

    def _outputs(self, image: Codes) -> list[Codes]:
        self._invoke(image)
        return [np.array(self._interpreter.get_output(i)) for i in range(len(self.output_names))]

    def _each(self, images: Sequence[Codes]) -> list[list[Codes]]:
        """The first one here, which says how long the others take; those in other processes where it is worth it."""
        begin = time.perf_counter()
        first = self._outputs(images[0])
        rest, seconds = images[1:], time.perf_counter() - begin
        if seconds * len(rest) < WORTH_PROCESSES_S or usable_processors() == 1:
            return [first, *super()._each(rest)]
        try:
            return [first, *run_spread(self._model, self._arena, len(self.output_names), rest)]
        except RuntimeError as error:
            raise ModelRefused(
                f"{self.name} does not run this file in a process of its own: {error}; see why with "
                "tools/export.py --verify 1"
            ) from error

    def _everything(self, image: Codes) -> dict[str, Codes]:
        self._invoke(image)
        tensors = self.layout.activations.items()
        return {name: np.array(self._interpreter.GetTensor(i, 0)["tensor_data"]) for name, i in tensors}


class FileLayout:
    """What a ``.tflite`` file says of its tensors, read without any runtime.

    Attributes:
        input_shape: (1, H, W, C). outputs: tensor indices in order. output_names: their names.
        input_quantization, output_quantization: scales and zero points, as the file stores them.
        activations: index of every tensor without constant data, by name. arena_bound: bytes that surely suffice
            TFLite Micro.
    """

    def __init__(self, model: bytes) -> None:
        check_file(bytes(model))
        root = load_schema().Model.GetRootAsModel(model, 0)
        graph = root.Subgraphs(0)
        tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
        names = [t.Name().decode("utf-8") for t in tensors]
        self.outputs = [int(graph.Outputs(i)) for i in range(graph.OutputsLength())]
        self.output_names = tuple(names[i] for i in self.outputs)
        self.input_shape = tuple(int(n) for n in tensors[graph.Inputs(0)].ShapeAsNumpy())
        self.input_quantization = _quantization(tensors[graph.Inputs(0)])
        self.output_quantization = [_quantization(tensors[i]) for i in self.outputs]
        self.activations = {n: i for i, (n, t) in enumerate(zip(names, tensors, strict=True)) if t.Buffer() == 0}
        values = sum(2 * int(np.prod(tensors[i].ShapeAsNumpy())) + 64 for i in self.activations.values())
        channels = sum(t.Quantization().ScaleLength() for t in tensors if t.Quantization() is not None)
        # TFLite Micro crashes rather than fails when its arena is far too small, hence a bound and no search.
        self.arena_bound = 262144 + values + 4096 * graph.OperatorsLength() + 256 * len(tensors) + 64 * channels


def _quantization(tensor: Any) -> QuantParams:
    q = tensor.Quantization()
    if q is None or q.ScaleLength() != 1:
        raise ValueError(f"tensor {tensor.Name().decode()!r} has no per-tensor quantization; an int8 model is needed")
    bits = 16 if tensor.Type() == load_schema().TensorType.INT16 else 8
    return QuantParams(float(q.Scale(0)), int(q.ZeroPoint(0)), bits)


def with_all_outputs(model: bytes) -> bytes:
    """A copy of a ``.tflite`` file in which every activation that an operator makes is an output."""
    import flatbuffers

    schema = load_schema()
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    graph = content.subgraphs[0]
    graph.outputs = np.array([int(o) for op in graph.operators for o in op.outputs], np.int32)
    content.signatureDefs = None
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output())


RUNTIMES: dict[str, Callable[[bytes, bool], Runtime]] = {
    "LiteRT reference": lambda model, keep: LiteRTRuntime(model, keep_tensors=keep),
    "TFLite Micro": lambda model, keep: TFLiteMicroRuntime(model, keep_tensors=keep),
    "LiteRT default": lambda model, keep: LiteRTRuntime(model, "default", keep),
    "LiteRT default, 4 threads": lambda model, keep: LiteRTRuntime(model, "default", keep, threads=4),
}
"""By the names that profiles have for them: of a model, and whether to keep its tensors."""


def try_runtimes(
    model: bytes, keep_tensors: bool = False, names: Sequence[str] = ("LiteRT reference", "TFLite Micro")
) -> tuple[list[Runtime], dict[str, str], dict[str, str]]:
    """Those of ``names``, with which the torch executor must be equal; for each that is not installed, and for each
    that cannot run the model, why."""
    found: list[Runtime] = []
    missing: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            found.append(RUNTIMES[name](model, keep_tensors))
        except ModelRefused as error:
            refused[name] = str(error)
        except UserError as error:
            missing[name] = str(error)
    return found, missing, refused


@contextmanager
def _refusals(name: str, hint: str = "") -> Iterator[None]:
    """What a runtime raises for a model that it cannot run, as :class:`ModelRefused` in one line, with a hint."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelRefused(f"{name} cannot load this file: {reason}{hint}") from error


def load_package(module: str, package: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{what} is not installed ({error}); install it with: pip install {package}") from error


def to_nhwc(codes: Any) -> Codes:
    """(B, C, H, W) codes, a torch tensor or an array of int8 or int16, as a contiguous (B, H, W, C) array of that
    type."""
    array = np.asarray(codes.detach().cpu() if hasattr(codes, "detach") else codes)
    if array.dtype not in (np.int8, np.int16):
        raise TypeError(f"codes are int8 or int16, got {array.dtype}")
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def to_nchw(codes: Codes) -> Tensor:
    """(B, H, W, C) codes as a torch tensor (B, C, H, W) in channels_last memory, as the torch executor's are."""
    return torch.from_numpy(codes).permute(0, 3, 1, 2)
