"""The formats that labels can be exported to."""

from enum import StrEnum

MOST_VIDEOS = 12  # of trials, where none are chosen: a lab has hundreds


class Format(StrEnum):
    """What --to names."""

    BORIS = "boris"
    ONEHOT = "onehot"
    NWB = "nwb"
    VIDEO = "video"
    ALL = "all"
