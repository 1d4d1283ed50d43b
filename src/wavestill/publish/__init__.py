"""Model folders: what is saved, shared and loaded."""

from wavestill.publish.folder import Voice, load, save

__all__ = ["Voice", "load", "save"]
