"""Restores people's own files: plans, runs, writes, compares."""
