"""A field of the settings' classes."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(
    default: Any,
    group: str,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:
    """A dataclass field that knows its group, help text, bounds (ge/gt/le/lt) and choices."""
    bounds = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    metadata: dict[str, Any] = {"group": group, "help": help, "choices": choices}
    metadata |= {name: bound for name, bound in bounds.items() if bound is not None}
    return field(default=default, metadata=metadata)
