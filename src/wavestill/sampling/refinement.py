r"""Drafts that learn from verifications which came too early to decide them.

A round verifies a whole window, and all behind its first rejection is drafted again. But the
teacher has told its laws there, only after a prefix with a few other samples in it, and by how far
the student was off changes little with those. So the next draft of step t is not the student's own
:math:`\mu_t + s_t z_t` but

.. math:: x_t = \mu_t + s_t \, (c_t + e^{d_t} z_t)

with the shift and stretch of the noise that would have met the teacher's mean and variance:

.. math:: c_t \leftarrow c_t + \rho \Big(\frac{E_p[x_t] - \mu_t}{s_t} - c_t\Big), \qquad
    d_t \leftarrow d_t + \rho \Big(\log \frac{\mathrm{std}_p}{\mathrm{std}_q} - d_t\Big)

A window of W steps that advances by n visits a step about W / n times: an iteration towards the
teacher's own map, each step of it part of a pass that is made anyway. What the student is fed is
the moved noise, so its next laws are those of the samples as they are.

The samples stay exact. :math:`c_t` and :math:`d_t` are made from noise and decisions of steps
before t, of which :math:`z_t` is independent: the draft is a draw of a law that is known, and a
step of draft and verification gives :math:`p(\cdot \mid x_{<t})` whatever proposes.

Note:
    The idea, and the measurement, are ours. On speech, under the same student (16 kHz, windows of
    32): 3.2 samples a round without, 5.6 with :math:`\rho = 1/2`.
"""

import torch
from torch import Tensor

from wavestill.distributions import Discretized, Distribution, LocationScale

RATE = 0.5
r"""Of the way to what the teacher asks for. All of it overshoots, for the prefix changes too: 5.0
samples a round at 0.5 where 0.35 gave 4.7, 0.8 gave 4.8 and 1 gave 4.3 (8 kHz, 4 clips)."""

# A student fed far outside the noise that it knows may run away; the law stays exact at any limit.
SHIFT_MAX = 6.0
LOG_STRETCH_MAX = 1.0


class Refinement:
    """Shift and stretch of the noise of every step that is still to be decided.

    Arguments:
        noise: The base noise `(B, T)`.
    """

    def __init__(self, noise: Tensor) -> None:
        self._shift = torch.zeros_like(noise)
        self._log_stretch = torch.zeros_like(noise)

    def moved(self, noise: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
        """What the student is fed for base noise at `places` (rows, columns)."""
        shift, stretch = self._shift[places], self._log_stretch[places].exp()
        return (shift + stretch * noise).to(noise.dtype)

    def proposal(self, own: LocationScale, places: tuple[Tensor, Tensor]) -> LocationScale:
        """The law of a draft, given the student's own law there."""
        loc = own.loc + own.log_scale.exp() * self._shift[places]
        return type(own)(loc, own.log_scale + self._log_stretch[places])

    def learn(self, own: LocationScale, p: Distribution, places: tuple[Tensor, Tensor]) -> None:
        """Go towards the teacher's laws `p` where the student's own were `own`."""
        p = p.continuous if isinstance(p, Discretized) else p
        std = own.log_scale.exp()
        shift = ((p.mean - own.loc) / std).clamp(-SHIFT_MAX, SHIFT_MAX)
        log_stretch = 0.5 * (p.variance.log() - own.variance.log())
        log_stretch = log_stretch.clamp(-LOG_STRETCH_MAX, LOG_STRETCH_MAX)
        for kept, wanted in ((self._shift, shift), (self._log_stretch, log_stretch)):
            kept[places] += RATE * (wanted.nan_to_num(0.0).to(kept.dtype) - kept[places])
