"""Other folders of the same recordings, without copying them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path


def linked(source: Path, target: Path, names_of: Callable[[str], Iterable[str]]) -> Path:
    """`target` with links to what is in Videos and Annotations of `source`.

    names_of: of a file's name, those that it gets; none leaves it out. What is linked already stays.
    """
    for kind in ("Videos", "Annotations"):
        (target / kind).mkdir(parents=True, exist_ok=True)
        for path in (source / kind).iterdir():
            for name in names_of(path.name):
                if not (target / kind / name).exists():
                    (target / kind / name).symlink_to(path.resolve())
    return target


def first_linked(source: Path, target: Path, n: int) -> Path:
    """The same for the first n recordings alone."""
    stems = sorted(path.stem for path in (source / "Videos").glob("*.mp4"))[:n]
    return linked(source, target, lambda name: [name] if any(stem in name for stem in stems) else [])
