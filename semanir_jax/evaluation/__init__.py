"""Measures networks on test sets, under a stated protocol."""
