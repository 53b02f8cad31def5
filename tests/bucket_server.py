"""A server of buckets on the loopback, and what may go wrong on the way to it.

A proxy before the server of `benchmarks.local_bucket` fails, cuts connections
or is gone, as a test says.
"""

import contextlib
import http.client
import http.server
import json
import re
import socket
import threading
import types
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks import local_bucket

BUCKET = local_bucket.BUCKET

# What a fault does with a request: an HTTP status to answer with, or "cut",
# which takes half of what is sent and closes the connection; or it is called
# first and cuts then.
Fault = int | str | Callable[[], object]


class BucketServer:
  """Is a running server, reached through `url`.

  Attributes:
    url: of the proxy.
    port: of the true server.
    requests: methods and paths of what was asked.
    gone: whether the proxy closes every connection.
  """

  def __init__(self, url: str) -> None:
    self.url = url
    self.port = 0
    self.requests: list[tuple[str, str]] = []
    self.gone = False
    self._faults: list[list[Any]] = []
    self._lock = threading.Lock()

  def environment(self) -> dict[str, str]:
    """Returns the variables that lead every library here, not to Google."""
    return local_bucket.environment(self.url)

  def fail(self, pattern: str, fault: Fault, times: int = 1) -> None:
    """Lets the next requests fail whose "METHOD path body" match a pattern."""
    with self._lock:
      self._faults.append([re.compile(pattern), fault, times])

  def forgive(self) -> None:
    """Lets nothing fail any more."""
    with self._lock:
      self._faults.clear()

  def left(self) -> int:
    """Returns how many faults nothing has run into yet."""
    return sum(times for _, _, times in self._faults)

  def fault_for(self, method: str, path: str, begin: str) -> Fault | None:
    """Returns what goes wrong with a request, and counts it.

    Args:
      method: of the request.
      path: likewise.
      begin: of its body, which may name the object.
    """
    path = urllib.parse.unquote(path)
    with self._lock:
      self.requests.append((method, path))
      if self.gone:
        return "cut"
      for fault in self._faults:
        if fault[2] and fault[0].search(f"{method} {path} {begin}"):
          fault[2] -= 1
          return fault[1]
    return None


def _handler(server: BucketServer) -> type:
  """Makes the proxy's handler."""

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
      """Says nothing."""

    def _read(self, share: float = 1.0) -> bytes:
      if self.headers.get("Transfer-Encoding") != "chunked":
        size = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(int(share * size))
      parts = []
      while size := int(self.rfile.readline().split(b";")[0], 16):
        parts.append(self.rfile.read(size))
        self.rfile.readline()
      self.rfile.readline()
      return b"".join(parts)

    def _forward(self) -> None:
      begin = b""
      if int(self.headers.get("Content-Length") or 0):
        begin = self.rfile.peek(512)[:512]  # at least what has come
      text = begin.decode(errors="replace").replace("\n", " ")
      fault = server.fault_for(self.command, self.path, text)
      if callable(fault):
        fault()
      if fault == "cut" or callable(fault):
        self._read(0.5)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return
      body = self._read()
      if fault is not None:
        text = json.dumps({"error": {"code": fault, "message": "later"}})
        self._answer(int(fault), [], text.encode())
        return
      headers = {
        name: value
        for name, value in self.headers.items()
        if name.lower() not in ("transfer-encoding", "expect")
      }
      with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
      ) as true:
        true.request(self.command, self.path, body, headers)
        answer = true.getresponse()
        found = answer.status, answer.getheaders(), answer.read()
      self._answer(*found)

    def _answer(
      self, status: int, headers: list[tuple[str, str]], body: bytes
    ) -> None:
      self.send_response(status)
      for name, value in headers:
        if name.lower() not in (
          *("content-length", "transfer-encoding", "connection"),
          *("date", "server"),
        ):
          self.send_header(name, value)
      self.send_header("Content-Length", str(len(body)))
      self.end_headers()
      if self.command != "HEAD":
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _forward

  return Handler


@contextlib.contextmanager
def run_server() -> Iterator[BucketServer]:
  """Runs a server with one empty bucket, `BUCKET`."""
  pytest.importorskip(local_bucket.PACKAGE)
  server = BucketServer("")
  proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
  proxy.daemon_threads = True
  proxy.handle_error = lambda *_: None  # whoever asked is gone, or the server
  server.url = f"http://127.0.0.1:{proxy.server_address[1]}"
  threading.Thread(target=proxy.serve_forever, daemon=True).start()
  try:
    with local_bucket.run_server(server.url) as server.port:
      yield server
  finally:
    proxy.shutdown()
    proxy.server_close()


def do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
  """Lets gcsfs and TensorStore try again at once, TensorStore three times."""
  from semanir_jax.machine import buckets  # noqa: F401, I001  # says how, first
  from gcsfs import retry
  from orbax.checkpoint._src.serialization import tensorstore_utils

  async def sleep(_: float) -> None:
    """Does not wait."""

  monkeypatch.setattr(retry, "asyncio", types.SimpleNamespace(sleep=sleep))
  monkeypatch.setitem(
    tensorstore_utils._DEFAULT_OCDBT_TS_CONTEXT,
    "gcs_request_retries",
    {"max_retries": 3, "initial_delay": "10ms", "max_delay": "10ms"},
  )
