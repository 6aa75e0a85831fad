"""What a bug report needs: versions, system, processor, GPUs, and the optional packages with what each is for.

hatdet env
hatdet env --json > env.json
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import hatdet
from hatdet.commands.shared.process import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> None:
    found = collect()
    print(json.dumps(found, indent=2) if args.json else "\n".join(lines(found)))


def collect() -> dict[str, dict[str, Any]]:
    """Headings, and below each names with their values; None: not installed."""
    from hatdet.commands.env import machine
    from hatdet.commands.env.packages import CORE, OPTIONAL, version

    return {
        "hatdet": {"hatdet": hatdet.__version__, **machine.of_python()},
        "machine": {**machine.of_processor(), **machine.of_torch()},
        "settings": dict(machine.settings()),
        "packages": {name: version(name) for name in CORE},
        "optional packages": {name: version(name) for name in OPTIONAL},
    }


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """As text; of an absent optional package what it would be for, and what installs it."""
    from hatdet.commands.env.packages import OPTIONAL

    result: list[str] = []
    width = max(len(name) for values in found.values() for name in values) + 2
    for heading, values in found.items():
        result += ["", heading] if result else [heading]
        for name, value in values.items():
            text = value
            if value is None and name in OPTIONAL:
                extra, purpose = OPTIONAL[name]
                text = f'- not installed; for {purpose}: pip install "hatdet[{extra}]"'
            elif value is None:
                text = '- not installed, and hatdet needs it: pip install "hatdet"'
            elif name in OPTIONAL:
                text = f"{value:<14} for {OPTIONAL[name][1]}"
            result.append(f"  {name:<{width}}{text}")
        if not values:
            result.append("  none that changes what a run does")
    return result


main = command(__doc__, add_arguments, run)
