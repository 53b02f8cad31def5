"""What the command-line programs share: errors as one line, exit code 1."""

import difflib
import logging as python_logging
import os
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging

DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")
# Their progress notes drown ours; their warnings do not.
_QUIET_PACKAGES = tuple(
  f"/{name}/" for name in ("orbax", "grain", "jax", "jaxlib", "etils", "httpx")
)


def run(main: Callable[[], None]) -> None:
  """Runs a program; bad input ends it with one line and exit code 1.

  Args:
    main: takes nothing; raises ValueError or OSError for bad input.
  """

  def guarded(argv: list[str]) -> None:
    if len(argv) > 1:
      _exit(f"unexpected argument {argv[1]!r}; options start with --")
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(python_logging.Formatter("%(message)s"))
    handler.addFilter(_is_for_the_user)
    sys.unraisablehook = _unraisable
    try:
      main()
    except (ValueError, OSError) as error:
      if DEBUG.value:
        raise
      _exit(str(error))
    except KeyboardInterrupt:
      _exit("interrupted")

  app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
  """Parses flags and the config; a mistake in them is one line too.

  Shells leave `--output=~/restored` as it is; the folder `~` is not meant.
  """
  argv = [
    re.sub("=(~.*)", lambda m: f"={os.path.expanduser(m[1])}", argument)
    if re.match(r"--?[\w.]+=~(/|$)", argument)
    else argument
    for argument in argv
  ]
  try:
    return flags.FLAGS(argv)
  except (
    flags.Error,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
  ) as error:
    while error.args and isinstance(error.args[0], Exception):
      error = error.args[0]
    text = str(error.args[0] if error.args else error)
    # A traceback of a config file ends with the message of its error.
    if "Traceback" in text:
      text = text.strip().splitlines()[-1]
      text = re.sub(r"^[\w.]+(Error|Exception): ", "", text)
    elif re.fullmatch(r"'\w+'", text):  # a field that resembles none
      text += ": the config has no such field; configs/base.py has them all"
    _exit(" ".join(text.split()))


def _no_such_config(path: pathlib.Path) -> str:
  """Says which configs there are instead, the nearest name first."""
  known = sorted(other.stem for other in path.parent.glob("[!_]*.py"))
  near = difflib.get_close_matches(path.stem, known, n=1)
  hint = f"did you mean {near[0]}.py? " if near else ""
  there = ", ".join(known) or "none; is this the folder of the checkout?"
  return f"{path}: no such config; {hint}{path.parent} has {there}"


def _is_for_the_user(record: python_logging.LogRecord) -> bool:
  """Whether a log line is shown: ours, or a warning of anybody."""
  quiet = any(package in record.pathname for package in _QUIET_PACKAGES)
  if record.exc_info and (quiet or record.name == "asyncio"):
    # Of their threads, a dozen for one full disk; what matters is raised too.
    return DEBUG.value
  return record.levelno > python_logging.INFO or not quiet


def _unraisable(error: Any) -> None:
  """Reports what went wrong where nobody could be told.

  Left out is what orbax's threads leave behind by the hundred when a disk is
  full or a checkpoint is damaged; that is raised too.
  """
  left_behind = re.search(
    "^Event loop is closed$|while reading", str(error.exc_value)
  )
  if DEBUG.value or not left_behind:
    sys.__unraisablehook__(error)


def _exit(message: str) -> NoReturn:
  """Prints one line, of a list one for each of its items, and ends it all."""
  failed = re.search(r"Failed loading config file .*'(\S+)'", message, re.S)
  if failed:
    message = _no_such_config(pathlib.Path(failed[1]))
  items = (" ".join(item.split()) for item in message.split("\n  "))
  print("error: " + "\n  ".join(items), file=sys.stderr)
  sys.exit(1)
