"""A real S3 server on loopback (moto's), with what a network does to requests: it takes its time, and it breaks."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "mice"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "mice", "AWS_REGION": "us-east-1"}

Start = Callable[..., Any]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as those of a real server are

    def log(self, *_: object) -> None:
        pass


class S3Server:
    """Counts and spoils requests.

    requests: (method, key, range asked for) of all since `behave` was called. delay_s: before each is answered.
    spoil: of (number, method, key), what happens to a request: "503", "403", "drop" (no answer), "cut" (half of one),
    "done, then drop" (it is carried out, and not answered), or None.
    """

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.requests: list[tuple[str, str, str]] = []
        self.delay_s = 0.0
        self.spoil: Callable[[int, str, str], str | None] = lambda number, method, key: None
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": self.address}
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.client = boto3.client(
            "s3",
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="mice",
        )
        self.client.create_bucket(Bucket=BUCKET)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def behave(self) -> None:
        """Begin to count anew, and spoil nothing."""
        self.requests, self.delay_s, self.spoil = [], 0.0, lambda number, method, key: None

    def methods(self, key: str = "") -> Counter[str]:
        """How many requests of each kind there were for objects whose key matches."""
        return Counter(method for method, path, _ in self.requests if re.search(key, path))

    def objects(self, prefix: str) -> dict[str, bytes]:
        """All below a place, without counting."""
        before = list(self.requests)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        found = {key[len(prefix) + 1 :]: self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
        self.requests = before
        return found

    def put(self, prefix: str, files: dict[str, bytes]) -> None:
        """Objects below a place."""
        for name, content in files.items():
            self.client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=content)

    def _answer(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        method, key = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(f"/{BUCKET}").lstrip("/")
        if method == "GET" and "list-type" in environ["QUERY_STRING"]:
            method = "LIST"
        elif method == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
            method = "COPY"
        elif method == "POST" and "delete" in environ["QUERY_STRING"]:
            method = "DELETE"
        with self._lock:
            number = len(self.requests)
            self.requests.append((method, key, environ.get("HTTP_RANGE", "")))
        how = self.spoil(number, method, key)
        if self.delay_s:
            time.sleep(self.delay_s)
        if how in ("503", "403"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start({"503": "503 Slow Down", "403": "403 Forbidden"}[how], [("Content-Length", "0")])
            return [b""]
        if how == "drop":
            environ["werkzeug.socket"].shutdown(2)
            return [b""]
        body = b"".join(self._moto(environ, start))
        if how == "cut":
            return _half(body, environ)
        if how == "done, then drop":
            environ["werkzeug.socket"].shutdown(2)
        return [body]


def _half(body: bytes, environ: dict[str, Any]) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    environ["werkzeug.socket"].shutdown(2)
