"""Explains every field of a config, with its default, its unit and its meaning.

The other files change the fields that their task needs. The command line
changes single fields: --config.train.batch_size=4. No other fields exist.

  python train.py --config=configs/base.py --workdir=runs/base
"""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs._benchmarks import BENCHMARKS
from configs._smoke import SMOKE
from semanir_jax.models.sizes import SIZES, default_options


def get_config(arg: str = "") -> Any:
  """Builds the defaults: blind colour denoising of our wheels' photographs.

  Args:
    arg: variants, see `apply_variants`.

  Returns:
    A locked ConfigDict. Its annotation is Any, because a type checker does not
    know the fields of a ConfigDict.
  """
  config: Any = ConfigDict()
  config.seed = 0  # of parameters, data order, degradations, drop path
  config.init_from = ""  # workdir, step, file or bundled name to start from
  # Folder or bucket for compiled code; "" for the cache folder of the user.
  config.compilation_cache_dir = ""

  # See semanir_jax/models: semanir.py, execution.py and, for `dictionary`,
  # `similarity` and `shift`, ablations.py.
  config.model = model_options("U_light")

  config.data = ConfigDict()
  config.data.data_dir = ""  # folder that relative sources are looked up in
  config.data.train = ("photographs:train",)  # see data.sources.open_source
  config.data.channels = 3  # 1 gray, 3 RGB
  config.data.gray = ""  # colour files as gray by "y" or "rgb2gray"; "" refuses
  config.data.on_bad_image = "fail"  # or "skip": leave bad files out, list them
  config.data.recursive = False  # look into subfolders of training folders too
  config.data.patch_size = 64  # px, side of a clean (high-quality) patch
  config.data.shrink = (1.0, 1.0)  # factors that clean images are shrunk by
  config.data.saturation = (1.0, 1.0)  # factors that strengthen their colours
  config.data.dither = 0  # levels that whole numbers added to images span
  config.data.graphics = 0.0  # share of images replaced by drawn graphics
  config.data.degradation = noise(0.0, 50.0)  # {} for pairs as they are
  config.data.num_workers = 0  # processes that prepare data; 0 for threads only
  config.data.num_threads = 2  # threads that prepare data, per process
  config.data.cache_gib = 2.0  # GiB of decoded images kept in memory

  config.train = ConfigDict()
  config.train.batch_size = 8  # patches per step, over all devices
  config.train.accumulate = 1  # parts a batch is computed in, to save memory
  # ((steps, patch_size, batch_size), ...), first those of the fields; or ().
  config.train.progressive = ()
  config.train.num_steps = 100_000
  config.train.max_skipped = 100  # non-finite updates in a row that end the run
  config.train.ema_decay = 0.999  # of averaged parameters, at most; 0 for none
  config.train.random_num_keys = ()  # draw k of these per step; () keeps one k

  config.loss = ConfigDict()
  config.loss.name = "charbonnier"  # or "l1", "l2"
  config.loss.form = "squared"  # Charbonnier's d^2 + eps^2; "added": d^2 + eps
  config.loss.epsilon = 1e-3  # eps of Charbonnier
  config.loss.fft_weight = 0.0  # of the L1 of Fourier coefficients besides

  config.optimizer = ConfigDict()
  config.optimizer.name = "adamw"  # or "muon"
  config.optimizer.momentum = 0.95  # muon: of the kernels
  config.optimizer.beta1 = 0.9
  config.optimizer.beta2 = 0.999
  config.optimizer.epsilon = 1e-8
  config.optimizer.weight_decay = 1e-4  # AdamW; 0 for Adam
  config.optimizer.grad_clip_norm = 0.0  # largest global norm; 0 for any

  config.schedule = ConfigDict()
  config.schedule.name = "multistep"  # or "cosine"
  config.schedule.peak = 2e-4  # learning rate after the warm-up
  config.schedule.warmup_steps = 0  # steps of linear growth
  config.schedule.milestones = (50_000, 80_000, 90_000, 95_000)  # multistep
  config.schedule.factor = 0.5  # multistep: at each milestone
  config.schedule.hold_steps = 0  # cosine: steps at the peak before it falls
  config.schedule.final = 1e-6  # cosine: learning rate at the last step

  config.mesh = ConfigDict()
  config.mesh.data = -1  # devices that split the batch; -1 for the rest
  config.mesh.fsdp = 1  # devices that split the parameters too
  config.mesh.slices = 1  # TPU slices, each of data x fsdp devices
  config.mesh.rules = ((".*", "fsdp"),)  # (path regex, "fsdp" or "replicate")

  config.eval = ConfigDict()
  config.eval.every_steps = 5_000  # 0 for no validation while training
  config.eval.max_images = 0  # per set; 0 for all
  config.eval.batch_size = 1  # images restored at a time, per device
  config.eval.num_pictures = 2  # per set, before | after | truth
  config.eval.sets = {"photographs": test_set("photographs:test", noise(25.0))}
  config.eval.protocol = ConfigDict()
  config.eval.protocol.channel = "rgb"  # "y" (float), "y_rounded"
  config.eval.protocol.crop_px = 0  # border left out; the scale in SR
  config.eval.protocol.ssim = "valid"  # "zero_pad" (GRL), "3d" (deblurring)
  config.eval.protocol.psnr_b = False  # PSNR-B too (JPEG)
  config.eval.protocol.also = ()  # more columns: "psnr_float", "ssim_3d_y"

  config.checkpoint = ConfigDict()
  config.checkpoint.every_steps = 5_000  # 0: at the end and at SIGTERM only
  config.checkpoint.keep = 3  # newest checkpoints that stay
  config.checkpoint.keep_best = 1  # best by mean PSNR over the sets, besides

  config.log = ConfigDict({"every_steps": 100})  # 0 for no reports
  config.log.tracker = ""  # or "wandb", "mlflow", beside TensorBoard
  return apply_variants(config, arg, {})


def model_options(size: str, **changes: Any) -> ConfigDict:
  """Returns `config.model` of a named size, every field of it."""
  unset = {"implementation": placeholder(str), "platform": placeholder(str)}
  options = default_options() | unset | dict(SIZES[size]) | changes
  return ConfigDict(options)


def choose(arg: str, *words: str) -> str:
  """Returns the one of `words` in `arg`, the first where none is there.

  Raises:
    ValueError: two of them are there.
  """
  given = [word for word in arg.split(",") if word in words]
  if len(given) > 1:
    raise ValueError(f"{' and '.join(given)} exclude each other; give one")
  return given[0] if given else words[0]


def noise(
  low: float,
  high: float | None = None,
  *,
  channel_order: str = "rgb",
  stored: bool = False,
  rounding: str = "nearest",
) -> ConfigDict:
  """Describes white Gaussian noise.

  Args:
    low: sigma, of 255.
    high: where it is drawn between the two; None for `low` alone.
    channel_order: "rgb" or "bgr", in which the numbers are drawn.
    stored: whether the noisy image is clipped and rounded, as a file holds it.
    rounding: of stored images, "nearest" or "down".
  """
  sigma_255 = (low, low if high is None else high)
  options = {"sigma_255": sigma_255, "channel_order": channel_order}
  if stored:  # or an older run's scores would be of another measure
    options["stored"] = 1.0  # share of the images
  if rounding != "nearest":
    options["rounding"] = rounding
  return ConfigDict({"name": "noise"} | options)


def jpeg(low: int, high: int) -> ConfigDict:
  """Describes JPEG of a quality from `low` to `high`, colour with 4:2:0."""
  return ConfigDict({"name": "jpeg", "quality": (low, high)})


def benchmark(name: str, degradation: Any, **options: Any) -> ConfigDict:
  """Describes a set of the literature where docs/data.md puts it.

  Arguments as of `test_set`.
  """
  source, num_images = BENCHMARKS[name]
  return test_set(source, degradation, num_images=num_images, **options)


def samples(name: str, **options: Any) -> ConfigDict:
  """Describes a few real pairs, which no training chooses its best step by.

  Arguments as of `test_set`.
  """
  return benchmark(name, {}, validate=False, **options)


def photos_val(degradation: Any) -> ConfigDict:
  """Describes the middles of `photos/val`, 256 px, of one degradation."""
  return test_set("photos/val", degradation, num_images=24, center_crop_px=256)


def train_on_photographs(config: Any) -> None:
  """Has a config train on clean photographs: ours and those of BSDS500."""
  config.data.train = ("photos/train", "bsds500/train", "bsds500/test")
  # The levels of photos/train were rounded to multiples of 3.
  config.data.dither = 1


def test_set(
  source: str,
  degradation: Any,
  *,
  channels: int = 3,
  gray: str = "",
  center_crop_px: int = 0,
  crop_multiple: int = 1,
  sides_px: tuple[int, ...] = (),
  resize: str = "",
  num_images: int = 0,
  published: float = 0.0,
  published_ssim: float = 0.0,
  validate: bool = True,
) -> ConfigDict:
  """Describes a test set, for `config.eval.sets`.

  Args:
    source: see `data.sources.open_source`; relative to the data folder.
    degradation: as `config.data.degradation`; {} for pairs as they are.
    channels: 1 gray, 3 RGB.
    gray: how colour files become gray, "y" or "rgb2gray".
    center_crop_px: side of the centre that is degraded; 0 for all.
    crop_multiple: sides are cropped to multiples of it, px, and degraded.
    sides_px: (shorter, longer) side that every image must have; () for any.
    resize: "all_weather" for the rule of that benchmark, for pairs.
    num_images: that the set must have; 0 for any number.
    published: PSNR in dB of SemanIR's authors, shown beside ours where the
      set has `num_images`; 0 for none.
    published_ssim: their SSIM, where it is of the protocol's variant.
    validate: while training too; False keeps a test set out of what chooses the
      best checkpoint, eval.py measures it all the same.
  """
  # A copy: an option for one set on the command line must not reach another.
  degradation = ConfigDict(degradation)
  return ConfigDict(locals())  # one field for each argument


def apply_variants(
  config: Any, arg: str, variants: Mapping[str, Mapping[str, Any]]
) -> ConfigDict:
  """Applies the comma-separated words behind the colon of --config.

  Args:
    config: changed in place, and locked.
    arg: as "color,s25,smoke"; every config also knows "random_k", the paper's
      training with many k, and "smoke", applied last: a minute on a CPU, with
      photographs that need no download.
    variants: what each word sets, by dotted field name.

  Raises:
    ValueError: an unknown word; the nearest known one is named.
  """
  known = {"random_k": {}, "smoke": SMOKE} | dict(variants)
  words = sorted(filter(None, arg.split(",")), key=lambda word: word == "smoke")
  for word in words:
    if word not in known:
      near = difflib.get_close_matches(word, known, n=1)
      hint = f"did you mean {near[0]!r}" if near else "known"
      raise ValueError(f"unknown variant {word!r}: {hint} ({', '.join(known)})")
    config.update_from_flattened_dict(known[word])
  if "smoke" in words and config.data.degradation:  # pairs have to be there
    config.data.train = ("photographs:train",)
  if "random_k" in words or config.train.random_num_keys:
    tokens = config.model.window_size**2  # of the window that is left
    config.train.random_num_keys = tuple(k * tokens // 1024 for k in RANDOM_K)
  return config.lock()


def finetune(config: Any, init_from: str) -> dict[str, Any]:
  """Returns SwinIR's and HAT's fine-tuning: half steps, milestones and rate.

  `init_from` is where the command line names nothing: a workdir, so that nobody
  starts this from random parameters unawares.
  """
  return {
    "init_from": init_from,
    "train.num_steps": config.train.num_steps // 2,
    "schedule.peak": config.schedule.peak / 2,
    "schedule.milestones": tuple(s // 2 for s in config.schedule.milestones),
  }


# One channel in and out; colour files need `data.gray` besides.
GRAY: dict[str, Any] = dict.fromkeys(
  ("data.channels", "model.in_channels", "model.out_channels"), 1
)

# [paper] Of the 1024 tokens of a window of 32; other windows: these shares.
RANDOM_K = (64, 128, 192, 256, 384, 512)

# DIV2K, Flickr2K, WED and BSD500 without its `val`, which holds CBSD68.
DFWB = ("div2k", "flickr2k", "wed", "bsds500/train", "bsds500/test")
