"""Every message that a user can meet says what was found, what is allowed and what to do."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.messages.suggest import suggest
from tests.unit.messages.table import FILE, line, problems, read, row_problems, updated
from tests.unit.messages.walk import Message, messages, render

HINT = "run `python -m tests.unit.messages.table --write`, then look at the new rows"


@pytest.fixture(scope="module")
def present() -> dict[Message, str]:
    return messages()


def test_the_table_is_complete_and_right(present: dict[Message, str]) -> None:
    found = problems(read(), present)
    assert not found, f"{len(found)} problems ({HINT}):\n" + "\n".join(found[:20])


def test_the_walk_finds_messages_of_every_room(present: dict[Message, str]) -> None:
    assert len(present) > 500
    rooms = {message.module.split(".")[1] for message in present if message.module.startswith("hatdet.")}
    assert {"commands", "config", "data", "engine", "export", "metrics", "models", "quantization", "utils"} <= rooms
    assert not any(message.module.startswith("tools.") for message in present), "the scripts only start commands"


def test_most_rows_have_parts_not_reasons(present: dict[Message, str]) -> None:
    """The reasons are for the exceptions."""
    rows = read()
    for column, least in ((0, 0.9), (1, 0.35), (2, 0.6)):
        named = [row[column] for row in rows.values() if not row[column].startswith("-")]
        assert len(named) > least * len(rows), column


def test_rows_are_sorted_and_read_back(present: dict[Message, str]) -> None:
    rows = read()
    assert list(rows) == sorted(rows)
    text = FILE.read_text(encoding="utf-8").splitlines()
    assert [line(m, row) for m, row in rows.items()] == [entry for entry in text if not entry.startswith("#")]


@pytest.mark.parametrize(
    ("template", "row", "problem"),
    [
        ("n is {n}; at least 1", ("n is {n}", "at least 1", "-allowed"), ""),
        ("n is {n}; at least 1", ("n is {n}", "at least 2", "-allowed"), "allowed: 'at least 2' is not in the message"),
        ("n is {n}", ("n is {n}", "-implied", "-allowed"), "neither what is allowed nor what to do"),
        ("n is {n}; use 1", ("n is {n}", "-implied", "use 1"), ""),
        ("n is {n}; use 1", ("-implied", "-implied", "use 1"), "found: '-implied' is no reason here"),
        ("no file; name one", ("-absent", "-implied", "name one"), ""),
        ("no file; name one", ("no file", "", "name one"), "allowed: '' is not in the message"),
    ],
)
def test_what_a_row_may_say(template: str, row: tuple[str, str, str], problem: str) -> None:
    found = row_problems(template, row)
    assert (problem in found[0] and len(found) == 1) if problem else not found


def test_missing_and_outdated_rows_are_told_with_their_place() -> None:
    old, new = Message("hatdet.a", "x is {x}; use 1"), Message("hatdet.a", "y is {y}; use 1")
    rows = {old: ("x is {x}", "-implied", "use 1")}
    found = problems(rows, {new: "hatdet/a.py:7"})
    assert found == [
        "hatdet/a.py:7: not in the table: 'y is {y}; use 1'",
        "no longer in hatdet.a: 'x is {x}; use 1'",
    ]
    assert updated(rows, [new]) == {new: ("y is {y}", "-implied", "use 1")}


def test_a_reworded_message_keeps_the_parts_that_still_hold() -> None:
    old, new = Message("hatdet.a", "the size x is {x}; use 1 or 2"), Message("hatdet.a", "a size x is {x}; use 1 or 2")
    rows = {old: ("x is {x}", "1 or 2", "use 1")}
    assert updated(rows, [new]) == {new: ("x is {x}", "1 or 2", "use 1")}


@pytest.mark.parametrize(
    ("code", "template"),
    [
        ("'a is bad'", "a is bad"),
        ("f'{a!r} is {b + 1:.2f}' ' of it'", "{a} is {b + 1} of it"),
        ("f'{a}: ' + HINT", "{a}: install it"),
        ("text(a)", "{text(a)}"),
        ("'a' + (f'; {b}' if b else '')", "a{f'; (b)' if b else ''}"),
    ],
)
def test_templates(code: str, template: str) -> None:
    assert render(ast.parse(code, mode="eval").body, {"HINT": "install it"}) == template


@pytest.mark.parametrize(
    ("template", "row"),
    [
        ("keep is {keep}; it is a number of files, or None for all", ("keep is {keep}", "it is a number of files",
                                                                       "-allowed")),
        ("no such model: {path}; name a file that is there", ("{path}", "-implied", "name a file that is there")),
        ("mode is {mode}; use 'max' (more is better) or 'min'", ("mode is {mode}", "use 'max'", "use 'max'")),
    ],
)  # fmt: skip
def test_guesses(template: str, row: tuple[str, str, str]) -> None:
    assert suggest(template) == row


def test_classes_are_found_through_their_bases(tmp_path: Path) -> None:
    folder = tmp_path / "hatdet"
    folder.mkdir()
    (tmp_path / "tools").mkdir()
    (folder / "a.py").write_text(
        "class Mine(UserError): ...\nclass Other(Mine): ...\nclass Foreign(OSError): ...\n"
        "def f(n, text):\n    raise Other(f'n is {n}')\n    raise Foreign('no message for users')\n"
        "    return UserError('made, not raised'), Other(text)\n"
    )
    assert messages(tmp_path) == {
        Message("hatdet.a", "made, not raised"): "hatdet/a.py:7",
        Message("hatdet.a", "n is {n}"): "hatdet/a.py:5",
    }


def test_no_message_shows_a_name_in_braces(repo_root: Path) -> None:
    """A part of a message that was meant to be an f-string shows ``{name}`` to the user."""
    found = []
    for file in [*(repo_root / "hatdet").rglob("*.py"), *(repo_root / "tools").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise):
                texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                found += [f"{file.name}:{node.lineno}: {text}" for text in texts if re.search(r"\{[a-z_.]+\}", text)]
    assert not found
