"""Parameters and multiply-accumulates of a network, for each module and in total."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hatdet.utils.errors import UserError
from hatdet.utils.input_format import input_channels


@dataclass(frozen=True)
class OpsRow:
    """One module: its dotted name ("" is the whole network), class, and numbers with all its submodules."""

    name: str
    type: str
    params: int
    macs: int


@dataclass(frozen=True)
class OpsReport:
    """The modules of a network in the order of their definition, the whole network first.

    Attributes:
        input_shape: shape of the input that ``macs`` are for, batch included.
        rows: one a module.
    """

    input_shape: tuple[int, ...]
    rows: tuple[OpsRow, ...]

    @property
    def params(self) -> int:
        """Parameters of the whole network; shared ones count once."""
        return self.rows[0].params

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and matrix products of one forward pass."""
        return self.rows[0].macs

    def format(self, depth: int = 2) -> str:
        """An aligned table of the modules down to ``depth`` names, the total, and a summary line."""
        shown = [row for row in self.rows[1:] if row.name.count(".") < depth and (row.params or row.macs)]
        cells = [("module", "type", "params", "MACs", "% MACs")]
        for row in [*shown, self.rows[0]]:
            level = row.name.count(".")
            name = "  " * level + row.name.rpartition(".")[2] if row.name else "total"
            share = 100 * row.macs / self.macs if self.macs else 0.0
            cells.append((name, row.type, f"{row.params:,}", f"{row.macs:,}", f"{share:.1f}"))
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        lines = [
            "  ".join(
                text.ljust(width) if column < 2 else text.rjust(width)
                for column, (text, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        ]
        rule = "-" * len(lines[0])
        lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        return "\n".join((*lines, "", self.summary()))

    def summary(self) -> str:
        """One line: input, parameters, MACs, FLOPs."""
        shape = "x".join(str(side) for side in self.input_shape)
        return (
            f"input {shape}: {self.params / 1e6:.3f} M parameters, "
            f"{self.macs / 1e9:.3f} GMACs ({2 * self.macs / 1e9:.3f} GFLOPs)"
        )


def count_ops(module: nn.Module, input_shape: Sequence[int]) -> OpsReport:
    """Count parameters and multiply-accumulates of one forward pass in evaluation mode; nothing is computed.

    Convolutions and matrix products count (half of what torch's FLOP counter says); batch norms, activations, pools
    and additions do not.

    Args:
        module: a network that takes one tensor, or a detector, of which :meth:`network` is counted. Not changed.
        input_shape: shape of the input, e.g. (1, 3, 192, 192).

    Raises:
        UserError: the network does not take an input of that shape.
    """
    network = getattr(module, "network", None)
    source = network() if callable(network) else module
    channels = input_channels(module)
    if callable(network) and hasattr(module, "input_format") and len(input_shape) == 4 and input_shape[1] != channels:
        raise UserError(
            f"the network takes images of {channels} channel(s) (input_color), not an input of shape "
            f"{tuple(input_shape)}: write 1,{channels},{input_shape[2]},{input_shape[3]}"
        )
    # Tensors without data: the shapes alone decide, however large the input.
    meta = copy.deepcopy(source).to("meta").eval()
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            meta(torch.zeros(tuple(input_shape), device="meta"))
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"the network does not take an input of shape {tuple(input_shape)}: {error}; "
            f"use a size that its strides divide, such as 1,{channels},192,192"
        ) from error
    counts = counter.get_flop_counts()
    flops = {str(name): sum(ops.values()) for name, ops in counts.items()}
    rows = [
        OpsRow(
            name,
            type(part).__name__,
            sum(parameter.numel() for parameter in part.parameters()),
            _flops(flops, f"{type(meta).__name__}.{name}".rstrip("."), part) // 2,
        )
        for name, part in meta.named_modules()
    ]
    return OpsReport(tuple(input_shape), tuple(rows))


def _flops(flops: dict[str, int], name: str, module: nn.Module) -> int:
    """What was counted inside the module; a list of modules is never called, so its members are added up."""
    if name in flops:
        return flops[name]
    return sum(_flops(flops, f"{name}.{child}", part) for child, part in module.named_children())


def parse_shape(text: str) -> tuple[int, ...]:
    """The shape in ``"1,3,192,192"`` (also ``1x3x192x192``).

    Raises:
        UserError: anything but four positive integers.
    """
    words = text.replace("x", ",").replace(" ", "").strip("()[]").split(",")
    if len(words) != 4 or not all(word.isdigit() and int(word) > 0 for word in words):
        raise UserError(
            f"an input shape is four positive integers, batch, channels, height, width: '1,3,192,192'; got {text!r}"
        )
    return tuple(int(word) for word in words)
