"""The textbook baseline: the receptive field is computed anew for every sample."""

from collections.abc import Callable

import torch
from torch import Tensor

from wavestill.density import Autoregressive, Context
from wavestill.sampling.cached import check_noise


@torch.no_grad()
def naive(
    model: Autoregressive,
    noise: Tensor,
    context: Context = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    r"""Map noise to a sample, computing the past anew for every step.

    .. math:: x_t = F_p^{-1}(F_\mathrm{base}(z_t) \mid x_{<t})

    Costs `T` passes over the receptive field `R` (over the whole past, where the model has none):
    it exists to be measured against. Arguments and result as `cached`.
    """
    check_noise(noise)
    encoded = model.encode(context) if hasattr(model, "encode") else context
    reach = getattr(model, "receptive_field", None)
    x = torch.zeros_like(noise)
    for t in range(noise.shape[1]):
        start = 0 if reach is None else max(0, t - reach)
        here = encoded.at(start) if hasattr(encoded, "at") else encoded
        laws = model.conditionals(x[:, start : t + 1], here)
        x[:, t : t + 1] = laws[:, -1:].from_noise(noise[:, t : t + 1])
        if progress is not None:
            progress(t + 1)
    return x
