"""What the web demo does, without the page."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import semanir_jax
from configs import all_in_one, base, deblur, demosaic, denoise, photo, sr
from semanir_jax import degradations
from semanir_jax.degradations import bayer
from semanir_jax.demo import service, wording
from semanir_jax.evaluation import measures, metrics
from semanir_jax.images import image_file
from semanir_jax.images.level_range import LevelRange
from semanir_jax.inference.restorer import Restorer
from semanir_jax.networks import load, safetensors_file
from semanir_jax.networks.build import CheckpointError, make_model
from semanir_jax.networks.loaded_network import LoadedNetwork
from tests import png_files, small

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
NETWORKS = {
  "color": {},
  "gray": {"model__in_channels": 1, "model__out_channels": 1},
  "x2": {
    "model__architecture": "columnar",
    "model__scale": 2,
    "model__depths": (1,),
  },
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, str]:
  """Files of small networks."""
  folder = tmp_path_factory.mktemp("networks")
  return {
    name: str(small.write_network(folder / f"{name}.safetensors", **changes))
    for name, changes in NETWORKS.items()
  }


def _picture(path: pathlib.Path, *shape: int, dtype=np.uint8) -> np.ndarray:
  """Writes random pixels and returns them."""
  top = np.iinfo(dtype).max
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, top, shape, dtype, endpoint=True)
  image_file.write_image(path, pixels)
  return pixels


def _restored(
  path: pathlib.Path, network: str, degradation=None
) -> tuple[np.ndarray, np.ndarray, str]:
  """Before, after and report of a picture."""
  outcome = service.restore(
    path.read_bytes(),
    path.name,
    network,
    num_keys=8,
    degradation=degradation,
    folder=path.parent,
  )
  before, after = map(image_file.read_image, (outcome.before, outcome.after))
  return before, after, outcome.report


def test_given_networks_come_first_then_that_for_photographs(
  networks, tmp_path, monkeypatch
):
  monkeypatch.setattr(load, "PRETRAINED", tmp_path)
  for name in ("b", "photo_light", "a"):
    (tmp_path / f"{name}{safetensors_file.SUFFIX}").touch()
  given = [networks["x2"], networks["x2"]]
  bundled = ["photo_light", "a", "b"]
  assert service.list_networks(given) == [networks["x2"], *bundled]


def test_a_long_name_is_cut_in_the_names_of_results(networks, tmp_path):
  _picture(tmp_path / "a.png", 8, 8, 3)
  outcome = service.restore(
    (tmp_path / "a.png").read_bytes(),
    "x" * 251 + ".png",
    networks["color"],
    num_keys=8,
    degradation=None,
    folder=tmp_path,
  )
  assert outcome.after.name == "x" * 100 + "_restored.png"
  assert outcome.after.exists()


def test_results_of_visitors_are_removed_after_an_hour(tmp_path):
  pytest.importorskip("gradio")
  from semanir_jax.demo import page

  for name, hours in {"results_old": 2, "results_new": 0, "upload": 2}.items():
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.png").touch()
    then = time.time() - 3600 * hours
    os.utime(tmp_path / name, (then, then))
  page._remove_old_results(tmp_path)
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {"results_new", "upload"}


def test_a_demo_without_networks_says_what_to_give(tmp_path, monkeypatch):
  monkeypatch.setattr(load, "PRETRAINED", tmp_path / "absent")
  with pytest.raises(ValueError, match="absent holds none; .* --checkpoint"):
    service.list_networks([])
  with pytest.raises(CheckpointError, match="no checkpoint in .*nowhere"):
    service.list_networks([str(tmp_path / "nowhere")])


def test_without_gradio_the_program_says_what_to_install(networks):
  code = (
    "import runpy, sys; sys.modules['gradio'] = None;"
    f" sys.argv = ['demo.py', '--checkpoint={networks['color']}'];"
    " runpy.run_path('demo.py', run_name='__main__')"
  )
  ended = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
  )
  assert ended.returncode == 1
  assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
  assert "the demo needs: pip install gradio" in ended.stderr


def test_a_port_that_is_taken_is_told(networks):
  with socket.socket() as other:
    other.bind(("127.0.0.1", 0))
    other.listen()
    port = other.getsockname()[1]
    command = ["demo.py", f"--checkpoint={networks['color']}", f"--port={port}"]
    ended = subprocess.run(
      [sys.executable, *command], cwd=ROOT, capture_output=True, text=True
    )
  assert ended.returncode == 1
  assert (
    f"error: cannot serve at 127.0.0.1, port {port} (Cannot find empty"
    in ended.stderr
  )
  assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
  ("config", "known"),
  [
    (base.get_config(), {"noise": ("sigma_255", 25)}),
    (sr.get_config("x4"), {"bicubic": None}),
    (deblur.get_config(), {}),
    (
      all_in_one.get_config(),
      {"noise": ("sigma_255", 25), "jpeg": ("quality", 25), "demosaic": None},
    ),
  ],
  ids=["noise", "sr", "pairs", "mixture"],
)
def test_a_network_knows_the_degradations_of_its_training(config, known):
  found = service.known_degradations(
    LoadedNetwork(small.USHAPE, {}, json.loads(config.to_json()))
  )
  assert set(found) == set(known)
  for name, options in found.items():
    choice = service.strength(options)
    assert (choice and (choice.option, choice.value)) == known[name]
    for value in (choice.low, choice.high) if choice else ():
      degradations.make(**dict(options) | {choice.option: value})


@pytest.mark.parametrize(
  ("config", "words"),
  [
    (
      base.get_config(),
      "It removes noise of sigma 0 to 50 (of 255), as benchmarks add it: not"
      " clipped. It takes colour pictures. The result has the size of the"
      " picture.",
    ),
    (
      denoise.get_config("gray,s25,stored"),
      "It removes noise of sigma 25 (of 255), as 8-bit files hold it. It takes"
      " gray pictures. The result has the size of the picture.",
    ),
    (
      sr.get_config("x4"),
      "It enlarges pictures that bicubic interpolation made smaller. It takes"
      " colour pictures. The result is 4 times as wide and high.",
    ),
    (
      photo.get_config(),
      "It removes sensor noise and JPEG artifacts from photographs. It takes"
      " colour and gray pictures. The result has the size of the picture.",
    ),
    (
      demosaic.get_config(),
      "It makes a colour picture from a sensor's RGGB mosaic, which is a gray"
      " file. The result has the size of the picture.",
    ),
    (
      deblur.get_config("synthetic"),
      "It removes motion blur. It keeps clean pictures as they are. It takes"
      " colour pictures. The result has the size of the picture.",
    ),
    (
      deblur.get_config(),
      "It learned from pairs of degraded and clean pictures. It takes colour"
      " pictures. The result has the size of the picture.",
    ),
  ],
  ids=["noise", "files", "sr", "photo", "mosaic", "blur", "pairs"],
)
def test_a_visitor_reads_what_a_network_is_for(config, words):
  config = json.loads(config.to_json())
  model = make_model(config["model"])
  network = LoadedNetwork(model, {}, config)
  assert wording.describe_use(network) == words


def test_every_degradation_of_a_config_has_words():
  config = json.loads(all_in_one.get_config("outdoor").to_json())
  known = service.known_degradations(LoadedNetwork(small.USHAPE, {}, config))
  assert len(known) > 6
  for name in known:
    assert wording.name_action(name) != name


def test_16_bits_and_alpha_are_kept(networks, tmp_path):
  pixels = _picture(tmp_path / "a.png", 8, 12, 4, dtype=np.uint16)
  outcome = service.restore(
    (tmp_path / "a.png").read_bytes(),
    "a.png",
    networks["color"],
    num_keys=8,
    degradation=None,
    folder=tmp_path,
  )
  assert outcome.after == tmp_path / "a_restored.png"
  assert outcome.report.startswith("12x8 px, 16 bits, in ")
  colours, alpha = png_files.read_image_and_alpha(outcome.after)
  expected = semanir_jax.load(networks["color"])(pixels[..., :3])
  np.testing.assert_array_equal(colours, expected)
  np.testing.assert_array_equal(alpha, pixels[..., 3:])


def test_a_sensors_image_is_shown_filled_in_and_restored(tmp_path):
  network = str(
    small.write_network(
      tmp_path / "net.safetensors", degradation={"name": "demosaic"}
    )
  )
  sensor = _picture(tmp_path / "a.png", 8, 12, 1)
  before, after, report = _restored(tmp_path / "a.png", network)
  filled = bayer.fill_in(sensor[..., 0])
  np.testing.assert_array_equal(before, metrics.to_uint8(filled))
  np.testing.assert_array_equal(after, semanir_jax.load(network)(sensor))
  assert report.startswith("12x8 px, 8 bits") and "equals" not in report


def test_k_is_that_of_the_visitor(networks, tmp_path):
  _picture(tmp_path / "a.png", 8, 12, 3)
  results = []
  for k in (1, 16):
    outcome = service.restore(
      (tmp_path / "a.png").read_bytes(),
      "a.png",
      networks["color"],
      num_keys=k,
      degradation=None,
      folder=tmp_path,
    )
    results.append(image_file.read_image(outcome.after))
  assert (results[0] != results[1]).any()


def test_super_resolution_shows_the_input_enlarged(networks, tmp_path):
  pixels = _picture(tmp_path / "a.png", 8, 12, 3)
  before, after, _ = _restored(tmp_path / "a.png", networks["x2"])
  expected = semanir_jax.load(networks["x2"])(pixels)
  np.testing.assert_array_equal(after, expected)
  enlarged = measures.as_output(pixels / np.float32(255), 2)
  np.testing.assert_array_equal(before, enlarged)


def test_a_picture_shrunk_first_is_compared_with_itself(networks, tmp_path):
  pixels = _picture(tmp_path / "a.png", 17, 25, 3)
  shrink = {"name": "bicubic", "scale": 2}
  before, after, report = _restored(tmp_path / "a.png", networks["x2"], shrink)
  clean = pixels[:16, :24]
  small_pixels = degradations.make(**shrink)(np.random.RandomState(0), clean)[0]
  expected = semanir_jax.load(networks["x2"])(small_pixels)
  np.testing.assert_array_equal(after, metrics.to_uint8(expected))
  values = [metrics.psnr(image, clean) for image in (before, after)]
  assert "PSNR {:.2f} dB before, {:.2f} dB after".format(*values) in report


def test_noise_is_added_to_8_bits_of_the_networks_channels(networks, tmp_path):
  pixels = _picture(tmp_path / "a.png", 8, 12, 1, dtype=np.uint16)
  noise = {"name": "noise", "sigma_255": 40}
  before, after, report = _restored(
    tmp_path / "a.png", networks["color"], noise
  )
  assert before.shape == after.shape == (8, 12, 3)
  assert "\n12x8 px, 8 bits" in report
  clean = np.repeat(np.rint(pixels / 257.0), 3, axis=2).astype(np.uint8)
  lq, _ = degradations.make(**noise)(np.random.RandomState(0), clean)
  np.testing.assert_array_equal(before, metrics.to_uint8(lq))


def test_an_unchanged_picture_is_told(networks, tmp_path, monkeypatch):
  _picture(tmp_path / "a.png", 8, 12, 3)
  assert "equals" not in _restored(tmp_path / "a.png", networks["color"])[2]
  monkeypatch.setattr(Restorer, "__call__", lambda self, images, **_: images)
  report = _restored(tmp_path / "a.png", networks["color"])[2]
  assert "The result equals the input: is the network for" in report


@pytest.mark.parametrize(
  ("network", "shape", "degradation", "message"),
  [
    ("gray", (8, 8, 3), None, "^a.png: is a colour image, but the network is"),
    ("color", (8, 8, 4), {"name": "demosaic"}, "^a.png: has transparent pix"),
    (
      "color",
      (30, 40, 3),
      None,
      "^a.png: 40x30 px are more than .* restore.py",
    ),
    ("x2", (20, 15, 3), None, "^a.png: 15x20 px, x2 in the result are more"),
  ],
)
def test_a_picture_that_does_not_fit_is_refused(
  networks, tmp_path, monkeypatch, network, shape, degradation, message
):
  monkeypatch.setattr(service, "MOST_PX", 1_199)
  _picture(tmp_path / "a.png", *shape)
  with pytest.raises(image_file.ImageError, match=message):
    _restored(tmp_path / "a.png", networks[network], degradation)
  assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]


def test_a_huge_picture_is_refused_by_its_header(
  networks, tmp_path, monkeypatch
):
  monkeypatch.setattr(service, "MOST_PX", 1_000)
  _picture(tmp_path / "a.png", 100, 100, 3)
  header = (tmp_path / "a.png").read_bytes()[:100]
  (tmp_path / "a.png").write_bytes(header)
  with pytest.raises(image_file.ImageError, match="100x100 px are more than"):
    _restored(tmp_path / "a.png", networks["color"])


def test_the_levels_of_a_file_are_asked_for_and_kept(networks, tmp_path):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 1023, (8, 12, 3), np.uint16, endpoint=True)
  pixels[0, 0, 0] = 1023
  image_file.write_image(tmp_path / "a.png", pixels)
  *_, report = _restored(tmp_path / "a.png", networks["color"])
  assert "\nNo value of its 16 bits needs more than 10 bits" in report
  assert "give White level=1023." in report
  outcome = service.restore(
    (tmp_path / "a.png").read_bytes(),
    "a.png",
    networks["color"],
    num_keys=8,
    degradation=None,
    folder=tmp_path,
    level_range=LevelRange(white=1023),
  )
  assert "White level" not in outcome.report
  before, after, shown = map(
    image_file.read_image, (outcome.before, outcome.after, outcome.shown)
  )
  network = semanir_jax.load(networks["color"])
  np.testing.assert_array_equal(after, network(pixels, white_level=1023))
  assert after.dtype == np.uint16 and shown.dtype == np.uint8
  assert np.abs(shown - after / 1023 * 255).max() <= 0.51
  assert np.abs(before - pixels / 1023 * 255).max() <= 0.51


def test_what_the_network_never_saw_is_in_the_report(networks, tmp_path):
  _picture(tmp_path / "a.jpg", 8, 12, 3)
  outcome = service.restore(
    (tmp_path / "a.jpg").read_bytes(),
    "a.jpg",
    networks["color"],
    num_keys=8,
    degradation=None,
    folder=tmp_path,
  )
  assert "\nIt is a JPEG, and this network never saw" in outcome.report
  noise = {"name": "noise", "sigma_255": 40}
  *_, report = _restored(tmp_path / "a.jpg", networks["color"], noise)
  assert "It is" not in report
