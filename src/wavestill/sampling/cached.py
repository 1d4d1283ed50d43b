r"""Ancestral sampling with the state carried from step to step: `T` steps of constant cost."""

from collections.abc import Callable

import torch
from torch import Tensor

from wavestill.density import Autoregressive, Context


@torch.no_grad()
def cached(
    model: Autoregressive,
    noise: Tensor,
    context: Context = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    r"""Map noise to a sample, one `advance` per step.

    .. math:: x_t = F_p^{-1}(F_\mathrm{base}(z_t) \mid x_{<t})

    Exact: the same map as `naive`, at the cost of one step of the network per sample.

    References:
        | Fast WaveNet generation (Le Paine et al., 2016), https://arxiv.org/abs/1611.09482

    Arguments:
        model: The density.
        noise: Base draws `z (B, T)` of the kind that the model's steps take
            (`standard_noise(model.base, ...)`).
        context: As for the model's `conditionals`.
        progress: Called with the number of finished steps after each.

    Returns:
        The sample, `(B, T)`.

    Raises:
        ValueError: If the noise is not finite or has no steps.
    """
    check_noise(noise)
    x = torch.empty_like(noise)
    laws, state = model.advance(noise[:, :0], context, None)
    for t in range(noise.shape[1]):
        x[:, t : t + 1] = laws.from_noise(noise[:, t : t + 1])
        if t + 1 < noise.shape[1]:
            laws, state = model.advance(x[:, t : t + 1], context, state)
        if progress is not None:
            progress(t + 1)
    return x


def check_noise(noise: Tensor) -> None:
    """Refuse noise that no sample can come from.

    Raises:
        ValueError: If it is not `(B, T)` with at least one step, or not finite.
    """
    if noise.dim() != 2 or noise.shape[1] == 0:
        raise ValueError(f"noise must be (batch, at least one step), not {tuple(noise.shape)}")
    if not bool(torch.isfinite(noise).all()):
        raise ValueError(
            f"{int((~torch.isfinite(noise)).sum())} values of the noise are not finite; "
            "draw it anew"
        )
