"""Points for one-dimensional integrals over known laws: one in each stratum of equal mass."""

import torch
from torch import Tensor

from wavestill.distributions import Base, Distribution, Smoothed


def stratified_noise(
    base: Base,
    num_points: int,
    shape: tuple[int, ...],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Draw base noise, one point in each of ``num_points`` strata of equal mass, (n, *shape).

    .. math:: z_i = F_{base}^{-1}(u_i), \quad u_i = (i + U_i) / n, \quad U_i \sim U(0, 1)

    The jitter U is independent for every element and stratum: the mean of g(z_i) is unbiased for
    E g(z), and errors of different steps do not add up in a gradient.

    References:
        | Monte Carlo theory, methods and examples (Owen, 2013), section 8.4,
          https://artowen.su.domains/mc/
    """
    # Drawn where the generator is: one on the CPU serves every device.
    source = device if generator is None else generator.device
    jitter = torch.rand((num_points, *shape), generator=generator, device=source, dtype=dtype)
    jitter = jitter.to(device)
    # rand is in [0, 1) in steps of eps / 2 or less: half of that keeps the quantile finite.
    jitter = jitter.clamp(min=torch.finfo(jitter.dtype).eps / 4)
    i = torch.arange(num_points, device=device, dtype=dtype).view(-1, *(1 for _ in shape))
    # n u and n (1 - u), each from its own end, so that neither tail is rounded away.
    below, above = i + jitter, (num_points - 1 - i) + (1 - jitter)
    if base == "logistic":
        return below.log() - above.log()
    z = torch.special.ndtri(torch.minimum(below, above) / num_points)
    return torch.where(below < above, z, -z)


def stratified_points(
    law: Distribution,
    num_points: int,
    shape: tuple[int, ...],
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Points of a law, one in each stratum of its noise, (n, *shape); reparametrised.

    The relaxation of a discretised law is that law's continuous part plus a uniform of one bin
    width, and is drawn so.
    """
    options = {"generator": generator, "device": law.device, "dtype": law.dtype}
    z = stratified_noise(law.base, num_points, shape, **options)  # type: ignore[arg-type]
    if not isinstance(law, Smoothed):
        return law.from_noise(z)
    source = law.device if generator is None else generator.device
    u = torch.rand(z.shape, generator=generator, device=source, dtype=z.dtype).to(z.device)
    return law.continuous.from_noise(z) + law.bin_width * (u - 0.5)
