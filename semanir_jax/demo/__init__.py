"""Restoring pictures in the browser."""
