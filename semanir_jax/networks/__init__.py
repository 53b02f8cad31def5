"""Networks on disk: runs, files, and the names that mean them."""
