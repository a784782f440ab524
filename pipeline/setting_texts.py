"""What the texts of settings say: lists and maps of names, and how a setting is called on the command line."""

from __future__ import annotations


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type, or out of its bounds; the message says which and what is expected."""


def flag(name: str) -> str:
    """The setting's name as the command line shows it (`kp_jitter_std` -> `kp-jitter-std`)."""
    return name.replace("_", "-")


def parse_map(text: str, name: str) -> dict[str, str]:
    """`a=b,c=d` as a dict. Raises SettingsError that names the setting."""
    pairs: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value) or "=" in value:
            raise SettingsError(f"--{flag(name)} {text}: expected name=name pairs with commas between, found {item!r}")
        if key in pairs:
            raise SettingsError(f"--{flag(name)} {text}: {key!r} stands twice")
        pairs[key] = value
    return pairs


def parse_list(text: str, name: str) -> tuple[str, ...]:
    """`a,b,c` as a tuple of distinct names. Raises SettingsError that names the setting."""
    items = tuple(part.strip() for part in text.split(","))
    if not all(items) or len(set(items)) != len(items):
        raise SettingsError(f"--{flag(name)} {text}: expected distinct names with commas between")
    return items


def parse_lengths(text: str, name: str) -> tuple[int, ...]:
    """`15,61` as distinct numbers of frames, 2 or more each; of an empty text none. Raises SettingsError."""
    items = parse_list(text, name) if text.strip() else ()
    lengths = tuple(int(item) for item in items if item.isdecimal())
    if len(lengths) < len(items) or min(lengths, default=2) < 2 or len(set(lengths)) < len(lengths):
        raise SettingsError(f"--{flag(name)} {text}: expected distinct numbers of frames, 2 or more, as in 15,61")
    return lengths
