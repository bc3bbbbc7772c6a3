"""As much of S3 as Litestream needs, in memory; each upload takes as long as one is told."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@contextmanager
def slow_s3(upload_s: float) -> Iterator[str]:
    """Serve a bucket; yield its endpoint. A PUT is answered after `upload_s` seconds."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "aws-chunked" in self.headers.get("Content-Encoding", ""):
                body = _without_chunks(body)
            time.sleep(upload_s)
            objects[self._key()] = body
            self._answer(b"", ETag='"1"')

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            if "list-type" in query:
                self._list(query.get("prefix", [""])[0])
            elif self._key() in objects:
                self._answer(objects[self._key()], ETag='"1"')
            else:
                self._answer(b"<Error><Code>NoSuchKey</Code></Error>", 404)

        def do_POST(self) -> None:  # DeleteObjects: nothing is deleted
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(b"<DeleteResult/>")

        def _list(self, prefix: str) -> None:
            bucket = self._key().split("/")[0]
            names = sorted(name for name in objects if name.startswith(f"{bucket}/{prefix}"))
            contents = "".join(
                f"<Contents><Key>{escape(name.removeprefix(bucket + '/'))}</Key>"
                f"<Size>{len(objects[name])}</Size>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                for name in names
            )
            answer = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}"
            self._answer(f"{answer}</ListBucketResult>".encode())

        def _key(self) -> str:
            return unquote(urlsplit(self.path).path).lstrip("/")

        def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _without_chunks(body: bytes) -> bytes:
    """Return the content of a body that is signed in chunks (Signature Version 4, streaming)."""
    content, at = b"", 0
    while at < len(body):
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        if not size:
            break
        content += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return content
