"""What the benchmarks of attention compute."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

HEADS, HEAD_SIZE = 6, 30  # of S and B
NUM_TOKENS = (64, 256, 1024, 4096)
NUM_KEYS = (64, 128, 192, 256, 384, 512)
JAX_FORMS = ("triton", "mask", "gather")
TORCH_FORMS = ("sdpa", "flex")
OPERATIONS = ("forward", "training")

# Input of S: (images, height, width). A batch of the recipe of x4, 64 px each;
# and what becomes 1280x720 by x4, padded to windows.
IMAGES = {"patches": (32, 64, 64), "photograph": (1, 180, 320)}
QUICK_IMAGES = {"patches": (2, 16, 16)}

# The forms whose work depends on k. The logits of the others are dense: their
# cases have K = 0, and a dictionary of half the tokens.
_SPARSE = ("triton", "gather", "flex")


class Case(NamedTuple):
  """One row.

  Attributes:
    operation: "forward", or "training" for forward and backward.
    form: of the attention.
    image: a name of `IMAGES`.
    num_tokens: N.
    windows: of all images.
    num_keys: K; 0 where the form does not depend on it.
  """

  operation: str
  form: str
  image: str
  num_tokens: int
  windows: int
  num_keys: int

  @property
  def dictionary_keys(self) -> int:
    """Keys of every row of the dictionary."""
    return self.num_keys or self.num_tokens // 2


def cases(forms: tuple[str, ...], quick: bool) -> Iterator[Case]:
  """Rows of some forms, those of the paper's setting (N = 1024) first."""
  images = QUICK_IMAGES if quick else IMAGES
  all_tokens = (64,) if quick else sorted(NUM_TOKENS, key=lambda n: n != 1024)
  all_keys = (8,) if quick else NUM_KEYS[::-1]
  for n, image, operation, form in itertools.product(
    all_tokens, images, OPERATIONS, forms
  ):
    keys = [k for k in all_keys if k <= n] if form in _SPARSE else [0]
    for k in keys:
      yield Case(operation, form, image, n, count_windows(images[image], n), k)


def count_windows(image: tuple[int, int, int], num_tokens: int) -> int:
  """Windows of images whose sides are padded to multiples of the window's."""
  count, height, width = image
  side = round(num_tokens**0.5)
  return count * -(-height // side) * -(-width // side)


class Rule(NamedTuple):
  """A dictionary without its N x N: row i of a window keeps the keys
  first + step t modulo N for t < K.

  N is a power of two and the steps are odd, so no key comes twice. Keys lie
  anywhere in the window, the hardest case for a kernel that skips tiles: from
  K = N / 64 on it can skip none. Works on arrays of numpy, JAX and torch.

  Attributes:
    first: `[G, N, 1]` int32 in [0, N).
    step: likewise, odd.
    inverse: likewise; step * inverse is 1 modulo N.
  """

  first: Any
  step: Any
  inverse: Any

  def indices(self, places: Any, num_tokens: int) -> Any:
    """`[G, N, K]`, of `places` 0 to K - 1."""
    return (self.first + self.step * places) % num_tokens

  def mask(self, tokens: Any, num_tokens: int, num_keys: int) -> Any:
    """`[G, N, N]` bool, of `tokens` 0 to N - 1."""
    return ((tokens - self.first) * self.inverse) % num_tokens < num_keys


def make_rule(windows: int, num_tokens: int) -> Rule:
  """A random one."""
  rng = np.random.default_rng(0)
  rows = (windows, num_tokens, 1)
  first = rng.integers(0, num_tokens, rows, np.int32)
  odd = np.arange(1, num_tokens, 2)
  inverses = np.array([pow(int(x), -1, num_tokens) for x in odd], np.int32)
  chosen = rng.integers(0, len(odd), rows)
  return Rule(first, odd.astype(np.int32)[chosen], inverses[chosen])


def arithmetic(case: Case) -> float:
  """Operations of the products if all N x N pairs are computed: two products
  forward; backward the logits again, and the gradients of weights, values,
  queries and keys.
  """
  pairs = case.windows * HEADS * case.num_tokens**2
  products = 2 if case.operation == "forward" else 7
  return 2.0 * products * pairs * HEAD_SIZE


def least_bytes(case: Case) -> float:
  """Traffic if every array is read or written once: bfloat16 tokens, float32
  bias, one bit a pair.
  """
  n = case.num_tokens
  tokens = 2 * case.windows * n * HEADS * HEAD_SIZE
  bias = 4 * HEADS * n * n
  bits = case.windows * n * n / 8
  if case.operation == "forward":
    return 4 * tokens + bias + bits
  return 8 * tokens + 2 * bias + bits
