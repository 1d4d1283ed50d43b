r"""What a voice makes of frames unlike those it learned from.

Two questions: recordings of others (`generalisation`), and over-smoothed mels such as an acoustic
model predicts (`blur_curve`), here made on purpose by a Gaussian blur,

.. math:: \tilde m_{ik} = \sum_{j,l} g_{\sigma_t}(i - j) \, g_{\sigma_f}(k - l) \, m_{jl}.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from wavestill.audio.corpus import Clip
from wavestill.audio.mel import MelSpec
from wavestill.drawing import Sampler, synthesise
from wavestill.evaluation.griffin_lim import griffin_lim
from wavestill.evaluation.inputs import context_for, tensor_for
from wavestill.evaluation.likelihood import teacher_nats
from wavestill.evaluation.metrics import compare
from wavestill.publish import Voice

Wave = Float[np.ndarray, " _"]

GRIFFIN_LIM = "griffin_lim"


@dataclass(frozen=True)
class Copies:
    """Metrics of copies of several recordings.

    Arguments:
        condition: What was done to the recordings or their frames.
        system: What made the copies: a sampler's name, or `griffin_lim`.
        num_clips: How many.
        metrics: Mean of each metric that had a value on any.
        nats: The teacher's nats per sample of the recordings; None where it was not asked.
    """

    condition: str
    system: str
    num_clips: int
    metrics: dict[str, float]
    nats: float | None = None


def blurred(
    frames: Float[np.ndarray, "F C"], spec: MelSpec, time_frames: float, bands: float
) -> Float32[np.ndarray, "F C"]:
    """Frames whose mels are smeared; log F0 and voicing stay.

    Arguments:
        frames: As `spec` makes them.
        spec: Tells mels from pitch.
        time_frames: Standard deviation along time in frames, >= 0.
        bands: Standard deviation along frequency in mel bands, >= 0.
    """
    from scipy.ndimage import gaussian_filter

    smeared = np.array(frames, np.float32)
    mels = smeared[:, : spec.num_mels]
    smeared[:, : spec.num_mels] = gaussian_filter(mels, (time_frames, bands), mode="nearest")
    return smeared


def blur_curve(
    voice: Voice,
    clips: Sequence[Clip],
    widths: Sequence[tuple[float, float]],
    spec: MelSpec,
    *,
    sampler: Sampler | None = "student",
    seed: int = 0,
) -> list[Copies]:
    """Copies from frames blurred by each width, in their order.

    Arguments:
        voice: The voice.
        clips: Recordings and their frames; all copies are compared with the recordings.
        widths: Standard deviations in frames and in bands; `(0, 0)` is no blur.
        spec: How the frames were made.
        sampler: What draws; None for Griffin-Lim.
        seed: Of the noise.
    """
    curve = []
    for width in widths:
        pairs = []
        for clip in clips:
            frames = blurred(clip.frames, spec, *width)
            copy = (
                griffin_lim(frames, spec, seed=seed)
                if sampler is None
                else synthesise(
                    voice, frames, sampler=sampler, seed=seed, speaker=_speaker(voice, clip)
                )
            )
            pairs.append((clip.wave, copy))
        name = f"{width[0]:g} frames, {width[1]:g} bands"
        curve.append(_copies(name, sampler or GRIFFIN_LIM, pairs, spec))
    return curve


def generalisation(
    voice: Voice,
    conditions: Mapping[str, Sequence[tuple[Clip, Wave]]],
    spec: MelSpec,
    *,
    seed: int = 0,
) -> list[Copies]:
    """Copies by condition, by Griffin-Lim beside the voice's, and what the teacher says of them.

    Arguments:
        voice: The voice.
        conditions: Prepared recordings and the voice's copies of them.
        spec: How their frames are made.
        seed: Of Griffin-Lim's phases.
    """
    rows = []
    for condition, pairs in conditions.items():
        nats = None
        if voice.teacher is not None:
            teacher = voice.teacher.eval()
            values = [
                teacher_nats(
                    teacher, tensor_for(teacher, clip.wave)[None], context_for(teacher, [clip])
                )
                for clip, _ in pairs
            ]
            nats = float(np.mean(values))
        own = [(clip.wave, copy) for clip, copy in pairs]
        rows.append(_copies(condition, "student", own, spec, nats))
        phases = [(clip.wave, griffin_lim(clip.frames, spec, seed=seed)) for clip, _ in pairs]
        rows.append(_copies(condition, GRIFFIN_LIM, phases, spec))
    return rows


def _speaker(voice: Voice, clip: Clip) -> str | None:
    return voice.speakers[clip.speaker or 0] if voice.speakers else None


def _copies(
    condition: str,
    system: str,
    pairs: Sequence[tuple[Wave, Wave]],
    spec: MelSpec,
    nats: float | None = None,
) -> Copies:
    found: dict[str, list[float]] = defaultdict(list)
    for recording, copy in pairs:
        length = min(len(recording), len(copy))
        for name, value in compare(recording[:length], copy[:length], spec)[0].items():
            found[name].append(value)
    metrics = {name: float(np.mean(values)) for name, values in found.items()}
    return Copies(condition, system, len(pairs), metrics, nats)
