"""The site of docs/: it builds, asks nothing of the network, its links lead somewhere, and what it says can be run."""

from __future__ import annotations

import ast
import dataclasses
import html
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import typer

from pipeline.cli import app
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import flag
from pipeline.settings_file import read_toml
from pipeline.settings_given import resolve
from pipeline.train_settings import TrainSettings

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)
GROUP: Any = typer.main.get_command(app)
SETTINGS = (PreprocessSettings, TrainSettings)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def text_of(page: Path) -> str:
    """A built page as text: without its tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")))


def test_every_setting_has_its_row(site: Path) -> None:
    shown = (site / "settings.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr>(.*?)</tr>", shown, flags=re.DOTALL)
    for stage in SETTINGS:
        for setting in dataclasses.fields(stage):
            own = [row for row in rows if f"<code>--{flag(setting.name)}</code>" in row.partition("</td>")[0]]
            assert len(own) == 1, setting.name
            said = " ".join(html.unescape(re.sub(r"<[^>]*>", "", own[0])).split())
            assert setting.metadata["help"].replace("`", "") in said, setting.name
            if setting.default is not False and setting.default is not True and setting.default != "":
                assert str(setting.default) in said, setting.name


def test_every_command_has_its_options(site: Path) -> None:
    shown = (site / "commands.html").read_text(encoding="utf-8")
    parts = dict(re.findall(r'<h2 id="pipeline-([a-z-]+)">(.*?)(?=<h2)', shown, flags=re.DOTALL))
    assert set(parts) == set(GROUP.commands)
    settings = {f.name for stage in SETTINGS for f in dataclasses.fields(stage)}
    for name, command in GROUP.commands.items():
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name not in settings:
                assert f"<code>{parameter.opts[0]}</code>" in parts[name], (name, parameter.name)
    assert "settings.html#settings-of-preprocess" in parts["run"]
    assert "settings.html#settings-of-train" in parts["run"]
    assert "settings.html" not in parts["predict"]


def test_links_lead_somewhere(site: Path) -> None:
    """What strict building does not see: links of the theme, pictures, scripts, and anchors of generated pages."""
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert len(pages) > 15
    anchors = {path: set(re.findall(r'\bid="?([^\s">]+)', text)) for path, text in pages.items()}
    checked = 0
    for path, text in pages.items():
        if path.name == "404.html":
            continue
        for link in re.findall(r'\b(?:href|src)="?([^\s">]+)', text):
            parts = urlsplit(html.unescape(link))
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path.name}: {link}"
            if parts.fragment and target in anchors and parts.fragment != "__search":
                assert unquote(parts.fragment) in anchors[target], f"{path.name}: {link}"
            checked += 1
    assert checked > 500


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if os.environ.get("PIPELINE_NO_BROWSER") == "1":
        pytest.skip("PIPELINE_NO_BROWSER=1")
    from playwright.sync_api import sync_playwright

    chromium = Path(os.environ.get("PIPELINE_CHROMIUM", "/usr/bin/chromium"))
    assert chromium.exists(), f"{chromium} is not there: install Chromium, or set PIPELINE_NO_BROWSER=1"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("how", ["disk", "server"])
def test_it_asks_nothing_of_the_network_and_finds_what_is_searched(
    site: Path, served: str, browser: Any, how: str
) -> None:
    base = site.as_uri() if how == "disk" else served
    page = browser.new_page()
    asked, troubles = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("requestfailed", lambda request: troubles.append(f"{request.failure}: {request.url}"))
    page.on(
        "response", lambda response: response.status >= 400 and troubles.append(f"{response.status} {response.url}")
    )
    for name in ("index.html", "tutorial.html", "settings.html"):
        page.goto(f"{base}/{name}", wait_until="load")
    page.locator("input.md-search__input").click()
    page.locator("input.md-search__input").press_sequentially("likelihood")
    results = page.locator(".md-search-result__link")
    results.first.wait_for(state="attached", timeout=30_000)
    assert "settings.html" in "".join(link.get_attribute("href") or "" for link in results.all())
    # What a page still asked for when the next one was opened is given up.
    assert [trouble for trouble in troubles if not trouble.startswith("net::ERR_ABORTED")] == []
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((base, "data:", "about:", "blob:"))] == []


def quoted_commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Each `pipeline ...` of a page, and whether it is a line of a code block and so can be run as it stands."""
    text = page.read_text(encoding="utf-8")
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if match := re.match(r"\s+(?:\$ )?(pipeline [a-z].*)|(?:\$ )?(pipeline [a-z].*)", line):
            command = match[1] or match[2]
            yield (
                re.sub(r"\s+#.*|\s*;.*|\s+[|>].*| &$| &&.*|`.*", "", command),
                "`" not in line and "..." not in command,
            )
    for inline in re.findall(r"(?<!`)`pipeline ([a-z][^`]*)`(?!`)", text):
        yield f"pipeline {inline}", False
    for looped in re.findall(r"\bdo (pipeline [^;\n]*)", text):
        yield looped, False


def refusal(command: str, whole: bool) -> str | None:
    """What the real command line says against it; None: nothing. A command that is not whole may lack options."""
    name, *words = shlex.split(command.replace("...", ""))[1:]
    if name in {"COMMAND", "--help"}:
        return None
    if name not in GROUP.commands:
        return f"no command {name}"
    if {"--help", "-h"} & set(words):
        return None
    words = [re.sub(r"\$\w+|\$\{\w+\}", "1", word) for word in words]
    try:
        context = GROUP.commands[name].make_context(name, words, **GROUP.context_settings)
    except Exception as error:
        incomplete = type(error).__name__ in {"MissingParameter", "BadParameter", "BadOptionUsage"}
        return None if incomplete and not whole else f"{type(error).__name__}: {error}"
    given = {key: value for key, value in context.params.items() if value is not None}
    for stage in SETTINGS:
        if {f.name for f in dataclasses.fields(stage)} <= set(context.params):
            resolve(stage, {}, given)
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_quoted_commands_can_be_run(page: Path) -> None:
    for command, whole in quoted_commands(page):
        assert refusal(command, whole) is None, command


def test_flags_that_are_named_exist() -> None:
    known = {opt for command in GROUP.commands.values() for p in command.params for opt in (*p.opts, *p.secondary_opts)}
    known |= {"--help"}
    found = 0
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for name in re.findall(r"`(--[a-zA-Z][\w-]*)[^`\n]*`", page.read_text(encoding="utf-8")):
            assert name.replace("_", "-") in known, f"{page.name}: {name}"
            found += 1
    assert found > 100


def test_the_check_of_commands_sees_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Use `pipeline train --nosuch 3`.\n\n    pipeline check --video V   # a comment\n\n"
        "```sh\npipeline predict --model M \\\n  --out O\n```\n"
    )
    found = list(quoted_commands(page))
    assert found == [
        ("pipeline check --video V", True),
        ("pipeline predict --model M  --out O", True),
        ("pipeline train --nosuch 3", False),
    ]
    assert [refusal(*command) is None for command in found] == [False, True, False]
    assert sum(len(list(quoted_commands(page))) for page in PAGES) > 30


def test_quoted_settings_files_can_be_read(tmp_path: Path) -> None:
    found = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
        blocks += [part.replace("\n    ", "\n") for part in re.findall(r"\n    (# \S+\.toml\n(?:    .*\n)+)", text)]
        for block in blocks:
            file = tmp_path / "settings.toml"
            file.write_text(block)
            values = {key: v for key, v in tomllib.loads(block).items() if not isinstance(v, list | dict)}
            if not values:
                continue  # ranges of `pipeline tune`, no settings
            for stage in SETTINGS:
                resolve(stage, read_toml(file), {})
            found += 1
    assert found >= 2


def test_messages_that_are_explained_are_those_of_preprocess() -> None:
    said = []
    for path in [*(ROOT / "pipeline" / "preprocess").glob("*.py"), ROOT / "pipeline" / "cluster.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                said.append("".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values))  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    explained = re.findall(
        r"^\| `(.+?)` \|", (ROOT / "docs/howto/skipped.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert len(explained) > 30
    for message in explained:
        assert any(message.strip(" …") in text for text in said), message
