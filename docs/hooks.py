"""What MkDocs is told beside mkdocs.yml: pages that are made from the code, and pages that lie outside docs/."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the code of this tree, whatever is installed

import reference  # noqa: E402

GENERATED = {
    "settings.md": reference.settings_page,
    "commands.md": reference.commands_page,
    "modules.md": reference.modules_page,
}
# Files of the repository that are pages too: where they lie there -> in the site.
OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/QUALITY.md": "benchmarks-scores.md",
    "benchmarks/RESULTS.md": "benchmarks-speed.md",
}
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
_LINK = re.compile(r"\]\(([\w./-]+\.md)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages of GENERATED and OUTSIDE, in memory or from where they lie."""
    for name, write in GENERATED.items():
        files.append(File.generated(config, name, content=write()))
    if NOTEBOOK.exists():
        files.append(File.generated(config, "quickstart.md", content=reference.notebook_page(NOTEBOOK)))
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between docs/ and the files of OUTSIDE, right where the repository is browsed, lead to their pages."""
    inside = {name: source for source, name in OUTSIDE.items()}
    here = inside.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    folder = posixpath.dirname(page.file.src_uri) or "."

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[1]))
        name = OUTSIDE.get(target) or (target.removeprefix("docs/") if here in OUTSIDE else None)
        return f"]({posixpath.relpath(name, folder)}{match[2] or ''})" if name else match[0]

    return _LINK.sub(link, markdown)
