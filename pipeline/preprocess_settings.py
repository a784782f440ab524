"""Every setting of `preprocess`, written once: name, type, default, bounds, help.

The command line, the TOML file and the record beside each result are all made from the class below.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.setting_field import setting

REFERENCE_CLASSES = "rest,paw_withdraw,paw_lick,paw_guard,paw_shake,flinch,walk,active"
# Without a sign of life of a recording that is being decoded: longer than a pause of a network drive may last.
STALL_S = 300.0
ANNOTATION_FORMATS = ("auto", "frames", "onehot", "boris", "bouts")


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """What shapes the cache. Changing one of these re-runs `preprocess`."""

    trial_frames: int = setting(
        360, "data", "frames in one trial; 0: the whole recording is one clip of any length", ge=0
    )
    min_frames: int = setting(345, "data", "a trial whose annotation has fewer rows is skipped as too short", ge=1)
    crops: str = setting(
        "345=15",
        "data",
        "annotation rows = first frame of the trial that they belong to, for lengths other than "
        "trial_frames, for example 345=15,350=10; lengths not named here are skipped as ambiguous",
    )
    img_size: int = setting(
        224, "data", "side of the cached square frames in pixels (aspect ratio kept, rest padded)", ge=8
    )
    channels: int = setting(1, "data", "1: gray, 3: colour", choices=(1, 3))
    classes: str = setting(REFERENCE_CLASSES, "data", "class list, in the order of the annotations' integers")
    annotation_format: str = setting(
        "auto",
        "data",
        "of the annotations (docs/formats.md); frames: a row a frame with its Action; onehot: a column of 0 and 1 a "
        "behaviour (DeepEthogram, SimBA); boris: BORIS events; bouts: Caltech Behavior Annotator; auto: by the header",
        choices=ANNOTATION_FORMATS,
    )
    annotation_background: str = setting(
        "",
        "data",
        "class of the frames in which a onehot, boris or bouts file names no behaviour; empty: not labelled",
    )
    annotation_subject: str = setting(
        "", "data", "the subject of BORIS events, or the stream (S1, S2) of bouts, to read where a file has several"
    )
    annotation_slack: int = setting(
        10,
        "data",
        "boris and bouts may run so many frames past the recording's end, and are cut there; beyond it the annotation "
        "is refused",
        ge=0,
    )
    annotation_fps: float = setting(
        0.0,
        "data",
        "frames/s that the times of BORIS events are counted by, for recordings without a video whose events name no "
        "frame rate; 0: not known",
        ge=0,
    )
    prefer_filtered: bool = setting(False, "data", "use DLC's _filtered table where there are both")
    dlc_scorer: str = setting(
        "", "data", "use only DLC tables whose name contains this (where several networks were run)"
    )
    dlc_slack: int = setting(
        10,
        "data",
        "a DLC table may have so many rows more or fewer than the video has frames; beyond it the recording is skipped",
        ge=0,
    )
    dlc_lag: int = setting(
        0,
        "data",
        "row n + this of the DLC table belongs to frame n of the video, in every recording: above 0 where the tables "
        "run ahead of the videos, below where they run behind; `pipeline check` estimates it",
        ge=-100,
        le=100,
    )
    max_damaged: float = setting(
        0.1,
        "data",
        "a trial with a larger share of damaged frames is skipped; with fewer, these frames alone are left out",
        ge=0,
        le=1,
    )
    frame_size: str = setting(
        "",
        "data",
        "WIDTHxHEIGHT in pixels of the original video, for recordings that have a DLC table but no video",
    )
    store: str = setting("zarr", "data", "file format of the cache", choices=("zarr", "hdf5"))
    compression: str = setting(
        "auto",
        "data",
        "of the cached frames; auto: zstd (lossless) in zarr, none in hdf5; none: larger, and faster to read",
        choices=("auto", "zstd", "none"),
    )
    decoder: str = setting(
        "auto",
        "data",
        "auto: PyAV, which is faster and marks damaged frames; decord: refused where it gives wrong frames",
        choices=("auto", "decord", "pyav"),
    )
