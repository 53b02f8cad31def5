"""Reads and writes films, and measures how much they flicker."""
