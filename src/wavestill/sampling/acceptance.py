r"""One step of draft-and-verify sampling: is the draft kept, and what replaces it.

A draft :math:`x \sim q` stands for a draw of p when it is kept with probability :math:`\min(1,
p(x)/q(x))` and otherwise replaced by a draw of the residual law:

.. math::
    \min(p, q) + \mathrm{TV} \cdot r = p, \qquad
    r = \frac{(p - q)_+}{\mathrm{TV}}, \qquad \mathrm{TV} = \int (p - q)_+

This holds for every p and q, densities or masses, whatever q depends on: a poor draft costs time
and never exactness. Everything here is float64.

References:
    | Fast Inference from Transformers via Speculative Decoding (Leviathan et al., 2023), appendix
      A.1, https://arxiv.org/abs/2211.17192
    | Fast Splittable Pseudorandom Number Generators (Steele, Lea and Flood, 2014), section 5 (the
      generator SplitMix64), https://doi.org/10.1145/2660193.2660195
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from typing_extensions import Self, override

from wavestill.distributions import (
    Continuous,
    Discretized,
    Distribution,
    MuLaw,
    log1mexp,
    mu_law_decode,
    mu_law_encode,
)
from wavestill.distributions.base import Index, log_cdf_to_noise, noise_to_log_odds

# A draft that p gives all but 2^-40 of its weight under q is rejected for rounding's sake.
ROUNDING = 2.0**-40
# Proposals of one batch, all steps together: bounds memory, not the number of proposals.
PROPOSALS_AT_ONCE = 2**18

Law = TypeVar("Law", bound=Distribution)


def in_double(law: Law) -> Law:
    """Return the same law with its parameters in float64."""
    law = copy.copy(law)
    for name, value in vars(law).items():
        if isinstance(value, Tensor) and value.is_floating_point():
            setattr(law, name, value.double())
        elif isinstance(value, Distribution):
            setattr(law, name, in_double(value))
    return law


# Randomness: every step of every stream has one random word, its key, and from it as many
# uniforms as it asks for. So a step's decision is the same in any window and any batch.

TO_ACCEPT, TO_PLACE, TO_PROPOSE = 0, 1, 2  # a key's uniforms; proposals take two each


def draw_keys(
    shape: tuple[int, ...],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Draw keys (long), one after the other in memory, where the generator is."""
    source = device if generator is None else generator.device
    keys = torch.randint(2**63 - 1, shape, generator=generator, device=source)
    return keys.to(device)


def uniforms(keys: Tensor, first: int, num: int) -> Tensor:
    """Return uniforms ``first, first + 1, ...`` in (0, 1) of each key, ``(num, *keys.shape)``.

    Output ``i`` of SplitMix64 from the key, its upper 52 bits and half a step.
    """
    i = torch.arange(first + 1, first + num + 1, device=keys.device)
    word = keys + i.view(-1, *(1 for _ in keys.shape)) * -0x61C8864680B583EB
    word = (word ^ _shifted(word, 30)) * -0x40A7B892E31B1A47  # products wrap at 64 bits
    word = (word ^ _shifted(word, 27)) * -0x6B2FB644ECCEEE15
    word = word ^ _shifted(word, 31)
    return (_shifted(word, 12).double() + 0.5) * 2.0**-52


def _shifted(word: Tensor, bits: int) -> Tensor:
    """Shift to the right and fill with zeros: on signed integers `>>` fills with the sign."""
    filled: Tensor = (word >> bits) & (2 ** (64 - bits) - 1)
    return filled


class Draft:
    """What a student's law proposes to a continuous teacher: the law itself.

    Arguments:
        law: The student's conditionals :math:`q`, in float64.
    """

    def __init__(self, law: Continuous) -> None:
        self.law = law

    def from_noise(self, z: Tensor) -> Tensor:
        """The draft that base noise ``z`` maps to."""
        return self.law.from_noise(z)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, or on a grid log mass, of a draft."""
        return self.law.log_prob(x)

    def to_noise(self, x: Tensor, u: Tensor) -> Tensor:
        """Noise that maps to ``x``; ``u`` in (0, 1) chooses where several do."""
        del u
        return self.law.to_noise(x)

    def __getitem__(self, index: Index) -> Self:
        """The drafts at ``index`` of the batch shape."""
        draft = copy.copy(self)
        draft.law = self.law[index]
        return draft


class GridDraft(Draft):
    r"""What a student proposes to a teacher on a grid: the bin its sample falls into.

    .. math:: Q(l) = F_q(g_{l + 1/2}) - F_q(g_{l - 1/2}), \qquad g_l = \text{level } l

    The end bins take the open tails. The student itself stays continuous. A kept draft has noise
    that fell into its bin, and :meth:`to_noise` gives a corrected one the like, a draw of q
    restricted to the bin. Hence the noise does not tell which steps were corrected, and later
    drafts are made from noise such as the student knows (a bin's centre would be a lattice).

    Arguments:
        law: The student's conditionals :math:`q`, in float64.
        grid: Any law of the teacher: levels evenly spaced or of mu-law.
    """

    def __init__(self, law: Continuous, grid: Discretized | MuLaw) -> None:
        super().__init__(law)
        self.grid = grid

    @override
    def from_noise(self, z: Tensor) -> Tensor:
        return self._at(self._level(self.law.from_noise(z)))

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        lower, upper = self._edges(x)
        inside = self.law.log_mass(0.5 * (lower + upper), 0.5 * (upper - lower))
        below, above = self.law.log_cdf(upper), self.law.log_survival(lower)
        return torch.where(lower.isinf(), below, torch.where(upper.isinf(), above, inside))

    @override
    def to_noise(self, x: Tensor, u: Tensor) -> Tensor:
        r"""A draw of the base law restricted to the bin of ``x``.

        .. math:: z = F^{-1}(u F(b) + (1 - u) F(a)), \qquad a < z < b

        In logarithms and in the lower tail, where the other is turned to: a bin may lie far out
        in the student's tails. A normal z is held at the bin's inner edge where its density
        underflows (beyond 37.5).
        """
        a, b = (self.law.to_noise(edge) for edge in self._edges(x))
        is_upper = a + b > 0
        a, b = torch.where(is_upper, -b, a), torch.where(is_upper, -a, b)
        log_a, log_b = (logsigmoid(noise_to_log_odds(self.law.base, end)) for end in (a, b))
        share_above = torch.where(is_upper, u, 1 - u)
        log_cdf = log_b + torch.log1p(share_above * torch.expm1(log_a - log_b))
        z = log_cdf_to_noise(self.law.base, log_cdf, log1mexp(-log_cdf))
        z = torch.minimum(torch.maximum(z, a), b)
        return torch.where(is_upper, -z, z)

    def _level(self, x: Tensor) -> Tensor:
        if isinstance(self.grid, MuLaw):
            unit: Tensor = (x - self.grid.shift) / self.grid.scale
            return mu_law_encode(unit, self.grid.num_levels).to(x.dtype)
        return self.grid.level(x)

    def _at(self, level: Tensor) -> Tensor:
        """The value of a level, or of an edge: half a level from it."""
        if isinstance(self.grid, MuLaw):
            value = mu_law_decode(level, self.grid.num_levels, dtype=level.dtype)
            return self.grid.scale * value + self.grid.shift
        return self.grid.low + level * self.grid.bin_width

    def _edges(self, x: Tensor) -> tuple[Tensor, Tensor]:
        level = self._level(x)
        lower = torch.where(level == 0, -torch.inf, self._at(level - 0.5))
        is_last = level == self.grid.num_levels - 1
        return lower, torch.where(is_last, torch.inf, self._at(level + 0.5))


def draft_for(q: Distribution, grid: Discretized | MuLaw | None) -> Draft:
    """What the laws of a student propose to a teacher on ``grid``, None for the real line.

    Raises:
        ValueError: If the student's laws are not continuous.
    """
    if not isinstance(q, Continuous):
        raise ValueError(
            f"the student's laws are {type(q).__name__}, which have no bin masses; "
            "draft with a continuous student (Logistic or Normal)"
        )
    q = in_double(q)
    return Draft(q) if grid is None else GridDraft(q, grid)


def is_kept(log_ratio: Tensor, keys: Tensor) -> Tensor:
    r"""Whether each draft is kept: :math:`\log u \le \log p(x) - \log q(x)`, no slack."""
    return uniforms(keys, TO_ACCEPT, 1)[0].log() <= log_ratio


def rejection_probability(log_ratio: Tensor) -> Tensor:
    r""":math:`1 - \min(1, p/q)`; its mean over drafts of q is the total variation."""
    return -torch.expm1(log_ratio.clamp(max=0))


def draw_residual(p: Distribution, draft: Draft, log_ratio: Tensor, keys: Tensor) -> Tensor:
    r"""Draw from :math:`(p - q)_+ / \mathrm{TV}`, one for each rejected draft.

    Proposes :math:`y \sim p` and keeps it with probability :math:`(1 - q(y)/p(y))_+`; p is known
    already, so a proposal costs no pass of the network. A rejection takes 1/TV proposals on
    average and happens with probability TV: one proposal a step, for any student. Their number has
    no cap. Batches double.

    Note:
        Where p and q agree to rounding, the residual is made of rounding, and the loop would not
        end. There a draft was rejected whose own probability of it was at most 2^-40; it is
        replaced by a draw of p. Such rejections together have at most that probability, so the
        law of the step is off by at most 2^-40 in total variation, for any p and q; float64
        log-densities are not known better.

    Arguments:
        p: The teacher's laws at the rejected steps, batch shape `(N,)`, in float64.
        draft: What the student proposed there.
        log_ratio: :math:`\log p - \log q` of the rejected drafts, `(N,)`.
        keys: The steps' keys, `(N,)`.

    Returns:
        The samples, `(N,)`.

    Raises:
        ValueError: If the laws are not finite: no draw would ever be kept.
    """
    y = torch.empty_like(log_ratio)
    is_rounding = rejection_probability(log_ratio) <= ROUNDING
    pending = torch.arange(len(keys), device=keys.device)
    first, num = 0, 8
    while len(pending):
        p_here, draft_here = p[pending], draft[pending]
        u = uniforms(keys[pending], TO_PROPOSE + 2 * first, 2 * num)  # (2 num, N')
        proposal = p_here.icdf(u[0::2])  # (num, N')
        log_excess = p_here.log_prob(proposal) - draft_here.log_prob(proposal)
        if bool(log_excess.isnan().any()):
            raise ValueError(
                f"{int(log_excess.isnan().any(0).sum())} laws of teacher or student are not "
                "finite; check the context and the models' weights"
            )
        keeps = (u[1::2] < rejection_probability(-log_excess)) | is_rounding[pending]
        is_found, index = keeps.any(0), keeps.int().argmax(0)  # the first that is kept
        y[pending[is_found]] = proposal[index[is_found], is_found]
        pending = pending[~is_found]
        first += num
        num = min(2 * num, max(8, PROPOSALS_AT_ONCE // max(1, len(pending))))
    return y
