"""The web demo in a headless browser, for its test and its screenshot."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

ROOT = pathlib.Path(__file__).resolve().parents[1]
_FLAGS = (
  "headless",
  "no-sandbox",
  "disable-gpu",
  "disable-quic",
  "disable-dev-shm-usage",
  "no-first-run",
  "disable-background-networking",
  "disable-component-update",
  "disable-sync",
  "force-color-profile=srgb",
  # No host but the server's is found.
  "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_SECONDS = 120  # that anything may take, on a machine that does more


class Page:
  """The page of the demo, as a visitor sees and uses it."""

  def __init__(self, driver: webdriver.Chrome, address: str) -> None:
    self.driver, self.address = driver, address
    driver.get(address)
    self.until(lambda: self.says("What it does").startswith("It "))

  def until(self, condition: Callable[[], Any]) -> Any:
    """Waits until a condition holds; its value."""
    wait = WebDriverWait(self.driver, _SECONDS, 0.1)
    return wait.until(lambda _: condition())

  def find(self, css: str) -> WebElement:
    """Waits for the first element that is shown."""

    def shown() -> WebElement | None:
      found = self.driver.find_elements(By.CSS_SELECTOR, css)
      return next((part for part in found if part.is_displayed()), None)

    return self.until(shown)

  def says(self, label: str) -> str:
    """What the text box of a label says."""
    path = f"//label[contains(., '{label}')]//textarea"
    return self.driver.find_element(By.XPATH, path).get_property("value")

  def press(self, button: str) -> None:
    """Presses a button by what is written on it."""
    path = f"//button[normalize-space()='{button}']"
    self.driver.find_element(By.XPATH, path).click()

  def choose(self, label: str, option: str) -> None:
    """Chooses an option of a list."""
    self.find(f"input[aria-label='{label}']").click()
    self.find(f"[role=option][aria-label='{option}']").click()

  def use(self, network: str, description: str) -> None:
    """Chooses a network, and waits for a part of what it does."""
    self.choose("Network", network)
    self.until(lambda: description in self.says("What it does"))

  def upload(self, path: pathlib.Path) -> None:
    """Gives a file, in the place of one that was given before."""
    for button in self.driver.find_elements(
      By.CSS_SELECTOR, "button[aria-label=Clear]"
    ):
      button.click()
    fields = self.until(
      lambda: self.driver.find_elements(By.CSS_SELECTOR, "input[type=file]")
    )
    fields[0].send_keys(str(path))
    self.find(f"a[download='{path.name}']")

  def restore(self) -> str:
    """Presses the button and waits; what is said of the result."""
    before = self.images()
    self.press("Restore")
    self.until(lambda: len(new := self.images()) == 2 and new != before)
    self.until(lambda: " px, " in self.says("Result"))
    return self.says("Result")

  def images(self) -> list[str]:
    """Addresses of the pictures in the slider: before, after."""
    css = "img[data-testid=imageslider-image]"
    found = self.driver.find_elements(By.CSS_SELECTOR, css)
    return [image.get_attribute("src") for image in found]

  def hosts(self) -> set[str]:
    """Hosts that anything was asked of since this was called last."""
    events = (
      json.loads(entry["message"])["message"]
      for entry in self.driver.get_log("performance")
    )
    urls = [
      urlsplit(event["params"]["request"]["url"])
      for event in events
      if event["method"] == "Network.requestWillBeSent"
    ]
    return {url.netloc for url in urls if url.scheme in ("http", "https")}


def missing() -> str | None:
  """What a machine lacks for the demo in a browser; None for nothing."""
  programs = [p for p in ("chromium", "chromedriver") if not shutil.which(p)]
  if programs:
    return f"no {' and no '.join(programs)}: apt-get install chromium-driver"
  return None


@contextlib.contextmanager
def open_page(
  checkpoints: Sequence[str],
  folder: pathlib.Path,
  *,
  size: tuple[int, int] = (1200, 900),
  environment: dict[str, str] | None = None,
) -> Iterator[Page]:
  """Serves the demo and opens it.

  Args:
    checkpoints: networks, beside the bundled ones.
    folder: empty, for the browser; downloads go into it.
    size: width and height of the window, px.
    environment: of the server, beside this process's.
  """
  with contextlib.ExitStack() as stack:
    address = stack.enter_context(_server(checkpoints, environment or {}))
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in _FLAGS:
      options.add_argument(f"--{flag}")
    options.add_argument(f"--window-size={size[0]},{size[1]}")
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    preferences = {"download.default_directory": str(folder)}
    options.add_experimental_option("prefs", preferences)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    stack.callback(driver.quit)
    yield Page(driver, address)


@contextlib.contextmanager
def _server(
  checkpoints: Sequence[str], environment: dict[str, str]
) -> Iterator[str]:
  """Runs `demo.py` on a free port; its address."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  command = [sys.executable, "demo.py", f"--port={port}"]
  command += [f"--checkpoint={name}" for name in checkpoints]
  server = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment)
  address = f"http://127.0.0.1:{port}/"
  try:
    deadline = time.monotonic() + _SECONDS
    while not _answers(address):
      if server.poll() is not None or time.monotonic() > deadline:
        raise RuntimeError(f"{' '.join(command)} does not serve")
      time.sleep(0.2)
    yield address
  finally:
    server.terminate()
    server.wait()


def _answers(address: str) -> bool:
  try:
    with urllib.request.urlopen(address, timeout=_SECONDS):
      return True
  except OSError:
    return False
