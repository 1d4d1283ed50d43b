r"""Ancestral sampling with the state carried from step to step: `T` steps of constant cost."""

from collections.abc import Callable

import torch
from torch import Tensor

from wavestill.density import Autoregressive, Context, State


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
    return CachedSampler(model).extend(noise, context, progress=progress)


class CachedSampler:
    """`cached`, stretch by stretch: the sound of each goes on where the one before ended.

    Arguments:
        model: The density.
    """

    def __init__(self, model: Autoregressive) -> None:
        self._model = model
        self._state: State | None = None
        self._last: Tensor | None = None

    @torch.no_grad()
    def extend(
        self,
        noise: Tensor,
        context: Context = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """The sample's next steps `(B, n)`.

        Arguments:
            noise: Their base draws, `(B, n)`.
            context: The whole context, with the first stretch; or with each the piece of an
                `Encoded` one that it lies in.
            progress: Called with the number of finished steps after each.
        """
        x = torch.empty_like(noise)
        last = noise[:, :0] if self._last is None else self._last
        for t in range(noise.shape[1]):
            laws, self._state = self._model.advance(last, context, self._state)
            last = laws.from_noise(noise[:, t : t + 1])
            x[:, t : t + 1] = last
            if progress is not None:
                progress(t + 1)
        self._last = last
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
