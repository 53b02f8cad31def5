"""What the command-line programs share: errors as one line, exit code 1;
configs by path or by name; compiled code that is kept between runs.
"""

import difflib
import importlib.util
import logging as python_logging
import os
import pathlib
import re
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging

from semanir_jax import bundled

DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")
# Their progress notes drown ours; their warnings do not.
_QUIET_PACKAGES = tuple(
  f"/{name}/"
  for name in (
    *("orbax", "grain", "jax", "jaxlib", "etils", "httpx"),
    *("gcsfs", "fsspec", "aiohttp", "google"),
  )
)


# Of JAX, besides the folder; a user's own values win.
_CACHE = {
  # Its default, 1 s, is more than most parts of a network need.
  "jax_persistent_cache_min_compile_time_secs": 0.1,
  # What was not used for longest goes first. With a bound JAX locks the folder
  # too, so that programs that run at once do not read half an entry.
  "jax_compilation_cache_max_size": 2**30,
}


def define_config(
  help_text: str = (
    "Config and, behind a colon, its variants, as denoise.py:color,s25."
    " --config.FIELD=VALUE sets one field; configs/base.py explains all."
  ),
) -> flags.FlagHolder:
  """Defines the flag --config, and those of its fields, --config.FIELD.

  Its value is a file, or a bundled one by name: "denoise.py:color,s25" and
  "configs/denoise.py:color,s25" are found from every folder. The file may
  import those beside it and the bundled ones, `from configs import base`.
  """
  from ml_collections import config_flags

  holder = config_flags.DEFINE_config_file("config", None, help_text)
  # ml_collections' own parser takes paths alone.
  parser: Any = flags.FLAGS["config"].parser
  parser.parse = _read_config
  return holder


def run(main: Callable[[], None], *, keep_compiled: bool = True) -> None:
  """Runs a program; bad input ends it with one line and exit code 1.

  Args:
    main: takes nothing; raises ValueError or OSError for bad input. Its module
      has the flags and the text that --help shows.
    keep_compiled: for the next run; not for programs that time compiling or
      read what a compiler says.
  """
  _explain(main.__module__)
  if keep_compiled:
    _keep_compiled_code()

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
    if re.fullmatch(r"'\w+'", text):  # a field that resembles none
      text += ": the config has no such field; configs/base.py has them all"
    _exit(" ".join(text.split()))


def _explain(module: str) -> None:
  """Has --help show the text and the flags of the module that has `main`, which
  an entry point may have imported.
  """
  own = []
  if module != "__main__":
    sys.modules["__main__"].__doc__ = sys.modules[module].__doc__
    own = flags.FLAGS.get_key_flags_for_module(module)
  if "config" in flags.FLAGS:
    own.append(flags.FLAGS["config"])
  for flag in own:
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _read_config(text: str) -> Any:
  """Loads the config that a value of --config names.

  Raises:
    flags.Error: no such file, or it fails; not ValueError, which absl would
      put the whole flag in front of.
  """
  file, variants = _split(text)
  _make_importable(file.parent)
  spec = importlib.util.spec_from_file_location("the_config", file)
  assert spec is not None and spec.loader is not None  # it ends in .py
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module  # dataclasses look there
  try:
    spec.loader.exec_module(module)
    config = module.get_config(*([] if variants is None else [variants]))
  except Exception as error:
    # Ours say what they mean, as of an unknown variant.
    if type(error) is ValueError:
      raise flags.Error(str(error)) from error
    raise flags.Error(f"{file}: {type(error).__name__}: {error}") from error
  config.lock()
  return config


def _split(text: str) -> tuple[pathlib.Path, str | None]:
  """Splits a value of --config into the file and what is behind its colon."""
  # A drive letter has a colon of its own.
  found = re.fullmatch(
    r"((?:[A-Za-z]:(?=[\\/]))?[^:]*)(:?)(.*)", text, re.DOTALL
  )
  assert found is not None  # any text is of this form
  path, colon, variants = found.groups()
  return _find_config(pathlib.Path(path)), variants if colon else None


def _find_config(path: pathlib.Path) -> pathlib.Path:
  """Finds a config by its path, or a bundled one by its name.

  Raises:
    flags.Error: it is not there.
  """
  if path.is_file() and path.suffix == ".py":
    return path.resolve()
  folders, where = [path.parent], path.parent
  if path.parent in (pathlib.Path(), pathlib.Path("configs")):
    where = pathlib.Path("configs")
    folders = [where, bundled.folder("configs")]
  found = folders[-1] / path.name
  if found.is_file() and found.suffix == ".py":
    return found.resolve()
  known = sorted(
    {other.stem for folder in folders for other in folder.glob("[!_]*.py")}
  )
  near = difflib.get_close_matches(path.stem, known, n=1)
  hint = f"did you mean {near[0]}.py? " if near else ""
  there = ", ".join(known) or "none; ours are found from every folder"
  raise flags.Error(f"{path}: no such config; {hint}{where} has {there}")


def _make_importable(folder: pathlib.Path) -> None:
  """Lets `from configs import base` find what lies in a folder, then ours.

  Only these two are looked into: other projects have a package `configs` too.
  """
  package = sys.modules.setdefault("configs", types.ModuleType("configs"))
  package.__path__ = [str(folder), str(bundled.folder("configs"))]


def _keep_compiled_code() -> None:
  """Tells JAX to keep what it compiles in the user's cache folder.

  Machines of several kinds may share it: JAX tells their processors apart.
  JAX_COMPILATION_CACHE_DIR names another folder, and
  JAX_ENABLE_COMPILATION_CACHE=0 turns it off.
  """
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    try:
      folder = _cache_folder() / "semanir_jax" / "compiled"
      # Who can write there can have this program run his code.
      folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or none to write in
      return
    settings = {"jax_compilation_cache_dir": str(folder)} | _CACHE
    for name, value in settings.items():
      if name.upper() not in os.environ:
        os.environ[name.upper()] = str(value)
        # Which JAX has read already if it was imported.
        if "jax" in sys.modules:
          sys.modules["jax"].config.update(name, value)
  # An entry that cannot be read, as a killed program leaves it, is compiled
  # again; without a place to write to everything is.
  warnings.filterwarnings(
    "ignore", "Error (reading|writing) persistent compilation cache entry"
  )


def _cache_folder() -> pathlib.Path:
  """Where programs of this user keep what can be made again."""
  home = pathlib.Path.home()
  if sys.platform == "win32":
    return pathlib.Path(os.environ.get("LOCALAPPDATA", home / "AppData/Local"))
  if sys.platform == "darwin":
    return home / "Library" / "Caches"
  return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


def _is_for_the_user(record: python_logging.LogRecord) -> bool:
  """Says whether a log line is shown: ours, or a warning of anybody."""
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
  items = (" ".join(item.split()) for item in message.split("\n  "))
  print("error: " + "\n  ".join(items), file=sys.stderr)
  sys.exit(1)
