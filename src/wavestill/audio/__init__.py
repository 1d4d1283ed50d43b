"""Sound files, corpora, features and crops: the only place that reads sound files."""

from wavestill.audio.conversion import convert_frames
from wavestill.audio.corpus import Clip, Clips, Corpus
from wavestill.audio.crops import Batch, Crops
from wavestill.audio.features import extract, load_frames, save_frames
from wavestill.audio.files import Sound, SoundError, read_sound, write_sound
from wavestill.audio.labels import Label, read_labels
from wavestill.audio.linguistic import LinguisticSpec, linguistic_frames
from wavestill.audio.mel import MEL_PRESETS, MelSpec, MelSpectrogram
from wavestill.audio.mel_pitch import estimate_pitch_from_mels
from wavestill.audio.pitch import estimate_pitch, harmonicity
from wavestill.audio.preparation import prepare
from wavestill.audio.reports import PreparationReport
from wavestill.audio.shards import DamagedClip
from wavestill.audio.spec import FeatureSpec
from wavestill.audio.verification import Verification, verify

__all__ = [
    "MEL_PRESETS",
    "Batch",
    "Clip",
    "Clips",
    "Corpus",
    "Crops",
    "DamagedClip",
    "FeatureSpec",
    "Label",
    "LinguisticSpec",
    "MelSpec",
    "MelSpectrogram",
    "PreparationReport",
    "Sound",
    "SoundError",
    "Verification",
    "convert_frames",
    "estimate_pitch",
    "estimate_pitch_from_mels",
    "extract",
    "harmonicity",
    "linguistic_frames",
    "load_frames",
    "prepare",
    "read_labels",
    "read_sound",
    "save_frames",
    "verify",
    "write_sound",
]
