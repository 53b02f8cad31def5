"""What a wrong number of images says about how a data set was put together."""


def likely_cause(count: int, expected: int) -> str:
  """Why a folder may hold `count` images instead of `expected`."""
  if count == 900 and expected in (100, 800):
    return "training and validation images of DIV2K (800 and 100) are together"
  if expected == 68 and count in (100, 200, 300, 500):
    return "BSD68 is 68 of the 100 `val` images of BSDS500"
  if count % expected == 0:
    return (
      f"every image is there {count // expected} times (low and high"
      " resolution, or several scales, in one folder?)"
    )
  if count < expected:
    return f"{expected - count} are missing, look for an incomplete download"
  return f"{count - expected} are too many, look for extra files or splits"


# (part of the folder's name, number of images, what that number means)
MIXED_SPLITS = (
  (
    "div2k",
    900,
    "its training split has 800; 0801 to 0900 are for validation, remove them",
  ),
  (
    "bsd",
    500,
    "its `val` split, which CBSD68 is taken from, is among them; train on"
    " `train` and `test` (400)",
  ),
  (
    "bsd",
    300,
    "CBSD68 is among them (BSDS300, or `train` and `val` of BSDS500); train on"
    " the 200 of `train`",
  ),
)
