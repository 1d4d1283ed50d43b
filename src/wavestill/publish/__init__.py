"""Model folders: what is saved, shared and loaded."""

from wavestill.publish.folder import Voice, load, require_replaceable, save
from wavestill.publish.packaged import packaged_voices

__all__ = ["Voice", "load", "packaged_voices", "require_replaceable", "save"]
