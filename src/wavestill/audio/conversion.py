"""Frames of one spec as frames of another, where nothing has to be guessed."""

import math
from dataclasses import fields, replace

import numpy as np
from jaxtyping import Float, Float32

from wavestill.audio.mel import MelSpec


def convert_frames(
    frames: Float[np.ndarray, "F A"], from_spec: MelSpec, to_spec: MelSpec
) -> Float32[np.ndarray, "F B"]:
    r"""The frames that `to_spec` would have given of the sound that `from_spec` gave these of.

    .. math:: m'_{ik} = \log_{b'} \max(\text{floor}', b^{m_{ik}})

    Three things can be changed without the sound: the base `b` of the logarithm, the floor where
    the new one is not lower (:math:`\max(f', \max(f, x)) = \max(f', x)` for :math:`f' \ge f`), and
    columns of pitch can be dropped. Everything else decides what is measured.

    Arguments:
        frames: `(F, from_spec.num_features)`.
        from_spec: How they were made.
        to_spec: How they should have been made.

    Raises:
        ValueError: In one line, with both values of every field that stands in the way, or if the
            frames have another number of columns.

    Example:
        >>> from dataclasses import replace
        >>> from wavestill.audio import MEL_PRESETS
        >>> spec = MEL_PRESETS["wavestill_8k"]
        >>> decades = replace(spec, log="log10", floor=1e-3)
        >>> frames = np.log(np.full((1, 64), 1e-2, np.float32))
        >>> convert_frames(frames, spec, decades)[0, :2].tolist()
        [-2.0, -2.0]
    """
    frames = np.asarray(frames)
    if frames.ndim != 2 or frames.shape[1] != from_spec.num_features:
        raise ValueError(
            f"'frames' has shape {frames.shape}, but 'from_spec' describes (frames, "
            f"{from_spec.num_features}); give the spec they were made with"
        )
    if reasons := obstacles(from_spec, to_spec):
        raise ValueError(
            f"features of another spec that cannot be converted: {', '.join(reasons)}; "
            "make the frames anew with the spec wanted"
        )
    num_mels = from_spec.num_mels
    mels = frames[:, :num_mels].astype(np.float64)
    if from_spec.log != to_spec.log:
        mels = mels / math.log(10) if to_spec.log == "log10" else mels * math.log(10)
    if from_spec.floor != to_spec.floor:
        floor = math.log10(to_spec.floor) if to_spec.log == "log10" else math.log(to_spec.floor)
        mels = np.maximum(mels, floor)
    converted = mels.astype(np.float32)
    if to_spec.pitch:
        converted = np.concatenate([converted, frames[:, num_mels:].astype(np.float32)], axis=1)
    return converted


def obstacles(from_spec: MelSpec, to_spec: MelSpec) -> list[str]:
    """What keeps frames of one spec from becoming another's; empty if `convert_frames` can."""
    alike = replace(from_spec, log=to_spec.log)
    if to_spec.floor >= from_spec.floor:
        alike = replace(alike, floor=to_spec.floor)
    if not to_spec.pitch:
        alike = replace(alike, pitch=False)
    reasons = {
        "floor": "a lower floor than was kept",
        "pitch": "columns that are not there",
    }
    return [
        f"{field.name} {getattr(from_spec, field.name)!r}, wanted "
        f"{getattr(to_spec, field.name)!r}"
        + (f" ({reasons[field.name]})" if field.name in reasons else "")
        for field in fields(MelSpec)
        if getattr(alike, field.name) != getattr(to_spec, field.name)
    ]
