"""How good a draft the student is, measured where drafts are made: after what the teacher said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wavestill.audio.corpus import Clip
from wavestill.density import Autoregressive, InverseAutoregressive
from wavestill.evaluation.inputs import context_for, noise_for
from wavestill.sampling import speculative
from wavestill.sampling.speculative import Speculation

_SAMPLES = 2400  # of each clip: rounds are many while a student is poor


@dataclass(frozen=True)
class Drafted:
    """What draft-and-verify made of some clips.

    Arguments:
        tv: Total variation of student and teacher per step under the teacher's prefixes, of each
            clip: the share of the student's own drafts that are rejected, without the coins.
        samples_per_round: Of each clip, with drafts refined (`sampling.refinement`).
        samples_per_round_bound: What the refined drafts' total variation promises at least, on
            average.
    """

    tv: list[float]
    samples_per_round: list[float]
    samples_per_round_bound: float


def draft(
    teacher: Autoregressive,
    student: InverseAutoregressive,
    clips: Sequence[Clip],
    seed: int,
    progress: Callable[[str, float], None],
) -> Drafted:
    """Draw the loudest stretch of each clip speculatively, all together, each from silence.

    Raises:
        ValueError: If one of the models cannot do its part; see `speculative`.
    """
    hop = len(clips[0].wave) // len(clips[0].frames)
    shortest = min(len(clip.frames) for clip in clips)
    stretches = [_loudest(clip, hop, min(max(1, _SAMPLES // hop), shortest)) for clip in clips]
    length = len(stretches[0].wave)
    context = context_for(teacher, stretches)

    def drawn(part: int, *, refine: bool) -> Speculation:
        generator = torch.Generator().manual_seed(seed)
        return speculative(
            teacher,
            student,
            noise_for(student, len(stretches), length, generator),
            context,
            generator=generator,
            refine=refine,
            progress=lambda done, total: progress("draft and verify", (part + done / total) / 2),
        )

    plain, refined = drawn(0, refine=False), drawn(1, refine=True)
    return Drafted(
        plain.total_variation.mean(1).tolist(),
        [length / count for count in refined.rounds.tolist()],
        length / refined.expected_rounds,
    )


def _loudest(clip: Clip, hop: int, num_frames: int) -> Clip:
    """The stretch of so many frames that has the most energy."""
    energy = np.square(clip.wave.reshape(len(clip.frames), hop)).sum(1)
    first = int(np.convolve(energy, np.ones(num_frames), mode="valid").argmax())
    last = first + num_frames
    return clip._replace(wave=clip.wave[first * hop : last * hop], frames=clip.frames[first:last])
