r"""A continuous flow of vectors: a density whose map to noise is a differential equation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from zuko.flows import CNF as ZukoCNF  # type: ignore[import-untyped]

from wavestill.distributions import Base, standard_noise
from wavestill.models.standardised import Standardised


class CNF(Standardised):
    r"""A continuous normalising flow (zuko's) behind our protocol: a teacher without steps.

    .. math:: \frac{d v}{d t} = f(t, v, c), \qquad z = v(1), \; v(0) = (x - \mu) / s, \qquad
        \log p(x) = \log N(z; 0, 1) + \int_0^1 \mathrm{tr} \frac{\partial f}{\partial v}\, dt
            - \sum_i \log s_i

    Both ways cost a solution of the equation, some tens of passes; the density besides a trace of
    `D` gradients each.

    References:
        | Neural Ordinary Differential Equations (Chen et al., 2018), section 4,
          https://arxiv.org/abs/1806.07366
        | FFJORD (Grathwohl et al., 2018), section 3, https://arxiv.org/abs/1810.01367

    Arguments:
        num_dims: Numbers `D` of a vector.
        num_context: Numbers that a vector is conditioned on; 0 for none.
        hidden: Widths of the field's network.
        tolerance: Of the solver, absolute; relative ten times as much.

    Example:
        >>> flow = CNF(2)
        >>> flow.log_prob(flow.sample(3)).shape
        torch.Size([3])
    """

    base: Base = "normal"

    def __init__(
        self,
        num_dims: int,
        num_context: int = 0,
        *,
        hidden: Sequence[int] = (64, 64),
        tolerance: float = 1e-5,
    ) -> None:
        super().__init__(num_dims, num_context)
        self.flow: nn.Module = ZukoCNF(
            num_dims,
            num_context,
            hidden_features=hidden,
            activation=nn.SiLU,
            atol=tolerance,
            rtol=10 * tolerance,
        )

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-density in nats, `(B,)`."""
        context = self.check(x, context)
        log_prob: Tensor = self.flow(context).log_prob(self.standardised(x))
        return log_prob - self.log_scale.sum()

    @torch.no_grad()
    def sample(
        self, num: int, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """`num` draws, `(num, D)`."""
        like = self.loc
        noise = standard_noise(
            self.base,
            (num, self.num_dims),
            generator=generator,
            device=like.device,
            dtype=like.dtype,
        )
        v: Tensor = self.flow(self.check(noise, context)).transform.inv(noise)
        return self.loc + self.log_scale.exp() * v
