"""How a recording gets into an object store, and out of it again.

There nothing can be renamed. So all of a recording is put under a name that nothing has had, the group's zarr.json
last: it makes the recording whole, and is the first to go when it is deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from cache.remote import AT_ONCE, Remote

LAST = "zarr.json"
_ALIVE_S = 1.0


def upload(folder: Path, target: Remote, frames: Remote | None, alive: Callable[[], object]) -> None:
    """All files of a finished recording. alive: called every second or so.

    frames: the array in the store whose objects are to be its frames; the store copies them.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / LAST]
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload")
    try:
        waiting = {pool.submit(_put, target.joinpath(*path.relative_to(folder).parts), path) for path in files}
        if frames is not None:
            copies = target / frames.name
            waiting |= {pool.submit((copies / each.name).copy_of, frames / each.name) for each in frames.objects()}
        while waiting:
            done, waiting = wait(waiting, timeout=_ALIVE_S)
            for future in done:
                future.result()
            alive()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    _put(target / LAST, folder / LAST)


def _put(target: Remote, path: Path) -> None:
    target.write_bytes(path.read_bytes())


def discard(recording: Remote) -> None:
    """Delete all objects of a recording."""
    (recording / LAST).delete()
    recording.delete_below([each.name for each in recording.objects() if each.name != LAST])
