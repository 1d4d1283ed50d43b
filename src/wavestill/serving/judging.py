"""How far a live sound of the student is from its teacher, while it is drawn."""

import torch
from torch import Tensor

from wavestill.distributions import Distribution
from wavestill.divergences import KL
from wavestill.models import PackedStudent, WaveNet
from wavestill.models.iaf_wavenet import StudentState
from wavestill.models.wavenet import WaveNetState
from wavestill.nn.conditioning import Encoded

STEPS_PER_FRAME = 20
"""Steps of a frame whose divergence is integrated, evenly spaced: a tenth or so, for speed."""

POINTS = 16
"""Stratified points of each integral."""


class StudentLaws:
    """`StudentSampler` that keeps the laws of what it drew last.

    Arguments:
        student: The density.
    """

    laws: Distribution

    def __init__(self, student: PackedStudent) -> None:
        self._student = student
        self._state: StudentState | None = None

    def extend(self, noise: Tensor, context: Encoded) -> Tensor:
        """As `StudentSampler.extend`."""
        draw, self._state = self._student.stream(noise, context, self._state)
        self.laws = draw.conditionals
        return draw.x


class Judge:
    r"""KL(student || teacher) along the student's own sound, frame by frame.

    .. math:: \mathrm{KL}_f = \frac{1}{n} \sum_{t \in f}
        \mathrm{KL}\big(q(\cdot \mid x_{<t}) \,\|\, p(\cdot \mid x_{<t})\big)

    over `n` evenly spaced steps of frame `f`; one pass of the teacher beside the student's.

    Arguments:
        teacher: `p`.
        speaker: `(1,)`; None where the voice has one without a name.
        hop_samples: Samples per frame.
        seed: Of the quadrature.
    """

    def __init__(
        self, teacher: WaveNet, speaker: Tensor | None, hop_samples: int, seed: int
    ) -> None:
        self._teacher = teacher
        self._frames = teacher.frame_stream(speaker)
        self._hop_samples = hop_samples
        self._generator = torch.Generator().manual_seed(seed)
        self._divergence = KL(POINTS)
        self._state: WaveNetState | None = None
        self._last: Tensor | None = None

    def hear(self, frames: Tensor, *, is_last: bool) -> Encoded:
        """The teacher's own rows under the sound that these frames make known."""
        return self._frames.extend(frames, is_last=is_last)

    @torch.no_grad()
    def judge(self, x: Tensor, laws: Distribution, heard: Encoded | None) -> list[float]:
        """KL in nats per sample of each whole frame of `x (1, n)`, which follows the last one."""
        # the law of a step is known from the samples before it: all but the last of this stretch
        fed = x[:, :-1] if self._last is None else torch.cat([self._last, x[:, :-1]], dim=1)
        teacher_laws, self._state = self._teacher.advance(fed, heard, self._state)
        self._last = x[:, -1:]
        every = max(1, self._hop_samples // STEPS_PER_FRAME)
        num_frames = x.shape[1] // self._hop_samples
        steps = torch.arange(x.shape[1]).view(num_frames, self._hop_samples)[:, ::every]
        index = steps.flatten()
        nats = self._divergence(laws[:, index], teacher_laws[:, index], generator=self._generator)
        means: list[float] = nats.view(num_frames, -1).double().mean(1).tolist()
        return means
