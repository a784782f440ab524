"""What to do about what `check` finds, by what is said of it."""

from __future__ import annotations

import re

LEFTOVER = "^after the last whole trial"
FILLED = r"they count as .* \(--annotation-background\)"
OTHER_LENGTH = r"^the DLC table has \d+ rows"
# A part of a reason, and what to do about it; the first that is found counts.
_ADVICE = (
    (r"needs the sleap extra", "install it, into the same environment"),
    (r"--annotation-background", "nothing, or name the class of such frames: --annotation-background"),
    (r"--annotation-subject", "say which: --annotation-subject"),
    (
        r"overlaps|stopped|has not been started|at once|point event",
        "correct it in the program that wrote it, and export again",
    ),
    (r"join those of one animal", "join the tracks of each animal in SLEAP, and export again"),
    (r"^no DLC table that can be read", "export the table from DLC again"),
    (r"^no DLC table has", "correct --dlc-scorer"),
    (r"^no DLC table", "run DLC on the video, or name the folder of its tables: --dlc"),
    (r"is it of another version", "use the table that DLC made of this very video; a known difference: --dlc-slack"),
    (r"of the keypoints lie outside", "use the table that DLC made of this very video"),
    (r"cannot be read as a video|has no video stream", "it is no video, or damaged: copy or export it again"),
    (r"can(not)? be decoded|is damaged|ends after frame|beyond frame", "copy the video again, or re-encode it"),
    (r"use --decoder auto|decord", "use --decoder auto"),
    (r"its header lists", "see whether the end of the recording is missing"),
    (r"is not in the class list", "correct that row, or add the class to --classes"),
    (r"too short: \d+ rows", "annotate the whole trial, or lower --min-frames"),
    (r"ambiguous: \d+ rows", "say which frames of the trial they are: --crops ROWS=START"),
    (r"run past the recording's end|begins at frame", "see whether its trial number is right and the video whole"),
    (r"its Frame column", "number its rows 0, 1, 2 and so on"),
    (r"keep one|rename it|names no trial|belongs to no|choose one", "rename or remove the file that is named"),
    (r"without an annotation", "annotate it if it is to be used"),
    (LEFTOVER, "nothing, if no trial was cut short"),
    (r"picture taken as", "give --frame-size"),
    (OTHER_LENGTH, "nothing, if the lag is 0: rows go by their frame number"),
    (r"has no likelihood|exactly \(0, 0\)", "nothing, if that is how the table was made"),
    (r"no trial needs that frame", "nothing, if the trials are all there"),
    (r"cannot be read|is empty|is a folder|is a link", "copy the file again, or bring its drive back"),
    (r" row \d+|frame number|no column|no rows", "correct the file, or export it again"),
)
LAG_ADVICE = "look at it with `pipeline inspect`; --dlc-lag holds for every recording of a run"


def advice(reason: str) -> str:
    """In a few words; the reason is that of a Skip, or a note."""
    return next(
        (what_to_do for part, what_to_do in _ADVICE if re.search(part, reason)), "correct the file that is named"
    )
