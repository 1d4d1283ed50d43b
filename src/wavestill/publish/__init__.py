"""Model folders: what is saved, shared and loaded."""

from wavestill.publish.folder import Voice, load, require_replaceable, save

__all__ = ["Voice", "load", "require_replaceable", "save"]
