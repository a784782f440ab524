"""What pictures show is read off their axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from pipeline.pictures import class_colours
from pipeline.tables import plots
from pipeline.tables.files import write_picture
from pipeline.tables.stage import Asked, make
from tables_lab import CLASSES, random_lab, write_cache

BY = r"_(\d+M)"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("plots")
    lines = "".join(f"{i:02d}M,{'ab'[i % 2]} µg,day {i // 4}\n" for i in range(8))
    (folder / "groups.csv").write_text(f"animal,treatment,session\n{lines}", encoding="utf-8")
    cache = write_cache(folder / "c", random_lab(7))
    return make(Asked(cache=cache, groups=folder / "groups.csv", group_by=BY)).tables


def test_each_animal_is_a_dot_in_its_behaviours_colour(tables: dict) -> None:
    figure = plots.time_in_behaviour(tables["per_animal"], tables["per_group"], CLASSES)
    for axes, name, colour in zip(figure.axes, CLASSES, class_colours(3), strict=True):
        own = tables["per_animal"][tables["per_animal"]["behaviour"] == name]
        dots = np.concatenate([np.asarray(found.get_offsets())[:, 1] for found in axes.collections])
        assert sorted(dots) == pytest.approx(sorted(own["time_s"]))
        assert {to_hex(found.get_facecolor()[0]) for found in axes.collections} == {colour}
        titles = [text.get_text() for text in axes.get_xticklabels()]
        assert titles == ["a µg, day 0", "b µg, day 0", "a µg, day 1", "b µg, day 1"]


def test_courses_and_matrices_are_those_of_the_tables(tables: dict) -> None:
    around = plots.around_stimulus(tables["peri_stimulus"], CLASSES)
    assert len(around.axes) == 3 * 4
    assert around.axes[0].get_title() == "a µg, day 0\n2 animals, 6 trials"
    matrices = plots.transitions(tables["transitions"], CLASSES)
    image = matrices.axes[0].images[0].get_array()
    own = tables["transitions"][tables["transitions"]["level"] == "group"].iloc[:6]
    assert np.ma.compressed(np.ma.masked_invalid(image)) == pytest.approx(own["probability"].to_numpy())


def test_text_stays_text_in_svg(tables: dict, tmp_path: Path) -> None:
    for name, figure in plots.pictures(tables, CLASSES).items():
        svg, png = write_picture(figure, tmp_path / name)
        assert ">a µg, day 0<" in svg.read_text(encoding="utf-8")
        assert png.read_bytes().startswith(b"\x89PNG")
    assert {path.stem for path in tmp_path.iterdir()} == set(plots.NAMES)
