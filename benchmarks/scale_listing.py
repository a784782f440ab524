"""How many objects a cache is in an object store, and how long listing them takes; prints Markdown tables.

    python benchmarks/scale_listing.py WORK_FOLDER [--objects 1000000] [--keys 10000]

The objects of a recording are counted in real caches. A store in memory holds so many --objects, and a server of S3
on this machine (moto's) so many --keys. Needs the extra s3, and moto[server].
"""

from __future__ import annotations

import argparse
import logging
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import measure
import obstore
from moto.server import ThreadedMotoServer
from obstore.store import MemoryStore, ObjectStore, S3Store
from scale_lab import Lab

from cache import index

PAGE = 1000  # keys of one answer of S3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--keys", type=int, default=10_000)
    options = parser.parse_args()
    print(measure.machine())
    lab = Lab(options.work / "scale", options.objects, options.trials)
    lab.render()
    names = objects(lab)
    rows = [["in memory", *listed(MemoryStore(), lab, names, -(-options.objects // len(names)))]]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it says each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        rows.append(["moto's server", *listed(bucket(server), lab, names, -(-options.keys // len(names)))])
    finally:
        server.stop()
    title = f"Listing a store, in s; ms a page are of {PAGE:,} names"
    measure.table(title, ["store", "objects", "all", "ms a page", "recordings alone", "ms a page"], rows)


def objects(lab: Lab) -> list[str]:
    """The names in the folder of a recording of so many trials; prints how many of them are what."""
    (meta, folder), *_ = lab.real()
    path = lab.work / "real" / "cache" / index.RECORDINGS / folder
    names = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    folders = sum(each.is_dir() for each in (path, *path.rglob("*")))
    kinds = Counter("zarr.json" if name.endswith("zarr.json") else name.split("/")[0] for name in names)
    text = ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items()))
    header = ["trials", "frames", "objects", "of these", "inodes: objects and folders"]
    rows = [[len(meta.clips), meta.n_frames, len(names), text, len(names) + folders]]
    measure.table("Objects of a recording", header, rows)
    return names


def bucket(server: ThreadedMotoServer) -> S3Store:
    """An empty bucket there."""
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/scale", method="PUT")).close()
    return S3Store(
        "scale", endpoint=address, access_key_id="x", secret_access_key="x", region="us-east-1",
        virtual_hosted_style_request=False, client_options={"allow_http": True},
    )  # fmt: skip


def listed(store: ObjectStore, lab: Lab, names: list[str], n: int) -> list[str]:
    """Cells: how many objects, and what listing takes of all and of the folders of recordings."""
    recordings = [f"{index.RECORDINGS}/{lab.folder_of(name)}" for name, _ in zip(lab.names(), range(n), strict=False)]
    for recording in recordings:
        for name in names:
            obstore.put(store, f"{recording}/{name}", b"")
    found, all_s = seconds(lambda: sum(len(page) for page in obstore.list(store)))
    assert found == n * len(names)
    folders, folders_s = seconds(
        lambda: len(obstore.list_with_delimiter(store, f"{index.RECORDINGS}/")["common_prefixes"])
    )
    assert folders == n
    return [
        f"{found:,}",
        *(f"{all_s:.2f}", f"{all_s / found * PAGE * 1000:.0f}"),
        *(f"{folders_s:.2f}", f"{folders_s / folders * PAGE * 1000:.0f}"),
    ]


def seconds(work: Callable[[], int]) -> tuple[int, float]:
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


if __name__ == "__main__":
    main()
