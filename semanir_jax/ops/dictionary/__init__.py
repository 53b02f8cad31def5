"""The key-semantic dictionary: selection, kernels, controls."""
