"""Attention over the dictionary: a form for each kind of machine."""
