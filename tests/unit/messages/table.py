"""The table of messages: a row says which part of a message names what was found, what is allowed, and what to do.

``messages.tsv`` has a line a message: module, template, and the three parts, with tabs between them and ``⏎`` for a
new line. A part is a piece of the template; or, where it would make no sense, a reason: one of :data:`REASONS`.

``python -m tests.unit.messages.table`` shows which rows are missing or out of date, with a guess at the parts of new
ones; ``--write`` brings the file up to date. Look at the new rows then: a guess is no more than that.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from pathlib import Path

from tests.unit.messages.suggest import suggest
from tests.unit.messages.walk import Message, messages

FILE = Path(__file__).with_name("messages.tsv")
PARTS = ("found", "allowed", "do")
REASONS = {
    "-absent": "nothing was found: the message says what is missing",
    "-implied": "one thing is right, and what to do names it",
    "-allowed": "what is allowed says what to do",
    "-relayed": "another message of this table, or a library's text, stands in this one and says it",
    "-part": "not shown alone: what makes it, or who catches it, says the rest",
}
WHERE_ALLOWED = {
    "found": {"-absent", "-relayed"},
    "allowed": {"-implied", "-relayed", "-part"},
    "do": {"-allowed", "-relayed", "-part"},
}
Row = tuple[str, str, str]


def read(file: Path = FILE) -> dict[Message, Row]:
    """The table."""
    rows = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            module, template, *parts = (cell.replace("⏎", "\n") for cell in line.split("\t"))
            found, allowed, do = parts
            rows[Message(module, template)] = (found, allowed, do)
    return rows


def line(message: Message, row: Row) -> str:
    """A row as it stands in the file."""
    return "\t".join(cell.replace("\n", "⏎") for cell in (message.module, message.template, *row))


def problems(rows: dict[Message, Row], present: dict[Message, str]) -> list[str]:
    """What is wrong with the table: missing rows, rows of messages that are gone, parts that are not in the text."""
    found = [f"{place}: not in the table: {m.template!r}" for m, place in present.items() if m not in rows]
    found += [f"no longer in {m.module}: {m.template!r}" for m in rows if m not in present]
    for message, row in rows.items():
        found += [f"{message.module}: {message.template!r}: {text}" for text in row_problems(message.template, row)]
    return found


def row_problems(template: str, row: Row) -> list[str]:
    """What is wrong with one row."""
    found = []
    for part, text in zip(PARTS, row, strict=True):
        if text.startswith("-") and text not in template:
            if text not in WHERE_ALLOWED[part]:
                found.append(f"{part}: {text!r} is no reason here; there are {', '.join(sorted(WHERE_ALLOWED[part]))}")
        elif not text or text not in template:
            found.append(f"{part}: {text!r} is not in the message")
    if row[0] in row[1:] and not row[0].startswith("-"):
        found.append(f"found: {row[0]!r} is given as another part, too")
    if row[1] == "-implied" and row[2] == "-allowed":
        found.append("it says neither what is allowed nor what to do")
    return found


def updated(rows: dict[Message, Row], present: Iterable[Message]) -> dict[Message, Row]:
    """The rows of the present messages: as they were, of a similar message of the same module, or guessed."""
    gone = [m for m in rows if m not in set(present)]
    result = {}
    for message in present:
        row = rows.get(message)
        if row is None:
            same = [m for m in gone if m.template == message.template or _alike(m, message)]
            row = next((rows[m] for m in same if not row_problems(message.template, rows[m])), None)
        result[message] = row if row is not None else suggest(message.template)
    return result


def _alike(a: Message, b: Message) -> bool:
    return a.module == b.module and difflib.SequenceMatcher(None, a.template, b.template).ratio() > 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="bring messages.tsv up to date")
    args = parser.parse_args()
    present, rows = messages(), read() if FILE.is_file() else {}
    new = updated(rows, present)
    print("\n".join(problems(rows, present)) or "the table is up to date")
    print("\n".join(line(m, row) for m, row in new.items() if m not in rows))
    if args.write:
        head = [f"# {part}: {', '.join(sorted(WHERE_ALLOWED[part]))} where it makes no sense" for part in PARTS]
        head += [f"# {reason}: {text}" for reason, text in REASONS.items()]
        head += ["# " + "\t".join(("module", "message", *PARTS))]
        FILE.write_text("\n".join([*head, *(line(m, row) for m, row in new.items())]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
