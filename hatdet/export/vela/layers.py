"""Vela's passes, put back together into the operators of the file and the modules that these come from.

Vela names a pass after the tensor that it writes, which is often one further down: a convolution that writes straight
into a concatenation bears the concatenation's name. So a pass is searched for upstream of its tensor, among operators
of its kind, the multiply-accumulates deciding where several would do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hatdet.export.tflite.file_operators import FileModel, FileOperator
from hatdet.export.vela.compile import VelaResult, VelaRow

_KINDS = {"averagepool": "avgpool", "concatenation": "concat", "logistic": "sigmoid", "padv2": "pad"}


@dataclass(frozen=True)
class Layer:
    """An operator of the file, on the hardware.

    Attributes:
        path: the module, or the tensor and the module before it. name: the tensor. code: the operator, with what is
            fused into it. where: ``NPU`` or ``CPU``. shape: of its output, (H, W, C). passes: over maps, on the NPU.
        cycles: of all passes; of a CPU operator Vela knows none. macs: a convolution's own; of others what Vela counts
            (a copy is one for each value). sram_bytes: the most that lies in SRAM meanwhile. weight_bytes: of its
            constants, not compressed. memory_cycles: of access to flash or DRAM.
        utilisation: MACs of those possible meanwhile, in per cent. share: of the network's cycles, in per cent.
    """

    path: str
    name: str
    code: str
    where: str
    shape: tuple[int, ...]
    passes: int
    cycles: int
    macs: int
    sram_bytes: int
    weight_bytes: int
    memory_cycles: int
    utilisation: float = 0.0
    share: float = 0.0


def layers_of(result: VelaResult) -> list[Layer]:
    """The operators of the file in Vela's order, then those that Vela made vanish (no pass, no cycles)."""
    finder = _Finder(result.source)
    found: dict[str, tuple[FileOperator | None, list[VelaRow]]] = {}
    for row, op in finder.assign(result.rows):
        key = op.name if op is not None else f"{row.original} {row.name}"
        found.setdefault(key, (op, []))[1].append(row)
    layers = [_layer(key, op, rows) for key, (op, rows) in found.items()]
    total = sum(layer.cycles for layer in layers) or 1
    peak = result.target.macs_per_cycle
    layers = [
        replace(
            layer,
            share=100 * layer.cycles / total,
            utilisation=100 * layer.macs / (layer.cycles * peak) if layer.cycles else 0.0,
        )
        for layer in layers
    ]
    vanished = [_layer(op.name, op, []) for op in result.source.operators if op.name not in found]
    return layers + vanished


def _layer(name: str, op: FileOperator | None, rows: Sequence[VelaRow]) -> Layer:
    code = op.code if op is not None else rows[0].original
    activation = f" + {op.activation}" if op is not None and op.activation else ""
    on_cpu = any(row.target == "CPU" for row in rows)
    return Layer(
        path=op.path if op is not None else name,
        name=name,
        code=code + activation,
        where="CPU" if on_cpu else "NPU",
        shape=op.outputs[0].shape[1:] if op is not None else (),
        passes=sum(not _is_free(row) for row in rows),
        cycles=sum(row.cycles for row in rows),
        macs=(op.macs if op is not None and rows else 0) or sum(row.macs for row in rows),
        sram_bytes=max((row.sram_bytes for row in rows), default=0),
        weight_bytes=op.constant_bytes if op is not None else 0,
        memory_cycles=sum(row.flash_cycles + row.dram_cycles for row in rows),
    )


def _is_free(row: VelaRow) -> bool:
    """A fused activation has a line of its own without cost; an operator left to the CPU is no pass."""
    return row.cycles == 0 and row.macs == 0


def _kind(text: str) -> str:
    """``MAX_POOL_2D`` and ``MaxPool`` alike."""
    plain = text.lower().replace("_", "").removesuffix("2d")
    return _KINDS.get(plain, plain)


class _Finder:
    """Remembers how many multiply-accumulates of each convolution have found their passes."""

    def __init__(self, model: FileModel) -> None:
        self.makers: Mapping[str, FileOperator] = {t.name: op for op in model.operators for t in op.outputs}
        self.left = {op.name: op.macs for op in model.operators}
        self.used: set[str] = set()

    def assign(self, rows: Sequence[VelaRow]) -> list[tuple[VelaRow, FileOperator | None]]:
        """Each row with its operator, or None; rows of tensors that Vela made up follow the next of their kind."""
        found: list[FileOperator | None] = [self._find(row) for row in rows]
        for i in reversed(range(len(rows))):
            if found[i] is None and i + 1 < len(rows) and rows[i + 1].original == rows[i].original:
                found[i] = found[i + 1]
        return list(zip(rows, found, strict=True))

    def _find(self, row: VelaRow) -> FileOperator | None:
        name = row.name if row.name in self.makers else row.name.removesuffix("_act")
        kind = _kind(row.original)
        level = [self.makers[name]] if name in self.makers else []
        if level and _kind(level[0].code) == kind:
            return self._take(level[0], row)
        seen: set[str] = set()
        spent: list[FileOperator] = []
        while level:
            same = [op for op in level if _kind(op.code) == kind]
            free = [op for op in same if op.name not in self.used]
            if free:
                return self._take(min(free, key=lambda op: abs(self.left[op.name] - row.macs)), row)
            spent += same
            seen.update(op.name for op in level)
            makers = [self.makers[t.name] for op in level for t in op.inputs if t.name in self.makers]
            level = list({op.name: op for op in makers if op.name not in seen}.values())
        return spent[0] if spent else None  # another pass of an operator that has one already

    def _take(self, op: FileOperator, row: VelaRow) -> FileOperator:
        self.left[op.name] -= row.macs
        if self.left[op.name] <= 0 and not (_is_free(row) and row.target == "NPU"):
            self.used.add(op.name)
        return op
