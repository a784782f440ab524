"""Command-line flags made of the settings: written once, in `preprocess_settings.py` and `train_settings.py`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Optional, get_type_hints

import typer

from pipeline.setting_texts import flag


def with_settings(*stages: type) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """Adds a flag for every setting of the stages to a command; the command gets them as the dict `flags`."""

    def decorate(function: Callable[..., int]) -> Callable[..., None]:
        names = [f.name for stage in stages for f in dataclasses.fields(stage)]
        own = [p for p in inspect.signature(function).parameters.values() if p.name != "flags"]
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]

        @functools.wraps(function)
        def command(**arguments: Any) -> None:
            flags = {name: arguments.pop(name) for name in names}
            raise typer.Exit(function(**arguments, flags=flags))

        parameters = own + [_parameter(stage, f) for stage in stages for f in dataclasses.fields(stage)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _parameter(stage: type, setting: dataclasses.Field) -> inspect.Parameter:
    kind = get_type_hints(stage)[setting.name]
    name = f"--{flag(setting.name)}"
    default = "off" if setting.default is False else "on" if setting.default is True else setting.default
    choices = setting.metadata["choices"]
    said = f" ({', '.join(map(str, choices))})" if choices else ""
    option = typer.Option(
        f"{name}/--no-{flag(setting.name)}" if kind is bool else name,
        help=f"{setting.metadata['help']}{said}; default {default if default != '' else 'none'}",
        rich_help_panel=setting.metadata["group"],
        show_default=False,
    )
    annotation = Annotated[Optional[kind], option]  # type: ignore[valid-type]  # noqa: UP045
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
