"""Where this machine gets Debian's packages from, read from its own apt settings; nothing is named here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCHIVE = re.compile(r"\bdebian/?$")
"""How the address of a mirror of Debian's main archive ends (that of its security updates does not)."""


@dataclass(frozen=True)
class Mirror:
    """A mirror of Debian, and the keys that its lists are signed with."""

    address: str
    keyring: Path = KEYRING

    def line(self, suite: str) -> str:
        """A line of a ``sources.list``."""
        return f"deb [signed-by={self.keyring}] {self.address} {suite} main"


def debian_mirror(etc: Path = Path("/etc/apt")) -> Mirror | None:
    """The first mirror of Debian in ``sources.list``, ``sources.list.d/*.list`` and ``*.sources``; None: there is
    none."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]
    files += sorted((etc / "sources.list.d").glob("*.sources"))
    for path in files:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found = _stanzas(text) if path.suffix == ".sources" else _lines(text)
        for address, key in found:
            if ARCHIVE.search(address):
                known = key is not None and key.startswith("/")
                return Mirror(address.rstrip("/"), Path(key) if known and key else KEYRING)
    return None


def _lines(text: str) -> Iterator[tuple[str, str | None]]:
    """Addresses and keyrings of ``deb [options] address suite ...``."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+\S+", line)
        if match:
            key = re.search(r"signed-by=(\S+)", match[1] or "", re.IGNORECASE)
            yield match[2], key[1] if key else None


def _stanzas(text: str) -> Iterator[tuple[str, str | None]]:
    """Addresses and keyrings of the stanzas of a ``.sources`` file that are not switched off."""
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = {k.lower(): v.strip() for k, v in re.findall(r"(?m)^([\w-]+):[ \t]*(.*)$", stanza)}
        if fields.get("enabled", "yes").lower() == "no" or "deb" not in fields.get("types", "").split():
            continue
        for address in fields.get("uris", "").split():
            yield address, fields.get("signed-by")
