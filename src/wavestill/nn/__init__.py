"""Blocks that know nothing of probability."""
