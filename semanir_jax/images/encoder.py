"""Arrays to the bytes of an image file, or a reason why not.

Pillow writes, but for 16-bit colour: PNG by imagecodecs, TIFF by tifffile.
"""

import io
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin, TiffTags

from semanir_jax.images import geotiff
from semanir_jax.images.decoder import ImageError, explained, import_codec
from semanir_jax.images.kinds import WRITTEN
from semanir_jax.images.metadata import NO_METADATA, Metadata

_SAVE_OPTIONS = {
  "JPEG": {"quality": 95, "subsampling": 0},
  # `exact`: colours below alpha of zero too.
  "WEBP": {"lossless": True, "exact": True},
}

# Tags of TIFF, and a type of theirs.
_DESCRIPTION, _SOFTWARE, _ASCII = 270, 305, 2


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
  options |= _metadata_options(kind, metadata)
  file = io.BytesIO()
  with explained(name, "choose another format or image"):
    pixels = image[..., 0] if channels == 1 else image
    Image.fromarray(pixels).save(file, kind, **options)
  return file.getvalue()


def _metadata_options(kind: str, metadata: Metadata) -> dict[str, Any]:
  """Returns the options of Pillow that write metadata."""
  annotations = metadata.annotations
  options: dict[str, Any] = {
    "icc_profile": metadata.icc_profile,
    "exif": metadata.exif,
    "dpi": metadata.dpi,  # which WebP has not
  }
  # Pillow takes None for no profile, but not for no EXIF.
  options = {key: v for key, v in options.items() if v is not None}
  if kind == "PNG":
    options["pnginfo"] = PngImagePlugin.PngInfo()
    for chunk in (*metadata.png_colours, *annotations.to_png_chunks()):
      options["pnginfo"].add(*chunk)
  elif kind == "JPEG":
    options |= annotations.to_jpeg_options()
  elif kind == "WEBP" and annotations.xmp is not None:
    options["xmp"] = annotations.xmp
  elif kind == "TIFF":
    options.pop("exif", None)
    options["tiffinfo"] = _tiff_directory(
      metadata.load_exif(), annotations.to_tiff_tags()
    )
  return options


def _tiff_directory(
  exif: Image.Exif, tags: list[geotiff.Tag]
) -> TiffImagePlugin.ImageFileDirectory_v2:
  """Joins EXIF and other tags, of which Pillow writes one or the other."""
  directory = TiffImagePlugin.ImageFileDirectory_v2()
  for number in exif:
    groups = TiffTags.TAGS_V2_GROUPS
    value = exif.get_ifd(number) if number in groups else exif[number]
    # Pillow reads Latin-1, but writes ASCII.
    directory[number] = (
      value.encode("latin-1") if isinstance(value, str) else value
    )
  for tag in tags:
    directory.tagtype[tag.number] = tag.kind
    directory[tag.number] = tag.value
  return directory


def _encode_deep_png(image: np.ndarray, metadata: Metadata) -> bytes:
  """Encodes uint16 with colour or alpha, which Pillow cannot write."""
  data = import_codec("imagecodecs").png_encode(np.ascontiguousarray(image))
  header = data.index(b"IDAT") - 4  # of signature and IHDR
  return data[:header] + metadata.to_png_chunks() + data[header:]


def _encode_deep_tiff(image: np.ndarray, metadata: Metadata) -> bytes:
  """Encodes uint16 RGB, which Pillow cannot write; of EXIF texts alone."""
  file = io.BytesIO()
  texts = {
    number: value.encode("latin-1")
    for number, value in metadata.load_exif().items()
    if isinstance(value, str)
  }
  import_codec("tifffile").imwrite(
    file,
    image,
    photometric="rgb",
    iccprofile=metadata.icc_profile,
    resolution=metadata.dpi,
    resolutionunit=metadata.dpi and "INCH",
    description=(description := texts.pop(_DESCRIPTION, None)),
    metadata=None if description else {},  # no second description
    software=texts.pop(_SOFTWARE, None),
    extratags=[
      *((number, _ASCII, 0, text, True) for number, text in texts.items()),
      *(
        (tag.number, tag.kind, len(tag.value), tag.value, True)
        for tag in metadata.annotations.to_tiff_tags()
      ),
    ],
  )
  return file.getvalue()
