r"""Independent Metropolis–Hastings: a chain of teacher's samples, proposed by its student.

.. math:: x' \sim q, \qquad
    \Pr(\text{accept}) = \min\Big(1, \frac{p(x')\, q(x)}{q(x')\, p(x)}\Big)

The teacher's law is the chain's own; a chain started elsewhere *tends* to it, at the rate
:math:`(1 - 1 / \sup_x p/q)^n`, so samples are the teacher's asymptotically, not exactly. Proposals
ask nothing of each other: all are drawn and scored in one pass of each model.

References:
    | Markov Chains for Exploring Posterior Distributions (Tierney, 1994), section 2.3.3,
      https://doi.org/10.1214/aos/1176325750
    | Practical Markov Chain Monte Carlo (Geyer, 1992), section 3.3,
      https://doi.org/10.1214/ss/1177011137
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wavestill.density import Context, Density, Reparametrised, fresh_noise


@dataclass
class Chains:
    """States of parallel chains, and how well they mixed.

    Arguments:
        x: The states after burn-in, chain by chain, `(num, D)`.
        acceptance_rate: Share of the proposals that were taken, burn-in left out.
        autocorrelation_time: Draws of a chain that are worth one independent draw, of the column
            that mixes worst.
    """

    x: Tensor
    acceptance_rate: float
    autocorrelation_time: float

    @property
    def effective_sample_size(self) -> float:
        """Independent draws that these are worth."""
        return len(self.x) / self.autocorrelation_time


@torch.no_grad()
def metropolis(
    teacher: Density,
    student: Reparametrised,
    shape: tuple[int, int],
    context: Context = None,
    *,
    num_chains: int = 64,
    burn_in: int = 100,
    generator: torch.Generator | None = None,
) -> Chains:
    """Draw from the teacher, asymptotically, by chains that the student proposes to.

    Arguments:
        teacher: The density to draw from; only `log_prob` is asked of it.
        student: The proposals.
        shape: `(num, D)` of the samples.
        context: One row for all, or None.
        num_chains: Chains side by side; `num / num_chains` states of each are kept.
        burn_in: States of each chain that are left out.
        generator: Source of proposals and decisions.

    Raises:
        ValueError: If a number is not positive, or the teacher's density is not finite anywhere
            that the student proposes.
    """
    num, num_dims = shape
    if min(num, num_chains) < 1 or burn_in < 0:
        raise ValueError(
            f"{num} samples of {num_chains} chains after {burn_in} states cannot be; give at "
            "least 1 of each and no fewer than 0 states"
        )
    num_chains = min(num, num_chains)
    length = burn_in + -(-num // num_chains)
    noise = fresh_noise(student, (length * num_chains, num_dims), generator=generator)
    draw = student.rsample(noise, context)
    log_weights = (teacher.log_prob(draw.x, context) - draw.log_prob).double()
    log_weights = log_weights.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    if not bool(log_weights.isfinite().any()):
        raise ValueError(
            "the teacher gives no finite density to any proposal; train the student on it first"
        )
    log_weights = log_weights.view(length, num_chains)
    log_u = torch.rand(
        log_weights.shape, generator=generator, dtype=torch.float64, device=noise.device
    ).log()
    states = torch.empty_like(log_weights, dtype=torch.long)
    at, here = torch.zeros_like(states[0]), torch.full_like(log_weights[0], -torch.inf)
    for step in range(length):
        is_taken = log_u[step] <= log_weights[step] - here
        is_taken |= here == -torch.inf
        at = torch.where(is_taken, step, at)
        here = torch.where(is_taken, log_weights[step], here)
        states[step] = at
    kept = states[burn_in:]
    chains = torch.arange(num_chains, device=noise.device)
    paths = draw.x.view(length, num_chains, num_dims)[kept, chains]  # (L, chains, D)
    moved = states[max(burn_in, 1) :] != states[max(burn_in, 1) - 1 : -1]
    return Chains(
        paths.transpose(0, 1).reshape(-1, num_dims)[:num],
        float(moved.double().mean()) if moved.numel() else 1.0,
        max(autocorrelation_time(paths[..., column]) for column in range(num_dims)),
    )


def autocorrelation_time(chains: Tensor) -> float:
    r"""Integrated autocorrelation time of equally long chains `(L, K)`.

    .. math:: \tau = 1 + 2 \sum_{l \ge 1} \rho_l

    The sum ends where the sum of two neighbours is no longer positive (Geyer's initial positive
    sequence).

    Example:
        >>> autocorrelation_time(torch.randn(500, 40)) < 1.2
        True
    """
    length = len(chains)
    centred = chains.double() - chains.double().mean()
    spectrum = torch.fft.rfft(centred, 2 * length, dim=0)
    products = torch.fft.irfft(spectrum.abs().square(), 2 * length, dim=0)[:length].mean(1)
    # A chain's correlation over a lag is an average over as many pairs as there are.
    covariance = products / torch.arange(length, 0, -1, device=chains.device)
    if length < 4 or float(covariance[0]) <= 0:
        return float(length) if float(covariance[0]) <= 0 else 1.0
    correlation = covariance / covariance[0]
    pairs = correlation[: length // 2 * 2].view(-1, 2).sum(1)
    ends = (pairs <= 0).nonzero()
    num_pairs = int(ends[0]) if len(ends) else len(pairs)
    return max(1.0, float(2 * pairs[:num_pairs].sum() - 1))
