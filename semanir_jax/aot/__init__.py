"""Compiles steps for devices that are not here, and reads what they need."""
