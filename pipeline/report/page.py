"""A report as one HTML file that needs nothing else: no network, no other file but those it links to."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.report.content import Report

# In JSON inside a script element: what would end it, and what old JavaScript takes as the end of a line.
_UNSAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


@dataclass(frozen=True)
class Script:
    """A script of the page, and its checksum as a content security policy names it."""

    code: Markup

    @property
    def policy(self) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(self.code.encode()).digest()).decode() + "'"


def render(report: Report) -> str:
    """The whole page. Every text is escaped, and the page's policy lets no script run but its own two."""
    scripts = [Script(Markup(get_plotlyjs())), Script(Markup(_file("page.js")))]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["json"] = json_in_html
    return environment.get_template("page.html").render(
        report=report,
        style=Markup(_file("page.css")),
        scripts=scripts,
        policy=f"default-src 'none'; script-src {' '.join(script.policy for script in scripts)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'",
    )


def json_in_html(value: Any) -> Markup:
    """JSON that may stand inside a script element, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_UNSAFE))


def _file(name: str) -> str:
    return (resources.files("pipeline.report") / name).read_text(encoding="utf-8")
