"""The page of the web demo, see `demo.py`; needs Gradio.

Nothing of it comes from another host: fonts and scripts lie in Gradio.
"""

import html
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import gradio as gr
import gradio.themes
import jax
from absl import logging

from semanir_jax.demo import service, wording
from semanir_jax.images import image_file
from semanir_jax.images.level_range import LevelRange
from semanir_jax.machine import files

_AS_IT_IS = "no, restore it as it is"
_TITLE = "SemanIR restores pictures"
_STEPS = (
  "Give a picture, choose the network for its fault, and press Restore. To test"
  " a network, give a clean picture and degrade it first: the result then has a"
  " PSNR."
)
_RESULTS = "results_"  # folders of them
_KEPT_S = 3600


def build(names: Sequence[str], folder: pathlib.Path) -> gr.Blocks:
  """Lays out the page and says what its parts do.

  Args:
    names: of networks, at least one; the first is chosen at the start.
    folder: existing, for results; of Gradio's cache, which may be shown.
  """

  def restore(
    path: str | None,
    network: str,
    k: int,
    degradation: str,
    value: int,
    *levels: int | None,
  ) -> list[Any]:
    if path is None:
      raise gr.Error("Upload an image first.", print_exception=False)
    _remove_old_results(folder)
    results = pathlib.Path(tempfile.mkdtemp(prefix=_RESULTS, dir=folder))
    try:
      outcome = service.restore(
        files.read_bytes(path),
        os.path.basename(path),
        network,
        num_keys=k,
        degradation=_options(network, degradation, value),
        folder=results,
        level_range=LevelRange(*levels),
      )
    except (ValueError, OSError) as error:
      # Where it lies here is nobody's business.
      raise _shown(str(error).replace(f"{folder}{os.sep}", "")) from error
    pair = (str(outcome.before), str(outcome.shown))
    download = gr.DownloadButton(value=str(outcome.after), interactive=True)
    return [pair, outcome.report, download]

  with gr.Blocks(
    title=_TITLE, analytics_enabled=False, delete_cache=(600, _KEPT_S)
  ) as page:
    gr.Markdown(f"## {_TITLE}\n{_STEPS}")
    with gr.Row():
      with gr.Column(scale=2, min_width=400):
        outputs = _result_fields()
      with gr.Column(scale=1, min_width=280):
        path = gr.File(
          label="Picture", file_types=list(image_file.SUFFIXES), type="filepath"
        )
        network = gr.Dropdown(list(names), value=names[0], label="Network")
        about = gr.Textbox(label="What it does", lines=3, interactive=False)
        degradation = gr.Dropdown(
          [_AS_IT_IS], label="Degrade the picture first?"
        )
        value = gr.Slider(1, 100, step=1, visible=False)
        button = gr.Button("Restore", variant="primary")
        k = gr.Slider(1, 2, step=1, label="k: tokens that a token attends to")
        levels = _level_fields()
    chosen = [about, k, degradation, value]
    # Of the start, and of a page that is loaded again.
    for event in (page.load, network.input):
      event(_choose, network, chosen, show_progress="hidden")
    degradation.input(_slider, [network, degradation], value)
    button.click(
      restore,
      [path, network, k, degradation, value, *levels],
      outputs,
    )
  return page


def launch(page: gr.Blocks, host: str, port: int) -> None:
  """Serves the page until it is interrupted; ValueError where it cannot be."""
  # The semi-bold that lies in Gradio is a fragment: its bold takes its place.
  font = gradio.themes.LocalFont("Source Sans Pro", weights=(400, 700))
  try:
    _, address, _ = page.launch(
      server_name=host,
      server_port=port,
      share=False,
      ssr_mode=False,
      prevent_thread_lock=True,
      quiet=True,
      footer_links=[],
      max_file_size="500mb",
      theme=gradio.themes.Default(font=(font, "sans-serif")),
    )
  except OSError as error:
    raise ValueError(
      f"cannot serve at {host}, port {port} ({str(error).split('. ')[0]});"
      " where another program does, choose another --port"
    ) from error
  logging.info("serving at %s; Ctrl-C ends it", address)
  page.block_thread()


def _result_fields() -> list[Any]:
  """Lays out where the result appears: pictures, report, and the file."""
  return [
    gr.ImageSlider(label="Before | after", interactive=False, max_height=560),
    gr.Textbox(label="Result", lines=2, interactive=False),
    gr.DownloadButton("Download PNG", interactive=False),
  ]


def _level_fields() -> list[gr.Number]:
  """Lays out where to say which integers of a file are black and white."""
  with gr.Accordion("10, 12 or 14 bits in a 16-bit file", open=False):
    return [
      gr.Number(value=None, precision=0, label=label)
      for label in ("Black level", "White level")
    ]


def _choose(network: str) -> list[Any]:
  """Returns what the page shows of a network: its parts `chosen`."""
  try:
    loaded = service.load_network(network)
  except (ValueError, OSError) as error:
    raise _shown(str(error)) from error
  choices = [(_AS_IT_IS, _AS_IT_IS)]
  choices += [
    (wording.name_action(name), name)
    for name in service.known_degradations(loaded)
  ]
  device = jax.devices()[0].device_kind
  return [
    f"{wording.describe_use(loaded)} Computed on: {device}.",
    gr.Slider(maximum=loaded.model.max_keys, value=loaded.model.num_keys),
    gr.Dropdown(choices, value=_AS_IT_IS),
    gr.Slider(visible=False),
  ]


def _slider(network: str, degradation: str) -> gr.Slider:
  """Makes a degradation's slider, hidden where there is nothing to choose."""
  options = _options(network, degradation)
  strength = None if options is None else service.strength(options)
  if strength is None:
    return gr.Slider(visible=False)
  return gr.Slider(
    strength.low,
    strength.high,
    value=strength.value,
    label=strength.label,
    visible=True,
  )


def _options(
  network: str, degradation: str, value: int | None = None
) -> dict[str, Any] | None:
  """Returns the chosen degradation's options, with its slider's value."""
  known = service.known_degradations(service.load_network(network))
  if degradation not in known:
    return None
  options = dict(known[degradation])
  strength = service.strength(options)
  if strength is not None and value is not None:
    options[strength.option] = value
  return options


def _remove_old_results(folder: pathlib.Path) -> None:
  """Gradio deletes its copies of results after an hour, this the originals."""
  for results in folder.glob(f"{_RESULTS}*"):
    if results.stat().st_mtime < time.time() - _KEPT_S:
      shutil.rmtree(results, ignore_errors=True)


def _shown(text: str) -> gr.Error:
  """Shows an error as one message of the page, until it is closed."""
  text = html.escape(text, quote=False)
  return gr.Error(text, duration=None, print_exception=False)
