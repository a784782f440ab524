"""Pages that the code itself writes: every setting (`*_settings.py` in pipeline/) and every command (the typer app)."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any, get_type_hints

import typer

from pipeline.cli import app
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import flag
from pipeline.train_settings import TrainSettings

ROOT = Path(__file__).parents[1]
STAGES = {"preprocess": PreprocessSettings, "train": TrainSettings}
_BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
_KINDS = {int: "whole number", float: "number", str: "text", bool: "on or off"}


def settings_page() -> str:
    """Markdown: a table for each group of settings of each stage."""
    lines = [
        "# Every setting",
        "",
        "This page is made from the code. A setting is a flag of the command line (`--train-T 180`; `-` and `_` "
        "between its words are the same), and a key of a TOML file, given as `--config FILE` (`train_T = 180`). Flags "
        "win over the file. What is on or off is `--use-ema` or `--no-use-ema`, in the file `use_ema = true`. "
        "A key that is no setting is an error. The settings that made a result are saved with it.",
        "",
        "Which of them to change for your kind of data, and why: [Settings for your kind of data](recipes.md).",
    ]
    for stage, settings in STAGES.items():
        lines += ["", f"## Settings of {stage}", "", str(settings.__doc__)]
        fields = sorted(dataclasses.fields(settings), key=_order(settings))
        for group, members in groupby(fields, key=lambda f: f.metadata["group"]):
            lines += ["", f"### {stage}: {group}", "", *_table(SETTING_COLUMNS, map(_row(settings), members))]
    return "\n".join(lines) + "\n"


SETTING_COLUMNS = ("setting", "default", "what it does", "values")


def _order(settings: type) -> Any:
    groups = list(dict.fromkeys(f.metadata["group"] for f in dataclasses.fields(settings)))
    return lambda f: groups.index(f.metadata["group"])


def _row(settings: type) -> Any:
    kinds = get_type_hints(settings)

    def row(field: dataclasses.Field) -> tuple[str, ...]:
        return (
            f"`--{flag(field.name)}`",
            default_text(field.default),
            text(field.metadata["help"]),
            _values(field, kinds),
        )

    return row


def default_text(value: Any) -> str:
    """A default as the command line would take it."""
    if value in (None, "", []):
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _values(field: dataclasses.Field, kinds: dict[str, type]) -> str:
    if field.metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in field.metadata["choices"])
    bounds = [f"{word} {field.metadata[name]}" for name, word in _BOUNDS.items() if name in field.metadata]
    return " ".join([_KINDS[kinds[field.name]], *bounds])


def commands_page() -> str:
    """Markdown: a section for each command, with its arguments and options; of settings it says where they are."""
    lines = [
        "# Every command",
        "",
        "This page is made from the code; `pipeline COMMAND --help` shows the same.",
        "",
        *_table(
            ("command", "what it does"),
            [(f"[{name}](#pipeline-{name})", text(c.help)) for name, c in commands().items()],
        ),
    ]
    for name, command in commands().items():
        own, stages = own_parameters(command)
        words = [*(_usage(p) for p in own), *(["[SETTINGS]"] if stages else [])]
        lines += [
            "",
            f"## pipeline {name}",
            "",
            text(command.help),
            "",
            "```text",
            " ".join(["pipeline", name, *words]),
            "```",
        ]
        lines += ["", *_table(("option", "default", "what it does"), map(_option_row, own))]
        if stages:
            links = " and ".join(f"[settings of {stage}](settings.md#settings-of-{stage})" for stage in stages)
            lines += ["", f"And all {links}."]
    lines += [
        "",
        "## Exit codes",
        "",
        "Every command ends with one of these.",
        "",
        *_table(("code", "meaning"), EXIT_CODES),
    ]
    return "\n".join(lines) + "\n"


EXIT_CODES = (
    ("0", "done"),
    ("1", "failed; one line on the screen says why"),
    ("2", "wrong command line or settings"),
    ("3", "done, but recordings, trials or folds were left out for a fault of theirs; each is listed with its reason"),
    ("4", "`status` and `--dry-run`: something is not up to date"),
    ("130", "interrupted; the same command goes on"),
)


def modules_page() -> str:
    """Markdown: every module of each room, with the first line of its docstring."""
    lines = [
        "# Every module",
        "",
        "This page is made from the code. How they fit together: [Architecture](architecture.md).",
    ]
    for room, paths in groupby(sorted(_modules(), key=lambda path: (path.parent, path.name)), key=lambda p: p.parent):
        rows = [(f"`{path.name}`", text(_first_line(path))) for path in paths]
        lines += ["", f"## {room.relative_to(ROOT).as_posix()}", "", *_table(("module", "what it is"), rows)]
    return "\n".join(lines) + "\n"


def _modules() -> Iterator[Path]:
    for package in ("cache", "pipeline"):
        yield from (path for path in (ROOT / package).rglob("*.py") if path.stat().st_size)


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def notebook_page(path: Path) -> str:
    """Markdown: the text and the code of a notebook; what its cells print is not shown."""
    pieces = [f"[The notebook itself]({path.name}), to run it."]
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        pieces.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join([*pieces[1:2], pieces[0], *pieces[2:]]) + "\n"


def commands() -> dict[str, Any]:
    """Name -> command, in the order of `pipeline --help`; without those that help does not show."""
    group: Any = typer.main.get_command(app)
    return {name: command for name, command in group.commands.items() if not command.hidden}


def own_parameters(command: Any) -> tuple[list[Any], list[str]]:
    """A command's parameters that are no settings, and the stages whose settings it has."""
    names = {parameter.name for parameter in command.params}
    of_stage = {stage: {f.name for f in dataclasses.fields(settings)} for stage, settings in STAGES.items()}
    stages = [stage for stage, settings in of_stage.items() if settings <= names]
    taken = set[str]().union(*(of_stage[stage] for stage in stages))
    return [parameter for parameter in command.params if parameter.name not in taken], stages


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        text = str(parameter.name).upper()
    else:
        text = parameter.opts[0] if parameter.is_flag else f"{parameter.opts[0]} {str(parameter.name).upper()}"
    return text if parameter.required else f"[{text}]"


def _option_row(parameter: Any) -> tuple[str, ...]:
    argument = parameter.param_type_name == "argument"
    names = [str(parameter.name).upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    default = "must be given" if parameter.required else default_text(parameter.default)
    return ", ".join(f"`{name}`" for name in names), default, text(parameter.help or "")


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = tuple(columns)
    yield _line(columns)
    yield _line("---" for _ in columns)
    yield from map(_line, rows)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def text(said: str) -> str:
    """A help text as Markdown: what stands between backticks is code, nothing else of it is markup."""
    return re.sub(r"`[^`]*`|[\\*_<>\[\]|&]", lambda found: _ESCAPED.get(found[0]) or found[0], said)


_ESCAPED = {"<": "&lt;", "&": "&amp;"} | {character: f"\\{character}" for character in "\\*_>[]|"}
