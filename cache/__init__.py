"""Clips of behaviour on disk: preprocessed once, then read by whoever trains, predicts or looks.

Reading:

    cache = open("CACHE")                      # a sequence of clips; also "s3://BUCKET/CACHE", in an object store
    for clip in cache:
        clip.recording, clip.trial             # the video's name without its extension; the trial, from 1
        clip.frames[0:60]                      # (60, H, W, C) uint8, read from the disk
        clip.keypoints                         # (T, K, 3) float32: x, y in [0, 1] of the original picture, likelihood
        clip.labels                            # (T,) int16 ids of clip.class_names; -1: not labelled
        clip.frame_index, clip.time_s          # which frame of the video it is, and when it is shown
        clip.intact                            # (T,) bool; False: the frame is damaged, and black
        clip.source                            # the files it came from

Writing, by one process at a time:

    with create("CACHE", store="zarr") as cache:
        writer = cache.writer("mouse_1")
        writer.append_frames(frames)           # (n, H, W, C) uint8, as often as needed
        writer.finish(meta, keypoints=..., labels=..., frame_index=..., time_s=..., intact=...)
        cache.skip("mouse_2", None, "no DLC table")

`cache.clip` describes the arrays, `cache.fingerprint` tells what is stale. Errors are CacheError.
"""

from cache.clip import SCHEMA_VERSION, UNLABELLED, CacheError, ClipRows, Damage, Geometry, RecordingMeta
from cache.folder import CacheBusyError
from cache.reader import Cache, Clip, Frames, open
from cache.recording_writer import Finished, Writer
from cache.remote import Place, Remote, StoreError, place
from cache.store import Reader, open_reader
from cache.writer import CacheWriter, create

__all__ = [
    "SCHEMA_VERSION",
    "UNLABELLED",
    "Cache",
    "CacheBusyError",
    "CacheError",
    "CacheWriter",
    "Clip",
    "ClipRows",
    "Damage",
    "Finished",
    "Frames",
    "Geometry",
    "Place",
    "Reader",
    "RecordingMeta",
    "Remote",
    "StoreError",
    "Writer",
    "create",
    "open",
    "open_reader",
    "place",
]
