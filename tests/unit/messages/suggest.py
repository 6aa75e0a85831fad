"""A first guess at the parts of a message, for a new row of the table: whoever adds it looks whether it is right."""

from __future__ import annotations

import re

IMPERATIVES = (
    "add adapt ask assign broadcast build calibrate change choose compare copy correct create end enlarge evaluate "
    "export free give install import keep leave let list look lower make merge mend move name normalize pack pad put "
    "quantize raise register remove rename repair replace reduce resume return run save scale score see set shorten "
    "start take train try turn unpack use wait widen write pip"
).split()
DO = re.compile(
    rf"^(?:please |or |either |then |it again|first )?(?:{'|'.join(IMPERATIVES)})\b|"
    r"`(?:tools|pip|torchrun)|--\w[\w-]* (?:continues|moves)|\?$|continues\b|install it with|"
    r"did_you_mean|\{hint\}|\{\w*[hH]int\w*\}|\{near\}|\{advice\}|advice\}|goes on with --resume|loads? what fits"
)
ALLOWED = re.compile(
    r"\bmust\b|\bexpected\b|\bthere (?:are|is one)\b|\ballowed\b|(?<!not )\bavailable\b|\bat least\b|\bbetween\b|"
    r"\bit is an?\b|\btakes?\b|\bneeds?\b|\bwants\b|\bknown\b|\bone of\b|\bonly\b|\bshould\b|\bit has\b|\bthey have\b|"
    r"\bmultiples\b|\bor None\b|\bis an? (?:share|number|list|dict|whole)\b|\bmore than the limit\b|\bat most\b|"
    r"\bbelow\b|\babove\b|\buse [\w'{]+,? (?:or|and)\b|\buse '|\buse \{|\bor more\b|\bnot a dict\b|\bindices\b|"
    r"\bthe config (?:says|has)\b|\bthe (?:validation data|training data|data set) has\b|\breads\b|\bhere are\b|"
    r"\bwhat can be evaluated\b|\btargets are\b|\bevaluate and export with\b|\ban? \w+ is a\b|\bthe most that\b"
)
NEAR = re.compile(r"\{[^{}]*(?:did_you_mean|[hH]int|\bnear\b)[^{}]*\}")
"""What names the nearest of the known names."""
RELAYED = re.compile(r"^\{[^{}]*\}$|[:(] ?\{[^{}]*(?:error|problem|reason|why)[^{}]*\}\)?(?:\{\w+\})?$")
"""The last thing it says is the text of another error."""


def clauses(template: str) -> list[str]:
    """The text between semicolons, colons, commas before a command, and parentheses; never inside braces."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(template):
        depth += (letter == "{") - (letter == "}")
        after = template[i + 1 : i + 2]
        if depth == 0 and ((letter in ";:" and after in " \n") or letter in "(\n" or (letter == "," and after == " ")):
            parts.append(template[start:i])
            start = i + 1
    parts.append(template[start:])
    return [part.strip(" ()\n") for part in parts if part.strip(" ()\n")]


def suggest(template: str) -> tuple[str, str, str]:
    """(found, allowed, do): texts out of the template, or reasons (``-word``)."""
    parts = clauses(template)
    candidates = [p for p in [*parts[1:], parts[0]] if DO.search(p) and not re.match(r"\w+ is\b", p)]
    do = next((p for p in candidates if not NEAR.search(p)), next(iter(candidates), ""))
    near = NEAR.search(do)
    if near and not re.match("|".join(IMPERATIVES), do):
        parts = [part.replace(near[0], "") if part == do else part for part in parts]
        do = near[0]
    allowed = next((p for p in parts if ALLOWED.search(p) and p != do), "")
    if not allowed and ALLOWED.search(do):
        allowed = do
    value = next((p for p in parts if p not in (do, allowed) and re.search(r"\bgot\b|\bis \{|=\{|found\b", p)), "")
    rest = [p for p in parts if p not in (do, allowed) and not p.startswith("or ")]
    found = value or next((p for p in rest if "{" in p), "") or (rest[0] if rest else parts[0])
    if not do and not allowed and RELAYED.search(template):
        return found, "-relayed", "-relayed"
    return found, allowed or "-implied", do or ("-allowed" if allowed else "")
