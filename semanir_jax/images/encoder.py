"""Arrays to the bytes of an image file, or a reason why not.

Pillow writes, but for 16-bit colour: PNG by imagecodecs, TIFF by tifffile.
"""

import io

import numpy as np
from PIL import Image, PngImagePlugin

from semanir_jax.images.decoder import ImageError, explained, import_codec
from semanir_jax.images.kinds import WRITTEN
from semanir_jax.images.metadata import NO_METADATA, Metadata

_SAVE_OPTIONS = {
  "JPEG": {"quality": 95, "subsampling": 0},
  # `exact`: colours below alpha of zero too.
  "WEBP": {"lossless": True, "exact": True},
}


def encode(
  image: np.ndarray,
  suffix: str,
  name: str,
  *,
  quality: int | None = None,
  metadata: Metadata = NO_METADATA,
) -> bytes:
  """Encodes an image; see `semanir_jax.images.image_file.write_image`.

  Args:
    image: `[H, W, C]`.
    suffix: of `kinds.WRITTEN`.
    name: for messages.
    quality: 1 to 100, of JPEG and lossy WebP; None for JPEG at 95 and lossless
      WebP. Other formats are lossless and have none.
    metadata: written where the format holds it (BMP: nowhere).
  """
  channels = image.shape[2]
  kind = WRITTEN[suffix]
  if image.dtype == np.uint16:
    if kind == "PNG" and channels > 1:
      with explained(name, "write 8 bits"):
        return _encode_deep_png(image, metadata)
    if (kind, channels) == ("TIFF", 3):
      with explained(name, "write a PNG"):
        return _encode_deep_tiff(image, metadata)
    if channels != 1 or kind not in ("PNG", "TIFF"):
      raise ImageError(
        f"{name}: cannot hold 16-bit samples in {channels} channels; write a"
        " PNG, or 8 bits"
      )
  options = dict(_SAVE_OPTIONS.get(kind, {}))
  if quality is not None and kind in _SAVE_OPTIONS:
    options |= {"quality": quality, "lossless": False}
  # Pillow takes None for no profile, but not for no EXIF. WebP has no dpi.
  options |= {key: v for key, v in metadata._asdict().items() if v is not None}
  options["pnginfo"] = PngImagePlugin.PngInfo()
  for chunk in metadata.png_colours:
    options["pnginfo"].add(*chunk)
  file = io.BytesIO()
  with explained(name, "choose another format or image"):
    pixels = image[..., 0] if channels == 1 else image
    Image.fromarray(pixels).save(file, kind, **options)
  return file.getvalue()


def _encode_deep_png(image: np.ndarray, metadata: Metadata) -> bytes:
  """Encodes uint16 with colour or alpha, which Pillow cannot write."""
  data = import_codec("imagecodecs").png_encode(np.ascontiguousarray(image))
  header = data.index(b"IDAT") - 4  # of signature and IHDR
  return data[:header] + metadata.to_png_chunks() + data[header:]


def _encode_deep_tiff(image: np.ndarray, metadata: Metadata) -> bytes:
  """Encodes uint16 RGB, which Pillow cannot write; its EXIF is left out."""
  file = io.BytesIO()
  import_codec("tifffile").imwrite(
    file,
    image,
    photometric="rgb",
    iccprofile=metadata.icc_profile,
    resolution=metadata.dpi,
    resolutionunit=metadata.dpi and "INCH",
  )
  return file.getvalue()
