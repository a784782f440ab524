from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cache as clip_cache
from pipeline.train import keep
from pipeline.train.labels import make_merge
from pipeline.train.stream import Stream, load_clip
from pipeline.train.windows import every_window
from pipeline.train_settings import Keep
from tests_support import write_small_cache

CPU = torch.device("cpu")
SIZE = 1000 * 10 * 10


def clips_of(n_bytes: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(remote=None, has_frames=True, frames=np.zeros((n_bytes // 100, 10, 10, 1), np.uint8))]


@pytest.mark.parametrize(
    ("wanted", "room", "chosen"),
    [
        (Keep.AUTO, SIZE * 3, Keep.MEMORY),
        (Keep.AUTO, SIZE * 2, Keep.DISK),
        (Keep.MEMORY, 0, Keep.MEMORY),
        (Keep.DISK, SIZE * 100, Keep.DISK),
        (Keep.DEVICE, SIZE, Keep.MEMORY),  # the processor's memory is the memory
    ],
)
def test_frames_are_kept_where_there_is_room(monkeypatch, wanted: Keep, room: int, chosen: Keep) -> None:
    monkeypatch.setattr(keep, "free_memory", lambda: room)
    found, line = keep.choose(wanted, clips_of(SIZE), CPU)
    assert found is chosen
    assert "MiB unpacked" in line


@pytest.mark.parametrize(("free", "chosen"), [(SIZE * 3, Keep.DEVICE), (SIZE, Keep.MEMORY)])
def test_a_gpu_with_room_keeps_them(monkeypatch, free: int, chosen: Keep) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    assert keep.choose(Keep.AUTO, clips_of(SIZE), torch.device("cuda"))[0] is chosen


def test_kept_clips_give_the_same_batches(tmp_path: Path) -> None:
    clips = list(clip_cache.open(write_small_cache(tmp_path / "cache")))
    data = [load_clip(clip, make_merge(clip.class_names, "none"), 0.9) for clip in clips]
    kept = [keep.kept(clip, Keep.MEMORY, CPU) for clip in clips]
    windows = every_window([len(clip) for clip in clips], 25)
    pairs = zip(Stream(clips, data, windows, 3, CPU), Stream(kept, data, windows, 3, CPU), strict=True)
    for one, other in pairs:
        assert torch.equal(one.frames, other.frames)
    assert [clip.recording for clip in kept] == [clip.recording for clip in clips]
    assert kept[0].frames.shape == clips[0].frames.shape
    np.testing.assert_array_equal(kept[0].frames[3:5], clips[0].frames[3:5])


def test_a_clip_without_frames_stays_as_it_is() -> None:
    clip = SimpleNamespace(has_frames=False)
    assert keep.kept(clip, Keep.MEMORY, CPU) is clip
