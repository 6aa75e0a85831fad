"""What was odd in a data set: counted by kind, with a few examples each."""

from __future__ import annotations

from collections.abc import Iterator

MAX_EXAMPLE = 600
"""Characters of an example that are shown: a file name of a broken json can have thousands."""


class Report:
    """Collects warnings; the same kind is counted, and the first few examples are kept.

    Args:
        source: name of the file that is being read; opens every line.
        max_examples: examples kept for each kind.
    """

    def __init__(self, source: str, max_examples: int = 5) -> None:
        self.source = source
        self.max_examples = max_examples
        self.counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: str = "", count: int = 1) -> None:
        """Count ``kind`` (a sentence fragment such as ``"box outside the image, dropped"``)."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        examples = self._examples.setdefault(kind, [])
        if example and len(examples) < self.max_examples:
            half = MAX_EXAMPLE // 2
            examples.append(example if len(example) <= MAX_EXAMPLE else f"{example[:half]} ... {example[-half:]}")

    def merge(self, other: Report, where: str) -> None:
        """Take over what ``other`` counted; its examples begin with ``where``."""
        for kind, count in other.counts.items():
            examples = other._examples[kind]
            self.counts[kind] = self.counts.get(kind, 0) + count
            own = self._examples.setdefault(kind, [])
            own.extend(f"{where}: {text}" for text in examples[: self.max_examples - len(own)])

    def examples(self, kind: str) -> list[str]:
        """The first few examples of a kind."""
        return list(self._examples.get(kind, []))

    def lines(self) -> Iterator[str]:
        """One line a kind: ``file: what happened (count): example; example; ...``."""
        for kind, count in self.counts.items():
            examples = self._examples[kind]
            text = f"{self.source}: {kind} ({count})"
            if examples:
                text += ": " + "; ".join(examples)
                if count > len(examples):
                    text += f"; and {count - len(examples)} more"
            yield text
