"""What documents say is so: commands and flags, names of parts and options, numbers, and both languages the same."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path

import pytest
from sitegen import commands as pages
from sitegen.options import FILES, options
from sitegen.pictures.stages import LANGUAGES, files, worked_example

from hatdet.commands.program.names import commands, find
from hatdet.registry import registered_names
from hatdet.utils.errors import UserError
from tests.docs.parsers import flags

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
TRANSLATED = [path for path in sorted(DOCS.glob("*.zh.md")) if path.name != "tutorial_retinanet.zh.md"]


@functools.cache
def known_flags(name: str) -> frozenset[str]:
    with pages.as_hatdet(name):
        return frozenset(flags(pages.parser_of(name))) | {"--help", "-h"}


def lines(text: str) -> list[str]:
    """Command lines of ``hatdet`` in code and in blocks of code."""
    parts = re.split(r"^```.*\n", text, flags=re.MULTILINE)  # text, code, text, code, ...
    inline = re.findall(r"`(hatdet [^`\n]+)`", "".join(parts[::2]))
    coded = "".join(parts[1::2]).replace("\\\n", " ").split("\n")
    found = [line.strip() for line in coded if line.strip().startswith("hatdet ")]
    return [re.sub(r"\s+#.*", "", line).removeprefix("PYTHONPATH=. ") for line in (*found, *inline)]


def wrong(line: str) -> str:
    """What is wrong with a command line, if anything."""
    words = shlex.split(line)[1:]
    if not words or words[0].startswith("-") or not words[0].islower():
        return ""
    try:
        name = find(words).name
    except UserError as error:
        return str(error)
    asked = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    missing = asked - known_flags(name)
    return f"{line}: no {', '.join(sorted(missing))}" if missing else ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_has_its_command_and_its_flags(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [found for line in lines(text) if (found := wrong(line))] == []


def test_command_lines_that_are_wrong_are_found() -> None:
    text = "```bash\nhatdet train C --stage float\nhatdet trian C\n```\n`hatdet export C --verfiy 3` and `hatdet`\n"
    found = [wrong(line) for line in lines(text)]
    assert found[0] == "" and "did you mean 'train'" in found[1] and found[2].endswith("no --verfiy")
    assert len(lines((DOCS / "quickstart.md").read_text(encoding="utf-8"))) > 10 and len(commands()) > 30


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```.*?^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", TRANSLATED, ids=lambda path: path.name)
def test_both_languages_have_the_same_code_and_the_same_sections(path: Path) -> None:
    english = path.with_name(path.name.replace(".zh.md", ".md"))
    assert blocks(path) == blocks(english)
    kinds = [re.findall(r"^(#+) ", each.read_text(encoding="utf-8"), re.MULTILINE) for each in (path, english)]
    assert kinds[0] == kinds[1]


def test_there_is_chinese_for_the_quick_start_and_the_tutorials() -> None:
    assert {path.name for path in TRANSLATED} >= {"quickstart.zh.md", "four_stages.zh.md", "integer_model.zh.md"}


def test_names_of_hats_parts_are_registered() -> None:
    text = (DOCS / "from_hat.md").read_text(encoding="utf-8")
    section = text[text.index("## The same") : text.index("| command there")]
    names = {name for code in re.findall(r"`([^`]+)`", section) for name in re.findall(r"\b[A-Z]\w+", code)}
    names -= {"True", "SGD"}
    assert len(names) > 20 and names - set(registered_names()) == set()


def test_options_that_ultralytics_users_are_told_of_exist() -> None:
    text = (DOCS / "from_ultralytics.md").read_text(encoding="utf-8")
    table = text[text.index("## Arguments of training") : text.index("## What is different")]
    known = {option.name for option in options((ROOT / FILES["RTMDet"]).read_text(encoding="utf-8"))}
    rows = [line.split("|")[2] for line in table.split("\n") if line.startswith("| `")]
    assert len(rows) > 15
    for here in rows:
        for code in re.findall(r"`([^`]+)`", here):
            name = re.split(r"[=(]", code)[0]
            registered = name in registered_names()
            flag = code.split()[0] in known_flags("train")
            of_data_set = name in ("one_class", "num_samples")
            assert name in known or registered or flag or of_data_set, code


def test_the_numbers_of_the_worked_example() -> None:
    found = worked_example()
    assert found["total"] == 140 * 55 - 28 * 3 + 255 * 127 - 168 * 80 + 321 == 26882
    assert found["multiplier"] == pytest.approx(0.004 / 255 / 0.05)
    assert found["scaled"] == round(26882 * 0.004 / 255 / 0.05) and found["code"] == 8 - 10
    text = (DOCS / "integer_model.md").read_text(encoding="utf-8")
    assert "codes 12, -100, 127, 40 with zero point -128, weights 55, -3, 127, -80, bias 321" in text


def test_every_picture_is_drawn_in_each_language_and_small() -> None:
    drawn = files()
    assert len(drawn) == 4 * len(LANGUAGES)
    for place, picture in drawn.items():
        assert picture.startswith("<svg ") and len(picture) < 10_000 and "http" not in picture.replace(
            'xmlns="http://www.w3.org/2000/svg"', ""
        ), place
    shown = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert [place for place in drawn if f"]({place})" not in shown] == []


def test_messages_that_troubleshooting_quotes_are_said() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    symptoms = [line.split("|")[1] for line in text.split("\n") if line.startswith("| ")]
    quoted = [phrase for symptom in symptoms for phrase in re.findall(r'"([^"]+)"', symptom)]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "hatdet").rglob("*.py"))
    said = re.sub(r'"\s*\n\s*f?"', "", sources)  # strings over several lines
    assert len(quoted) > 8 and [phrase for phrase in quoted if phrase not in said] == []


def test_every_document_is_in_the_navigation() -> None:
    """The build says so too, where mkdocs is installed."""
    entries = set(re.findall(r"([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - entries == set()


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split("\n")) < 150
