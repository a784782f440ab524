"""Names of files that every file system takes, Windows' too."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LONGEST = 150  # bytes: room for the trial, an ending and `.tmp-` within the 255 that file systems allow
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def safe_name(text: str) -> str:
    """The text as the name of a file: what Windows forbids becomes _."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", text).encode()[:_LONGEST].decode(errors="ignore").rstrip(" .")
    return f"_{name}" if not name or _RESERVED.match(name) else name


def safe_names(texts: Iterable[str]) -> dict[str, str]:
    """A name for each text; no two are the same, also where upper and lower case are."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in dict.fromkeys(texts):
        base = name = safe_name(text)
        number = 2
        while name.lower() in taken:
            name, number = f"{base}~{number}", number + 1
        taken.add(name.lower())
        names[text] = name
    return names
