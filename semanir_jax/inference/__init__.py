"""Runs a network on images of any size, whole or in tiles."""
