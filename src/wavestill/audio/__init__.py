"""Sound files, corpora, features and crops: the only place that reads sound files."""

from wavestill.audio.corpus import Clip, Clips, Corpus
from wavestill.audio.crops import Batch, Crops
from wavestill.audio.features import extract, load_frames, save_frames
from wavestill.audio.files import Sound, SoundError, read_sound, write_sound
from wavestill.audio.mel import MEL_PRESETS, MelSpec, MelSpectrogram
from wavestill.audio.pitch import estimate_pitch, harmonicity
from wavestill.audio.preparation import prepare
from wavestill.audio.reports import PreparationReport

__all__ = [
    "MEL_PRESETS",
    "Batch",
    "Clip",
    "Clips",
    "Corpus",
    "Crops",
    "MelSpec",
    "MelSpectrogram",
    "PreparationReport",
    "Sound",
    "SoundError",
    "estimate_pitch",
    "extract",
    "harmonicity",
    "load_frames",
    "prepare",
    "read_sound",
    "save_frames",
    "write_sound",
]
