"""From a sound to the frames a model is conditioned on, and frames to and from files."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from wavestill.audio.conversion import convert_frames
from wavestill.audio.labels import Label
from wavestill.audio.linguistic import LinguisticSpec, extract_linguistic
from wavestill.audio.mel import MelSpec, MelSpectrogram
from wavestill.audio.pitch import estimate_pitch
from wavestill.audio.spec import FeatureSpec, spec_from_dict


def extract(
    wave: np.ndarray, spec: FeatureSpec, labels: Sequence[Label] | None = None
) -> Float32[np.ndarray, "F C"]:
    """The frames of a sound: mels or linguistic features, then log F0 and voicing if asked for.

    Arguments:
        wave: One sound in [-1, 1], `(T,)`, at the spec's rate; `F = T // hop_samples` and what
            remains of the last frame has no features.
        spec: What to compute.
        labels: The sound's phones, for a `LinguisticSpec`.

    Raises:
        ValueError: If `wave` is too short, not finite or not one-dimensional; or a spec of labels
            is given none, or those of another sound or inventory.
    """
    wave = np.asarray(wave)
    if wave.ndim != 1:
        raise ValueError(f"'wave' has shape {wave.shape}; give one sound at a time, of shape (T,)")
    if not np.isfinite(wave).all():
        raise ValueError(f"{np.sum(~np.isfinite(wave)):,} of {len(wave):,} samples are not finite")
    if isinstance(spec, LinguisticSpec):
        if labels is None:
            raise ValueError("linguistic features are made of labels, and none were given")
        return extract_linguistic(wave, labels, spec)
    spec = _mel(spec)
    with torch.no_grad():  # float64: librosa's own rounding is the larger
        mels = _mel_spectrogram(spec)(torch.from_numpy(wave.astype(np.float64))[None])[0]
    frames: np.ndarray = mels.float().numpy()
    if not spec.pitch:
        return frames
    return np.concatenate([frames, estimate_pitch(wave, spec)], axis=1)


def _mel(spec: FeatureSpec) -> MelSpec:
    if not isinstance(spec, MelSpec):
        raise ValueError(f"no features are known of a {type(spec).__name__}; give a MelSpec")
    return spec


@cache
def _mel_spectrogram(spec: MelSpec) -> MelSpectrogram:
    return MelSpectrogram(spec).double()


def save_frames(path: Path | str, frames: np.ndarray, spec: FeatureSpec) -> None:
    """Write frames with their spec (`.npz`) or bare (`.npy`).

    Raises:
        ValueError: If the suffix is neither, or the columns are not the spec's.
    """
    path = Path(path)
    _check_frames(path, frames, spec)
    frames = np.asarray(frames, dtype=np.float32)
    if path.suffix == ".npz":
        np.savez(path, frames=frames, spec=np.array(json.dumps(spec.to_dict())))
    elif path.suffix == ".npy":
        np.save(path, frames)
    else:
        raise ValueError(
            f"{path}: frames are written as .npz (with their spec) or .npy (bare), "
            f"not {path.suffix!r}"
        )


def load_frames(path: Path | str, spec: FeatureSpec) -> Float32[np.ndarray, "F C"]:
    """Read frames for a model of this spec, from `.npz` (frames and their spec) or a bare `.npy`.

    Frames of another spec are converted where that is exact (`convert_frames`). A bare array says
    nothing of how it was made: only its columns can be checked.

    Raises:
        ValueError: In one line, if the file is missing, unreadable, damaged, of a spec that cannot
            be converted, of another shape or not finite.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"{path}: frames are read from .npz or .npy, not {path.suffix!r}")
    try:
        with path.open("rb") as file:  # np.load would leave a damaged one open
            loaded = np.load(file, allow_pickle=False)
            if path.suffix == ".npz":
                frames = loaded["frames"]
                made_with = spec_from_dict(json.loads(str(loaded["spec"])))
            elif isinstance(loaded, np.ndarray):
                frames, made_with = loaded, spec
            else:
                raise ValueError("several arrays under a name that promises one")
    except KeyError as error:
        raise ValueError(
            f"{path}: {error.args[0]}; saved frames hold 'frames' and 'spec'"
        ) from error
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    except (
        Exception
    ) as error:  # numpy, zip and zlib have many: TokenError, zlib.error, MemoryError
        raise ValueError(f"{path}: not readable as frames ({_one_line(error)})") from error
    _check_frames(path, frames, made_with)
    try:
        if isinstance(spec, MelSpec) and isinstance(made_with, MelSpec):
            return convert_frames(frames, made_with, spec)
        spec.require_same(made_with)
        return np.asarray(frames, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _check_frames(path: Path, frames: np.ndarray, spec: FeatureSpec) -> None:
    if frames.ndim != 2 or frames.shape[1] != spec.num_features:
        raise ValueError(
            f"{path}: frames of shape {frames.shape}, but this spec's are of shape "
            f"(frames, {spec.num_features})"
            + (
                "; transpose them"
                if frames.ndim == 2 and frames.shape[0] == spec.num_features
                else ""
            )
        )
    if len(frames) == 0:
        raise ValueError(f"{path}: holds no frames")
    if not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"{path}: frames are of type {frames.dtype}, not floating point")
    if not np.isfinite(frames).all():
        raise ValueError(
            f"{path}: {np.sum(~np.isfinite(frames)):,} of {frames.size:,} values are not finite"
        )
