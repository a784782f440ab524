"""The rooms of the house and which of them may know which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("cache/**/*.py"), *ROOT.glob("pipeline/**/*.py")])
MODULES.remove(ROOT / "pipeline" / "__main__.py")  # which is the command line


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(
    ("room", "must_not_know"),
    [
        ("cache", ["torch", "pipeline"]),
        (
            "pipeline/preprocess",
            ["torch", *(f"pipeline.{room}" for room in ("train", "predict", "model", "tables", "export", "report"))],
        ),
        (
            "pipeline/train",
            [*(f"pipeline.{room}" for room in ("preprocess", "predict", "tables", "export", "report")), "av", "decord"],
        ),
        (
            "pipeline/model",
            [f"pipeline.{room}" for room in ("preprocess", "train", "predict", "tables", "export", "report")],
        ),
        ("pipeline/predict", ["pipeline.tables", "pipeline.export", "pipeline.report"]),
        ("pipeline/report", ["av", "decord", "pipeline.preprocess", "pipeline.demo", "pipeline.tuning"]),
        ("pipeline/export", ["torch", "decord", "pipeline.model", "pipeline.demo", "pipeline.tuning"]),
        (
            "pipeline/tables",
            [
                "torch",
                "av",
                "decord",
                *(f"pipeline.{room}" for room in ("model", "demo", "tuning", "export", "report")),
            ],
        ),
        ("pipeline/demo", ["torch", "pipeline.preprocess", "pipeline.train", "pipeline.predict"]),
        ("", ["pipeline.cli"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_knows_whom(room: str, must_not_know: list[str]) -> None:
    modules = [path for path in MODULES if path.is_relative_to(ROOT / room)]
    assert modules
    for path in modules:
        for name in imports(path):
            for other in must_not_know:
                assert name != other, path
                assert not name.startswith(f"{other}."), path
