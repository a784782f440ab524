"""Pose tables by their names: which recording each may belong to, and which of a recording's is read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pipeline.file_names import FILTERED, NETWORK, VIDEO_SUFFIXES, composed, is_filtered
from pipeline.preprocess.keypoints import check_header
from pipeline.preprocess.text_table import UnreadableError
from pipeline.preprocess_settings import PreprocessSettings

HeaderFault = Callable[[Path], ValueError | None]

TABLE_SUFFIXES = (".csv", ".h5", ".slp", ".nwb")
LABELLED_COPY = re.compile(r"(DLC|DeepCut)_.*_labell?ed$")
# What SLEAP puts around a video's name: labels.v001.000_mouse1.analysis.h5, mouse1.mp4.predictions.slp
_EXPORTED = re.compile(r"(\.(predictions|analysis))+$")
_PROJECT = re.compile(r"^.+\.[0-9]{3}_(?=.)")
_VIDEO = re.compile(rf"({'|'.join(map(re.escape, VIDEO_SUFFIXES))})$", re.IGNORECASE)


class UnpairedError(ValueError):
    """Why a recording has no DLC table that could be chosen; passing as in Skip."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


def header_fault(path: Path) -> ValueError | None:
    """What is wrong with the header of a DLC table, or None."""
    try:
        check_header(path)
    except ValueError as error:
        return error
    return None


def is_table(path: Path, fault_of: HeaderFault) -> bool:
    """Whether the file is meant as a DLC table: by its name, or by its header."""
    return bool(NETWORK.search(path.stem)) or fault_of(path) is None


def stem_of_table(path: Path) -> str:
    """The recording's name in a table's, where no video says which."""
    network = NETWORK.search(path.stem)
    return path.stem[: network.start()] if network else min(_plain_stems(path.stem, path.suffix), key=len)


def tables_by_stem(tables: Iterable[Path], stems: Iterable[str]) -> dict[str, list[Path]]:
    """The tables of these recordings by their names, <stem> or <stem>DLC_<network>.

    One whose name fits several is the longest's: of a.mp4 and aDLC_1.mp4 aDLC_1DLC_net.csv is of the second alone.
    """
    spelled = {composed(stem): stem for stem in stems}
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in tables:
        stem = composed(path.stem)
        of_networks = (stem[: network.start()] for network in NETWORK.finditer(stem))
        if fitting := spelled.keys() & {*_plain_stems(stem, path.suffix), *of_networks}:
            by_stem[spelled[max(fitting, key=len)]].append(path)
    return dict(by_stem)


def _plain_stems(stem: str, suffix: str) -> set[str]:
    """The name without its suffix, and of other files than .csv without what SLEAP puts around a video's name."""
    stems = {stem}
    if suffix.lower() != ".csv":
        for around in (_EXPORTED, _PROJECT, _VIDEO):
            stems |= {around.sub("", stem) for stem in stems}
    return stems


def _beyond(path: Path, stem: str) -> str:
    """What a table's name says more than the recording's."""
    name, stem = composed(path.name), composed(stem)
    return name[len(stem) :] if name.startswith(stem) else name


def _network_of(path: Path) -> tuple[str, str]:
    """Equal for files of the same predictions: filtered or not, as .csv or .h5."""
    suffix = path.suffix.lower()
    return FILTERED.sub("", composed(path.stem)), suffix if suffix in (".slp", ".nwb") else ""


def choose_table(
    stem: str, named: Sequence[Path], settings: PreprocessSettings, fault_of: HeaderFault
) -> tuple[Path, tuple[str, ...]]:
    """The one table to read and what to say of it: of one network, filtered or not as the settings say, .csv first.

    named: those with the stem's name, of the first folder that has any.
    """
    if LABELLED_COPY.search(stem):
        raise UnpairedError("a copy that DLC drew its keypoints on, not a recording")
    if not named:
        raise UnpairedError(
            f"no DLC table {stem}DLC_*.csv, .h5 or {stem}.csv (.slp, .nwb); run DLC, or name its folder: --dlc"
        )
    # shuffle1 is no part of shuffle10.
    scorer = re.compile(re.escape(settings.dlc_scorer) + (r"(?![0-9])" if settings.dlc_scorer[-1:].isdigit() else ""))
    wanted = [path for path in named if scorer.search(_beyond(path, stem))]
    if not wanted:
        names = ", ".join(path.name for path in named)
        raise UnpairedError(f"no DLC table has {settings.dlc_scorer!r} (--dlc-scorer) after {stem}: {names}")
    faults = {path: fault for path in wanted if (fault := fault_of(path))}
    found = [path for path in wanted if path not in faults]
    if not found:
        reasons = "; ".join(f"{path.name} {fault}" for path, fault in faults.items())
        passing = any(isinstance(fault, UnreadableError) for fault in faults.values())
        raise UnpairedError(f"no DLC table that can be read: {reasons}", passing)
    if len({_network_of(path) for path in found}) > 1:
        names = ", ".join(path.name for path in found)
        raise UnpairedError(f"tables of several DLC networks: {names}; choose one by a part of its name: --dlc-scorer")

    def preference(path: Path) -> tuple[bool, bool]:
        return _preference(path, settings.prefer_filtered)

    chosen = min(found, key=preference)
    better = [f"{path.name} {fault}" for path, fault in faults.items() if preference(path) < preference(chosen)]
    return chosen, tuple(f"{reason}; {chosen.name} is used" for reason in better)


def _preference(path: Path, prefer_filtered: bool) -> tuple[bool, bool]:
    return is_filtered(path) != prefer_filtered, path.suffix.lower() != ".csv"
