r"""One affine inverse autoregressive flow, and the shape of a stack of them.

References:
    | Parallel WaveNet (van den Oord et al., 2018), section 3, https://arxiv.org/abs/1711.10433
    | Inverse autoregressive flow (Kingma et al., 2016), https://arxiv.org/abs/1606.04934
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.distributions import Base
from wavestill.nn.causal import History, with_past
from wavestill.nn.conditioning import ConditioningConfig, Encoded
from wavestill.nn.gated import GatedStack


@dataclass(frozen=True)
class IAFWaveNetConfig:
    """The shape of a student. The defaults are the paper's.

    Arguments:
        flows: Gated layers of each flow, in the order in which the noise passes them.
        dilation_cycle: Layers after which the dilation is 1 again.
        channels: Width of every flow's network.
        filter_width: Taps of each dilated convolution.
        base: The base noise; the student's own steps have its shape.
        initial_scale: Total scale before training, as a share of the data's standard deviation.
        predictor_order: Taps of a fixed linear synthesis filter that the last flow's output
            passes; 0 for none.
        conditioning: What the model is conditioned on; None for nothing.
    """

    flows: tuple[int, ...] = (10, 10, 10, 30)
    dilation_cycle: int = 10
    channels: int = 64
    filter_width: int = 3
    base: Base = "logistic"
    initial_scale: float = 0.05
    predictor_order: int = 0
    conditioning: ConditioningConfig | None = None

    def __post_init__(self) -> None:
        if not self.flows or min(self.flows) < 1:
            raise ValueError(f"'flows' is {list(self.flows)}; each flow needs a layer")
        for name in ("dilation_cycle", "channels", "filter_width", "initial_scale"):
            if getattr(self, name) <= 0:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must be positive")


@dataclass
class FlowState:
    """What one flow carries from chunk to chunk."""

    previous: History
    stack: list[History]

    def histories(self) -> list[History]:
        """All of them."""
        return [self.previous, *self.stack]


class AffineIAF(nn.Module):
    r"""One affine inverse autoregressive step, :math:`x_t = \mu(z_{<t}, c) + z_t \, s(z_{<t}, c)`.

    The Jacobian is lower triangular with :math:`s_t` on its diagonal. The last layer starts at
    zero, so that the flow begins as the location 0 and the scale it is given.

    Arguments:
        num_layers: Gated layers.
        config: The student's shape.
        log_scale: Initial log-scale, in nats of the inner signal.
    """

    def __init__(self, num_layers: int, config: IAFWaveNetConfig, log_scale: float) -> None:
        super().__init__()
        conditioning = config.conditioning
        num_inputs = 1 + (2 * conditioning.num_harmonics if conditioning else 0)
        self.input = nn.Linear(num_inputs, config.channels)
        self.stack = GatedStack(
            num_layers,
            config.dilation_cycle,
            config.channels,
            config.channels,
            0,
            config.filter_width,
            conditioning.channels if conditioning else 0,
        )
        self.output = nn.Linear(config.channels, 2)
        nn.init.zeros_(self.output.weight)
        with torch.no_grad():
            self.output.bias.copy_(torch.tensor([0.0, log_scale]))

    def shape(
        self, previous: Tensor, encoded: Encoded | None, stack: list[History] | None
    ) -> tuple[Tensor, Tensor]:
        """Location and log-scale `(B, n)` of the steps that follow the inputs `previous`."""
        signal = previous.unsqueeze(-1)
        source = None if encoded is None else encoded.source_at(previous.shape[1])
        h = self.input(signal if source is None else torch.cat([signal, source], -1))
        out = F.relu(self.stack(h, encoded, stack))
        with torch.autocast(
            out.device.type, enabled=False
        ):  # the law's parameters keep full precision
            loc, log_scale = self.output(out.to(self.output.weight.dtype)).unbind(-1)
        # Beyond these a product over the flows leaves float32's range before the loss can pull it
        # back.
        return loc, log_scale.clamp(-9.0, 7.0)

    def forward(
        self, z: Tensor, encoded: Encoded | None, state: FlowState | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`z (B, n)` to the flow's output, location and log-scale, each `(B, n)`."""
        delayed = with_past(z.unsqueeze(-1), 1, None if state is None else state.previous)[
            :, :-1, 0
        ]
        loc, log_scale = self.shape(delayed, encoded, None if state is None else state.stack)
        return loc + log_scale.exp() * z, loc, log_scale

    def fresh_state(self) -> FlowState:
        """Silence before the first sample."""
        return FlowState(History(1), self.stack.histories())
