"""Float64 numpy references, written from the specification with plain loops.

Independent of `semanir_jax.ops` on purpose: no code, no tricks and no packing
is shared with it.
"""

import numpy as np


def dictionary(
  features: np.ndarray, num_keys: int, regions: np.ndarray | None = None
) -> list[list[list[set[int]]]]:
  """Sets of keys `[B][G][N]` of features `[B, G, N, C]`."""
  features = features.astype(np.float64)
  num_images, num_windows, num_tokens, _ = features.shape
  result = []
  for image in range(num_images):
    windows = []
    for window in range(num_windows):
      tokens = features[image, window]
      rows = []
      for i in range(num_tokens):
        candidates = [
          j
          for j in range(num_tokens)
          if regions is None or regions[window, i] == regions[window, j]
        ]
        # Python's sort is stable: equal scores keep the lower index first.
        candidates.sort(key=lambda j, i=i: -float(np.dot(tokens[i], tokens[j])))
        rows.append(set(candidates[:num_keys]))
      windows.append(rows)
    result.append(windows)
  return result


def mask_of(sets: list[list[list[set[int]]]]) -> np.ndarray:
  """Sets of keys as bool `[B, G, N, N]`."""
  num_tokens = len(sets[0][0])
  mask = np.zeros((len(sets), len(sets[0]), num_tokens, num_tokens), bool)
  for b, windows in enumerate(sets):
    for g, rows in enumerate(windows):
      for i, keys in enumerate(rows):
        mask[b, g, i, sorted(keys)] = True
  return mask


def attention(
  query: np.ndarray,
  key: np.ndarray,
  value: np.ndarray,
  mask: np.ndarray,
  scale: np.ndarray,
  bias: np.ndarray,
) -> np.ndarray:
  """`[B, G, N, A, D]` attention over the keys of mask `[B, G, N, N]`."""
  query, key, value = (x.astype(np.float64) for x in (query, key, value))
  out = np.zeros_like(query)
  for b, g, i, a in np.ndindex(query.shape[:4]):
    keys = np.flatnonzero(mask[b, g, i])
    logits = scale[a] * (key[b, g, keys, a] @ query[b, g, i, a])
    logits = logits + bias[a, i, keys]
    weights = np.exp(logits - logits.max())
    out[b, g, i, a] = weights @ value[b, g, keys, a] / weights.sum()
  return out


def attention_gradients(
  query: np.ndarray,
  key: np.ndarray,
  value: np.ndarray,
  mask: np.ndarray,
  scale: np.ndarray,
  bias: np.ndarray,
  cotangent: np.ndarray,
) -> dict[str, np.ndarray]:
  """Gradients of sum(attention * cotangent) by the textbook softmax formula."""
  inputs = (query, key, value, scale, bias, cotangent)
  query, key, value, scale, bias, cotangent = (
    x.astype(np.float64) for x in inputs
  )
  grads = {
    "query": np.zeros_like(query),
    "key": np.zeros_like(key),
    "value": np.zeros_like(value),
    "scale": np.zeros_like(scale),
    "bias": np.zeros_like(bias),
  }
  for b, g, i, a in np.ndindex(query.shape[:4]):
    keys = np.flatnonzero(mask[b, g, i])
    dots = key[b, g, keys, a] @ query[b, g, i, a]
    logits = scale[a] * dots + bias[a, i, keys]
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    upstream = value[b, g, keys, a] @ cotangent[b, g, i, a]
    d_logits = weights * (upstream - weights @ upstream)
    grads["value"][b, g, keys, a] += weights[:, None] * cotangent[b, g, i, a]
    grads["query"][b, g, i, a] += scale[a] * d_logits @ key[b, g, keys, a]
    grads["key"][b, g, keys, a] += (
      scale[a] * d_logits[:, None] * query[b, g, i, a]
    )
    grads["scale"][a] += d_logits @ dots
    grads["bias"][a, i, keys] += d_logits
  return grads
