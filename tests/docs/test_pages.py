"""What pages promise that no other test holds."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.cross_validation.stage import cross_validate
from pipeline.train.stage import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference() -> Any:
    spec = importlib.util.spec_from_file_location("docs_reference", ROOT / "docs" / "reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_folds_that_were_trained_by_hand_are_gathered(small_cache: Path, quick, tmp_path: Path) -> None:
    """docs/howto/cluster.md: each fold as a job of its own, in the place where cross-validate looks for it."""
    out, settings = tmp_path / "CV", quick(epochs=1, decision=False)
    cross_validate(settings, cache=small_cache, out=out, n_folds=2)
    shutil.rmtree(out / "fold-2")
    by_hand = dataclasses.replace(settings, split_file=str((out / "splits" / "fold-2.csv").resolve()))
    train(by_hand, cache=small_cache, out=out / "fold-2", say=lambda line: None)
    written = {path: path.stat().st_mtime_ns for path in out.glob("fold-?/last.pt")}
    gathered = cross_validate(settings, cache=small_cache, out=out, n_folds=2)
    assert len(written) == 2
    assert written == {path: path.stat().st_mtime_ns for path in out.glob("fold-?*/last.pt")}
    assert gathered.summary
    assert not gathered.failed
    assert len(list((out / "out_of_fold").glob("*.npz"))) == 12


def test_help_texts_are_no_markup(reference: Any) -> None:
    assert reference.text(r"for example _(\d+M)_ <name> a|b") == r"for example \_(\\d+M)\_ &lt;name&gt; a\|b".replace(
        "&gt;", r"\>"
    )
    assert reference.text("see `a_b|c` and d_e") == r"see `a_b|c` and d\_e"


def test_a_notebook_is_a_page(reference: Any, tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Quick start\n", "\n", "Two lines."]},
        {"cell_type": "code", "source": ["import cache\n", "cache.open('CACHE')"], "outputs": []},
    ]
    path = tmp_path / "quickstart.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert reference.notebook_page(path) == (
        "# Quick start\n\nTwo lines.\n\n[The notebook itself](quickstart.ipynb), to run it.\n\n"
        "```python\nimport cache\ncache.open('CACHE')\n```\n"
    )
