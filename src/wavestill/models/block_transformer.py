r"""A transformer over blocks of steps: autoregressive between blocks, all steps of one at once.

.. math:: p(x) = \prod_b \prod_{k=1}^{K} p_k(x_{bK+k} \mid x_1, \ldots, x_{bK})

References:
    | Attention Is All You Need (Vaswani et al., 2017), section 3, https://arxiv.org/abs/1706.03762
    | Blockwise Parallel Decoding (Stern et al., 2018), section 3 (heads for the steps of a block),
      https://arxiv.org/abs/1811.03115
    | PixelCNN++ (Salimans et al., 2017), section 2.1 (discretised mixture), https://arxiv.org/abs/1701.05517
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.density import Context
from wavestill.distributions import Base, Discretized, Distribution, Logistic, Mixture, Normal
from wavestill.models.calibration import unit_gain
from wavestill.models.sequences import sequence_noise
from wavestill.nn.attention import AttentionState, CausalTransformer
from wavestill.nn.causal import History
from wavestill.nn.states import rewound


@dataclass(frozen=True)
class BlockTransformerConfig:
    """The shape of a block transformer.

    Arguments:
        block_size: Steps `K` drawn at once; 1 is an ordinary autoregressive model.
        layers: Transformer layers.
        channels: Width of the residual path, a multiple of `2 * heads`.
        heads: Heads of each attention.
        reach_blocks: Blocks before its own that a block attends to in each layer.
        head: Law of a step: a mixture of logistics or a single Gaussian.
        num_mixtures: Logistics in the mixture.
        bits: The mixture's samples lie on the grid of this many bits over [-1, 1); None leaves
            them continuous. The Gaussian is continuous and ignores it.
        predictor_order: Taps of the learned linear predictors under the means, one for each step
            of a block; 0 for none.
        dropout: Probability of dropping what a branch adds, while training.
    """

    block_size: int = 8
    layers: int = 4
    channels: int = 128
    heads: int = 4
    reach_blocks: int = 256
    head: Literal["logistics", "gaussian"] = "logistics"
    num_mixtures: int = 10
    bits: int | None = 16
    predictor_order: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ValueError(f"'block_size' is {self.block_size}; a block has at least 1 step")
        if self.predictor_order < 0:
            raise ValueError(f"'predictor_order' is {self.predictor_order}; give 0 or more taps")


@dataclass
class BlockTransformerState:
    """What `advance` carries.

    The transformer stands at the block that is being filled, and may hold some blocks too many:
    where sequences stand apart they do not finish a block together, and a rewind takes blocks
    back. They are cut off before the next call.

    Arguments:
        block_size: Steps of a block.
        blocks: Of the transformer.
        laws: The laws' parameters of the block that is being filled.
        samples: The last steps: the block's own, and those the predictors reach back to.
        position: The step whose law comes next.
        surplus: Blocks that the first two hold too many.
    """

    block_size: int
    blocks: AttentionState
    laws: History
    samples: History
    position: int | Tensor
    surplus: int | Tensor = 0

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last steps; see `State`."""
        before = self.position
        self.samples.rewind(num_steps)
        self.position = rewound(before, num_steps)
        size = self.block_size
        self.surplus = self.surplus + before // size - self.position // size

    def select(self, index: Tensor) -> None:
        """Keep only the sequences `index (B',)`."""
        for part in (self.blocks, self.laws, self.samples):
            part.select(index)
        if isinstance(self.position, Tensor):
            self.position = rewound(self.position[index], 0)
        if isinstance(self.surplus, Tensor):
            self.surplus = self.surplus[index]

    def cut(self) -> None:
        """Take the surplus blocks off."""
        surplus = rewound(self.surplus, 0)  # one number where they agree
        if isinstance(surplus, Tensor) or surplus:
            self.blocks.rewind(surplus)
            self.laws.rewind(surplus)
        self.surplus = 0


class BlockTransformer(nn.Module):
    r"""Autoregressive density of sequences, a block of `K` steps at a time.

    .. math:: p(x) = \prod_t p(x_t \mid x_{\le K \lfloor (t - 1) / K \rfloor})

    A step is conditioned on the blocks before its own, and on nothing of its own: given those, the
    steps of a block are independent and drawn at once. This is an exact, normalised density for
    every `K`, and `conditionals` are its true laws :math:`p(x_t \mid x_{<t})`, which just do not
    look at all of :math:`x_{<t}`. What larger blocks cost is the information that the steps of a
    block hold about each other, in nats; what they save is transformer passes: `T / K` of them
    for a sample, on sequences of `T / K` positions.

    The law of step `k` of a block, for a mixture of logistics with linear predictors :math:`a_k`
    (of the `P` steps before the block) and the scales :math:`r_k` they leave:

    .. math:: p_k(x) = \sum_i \pi_{k,i} \, \mathrm{Logistic}\Big(x; \textstyle\sum_j a_{k,j}
        x_{bK-j} + r_k \mu_{k,i}, \; r_k s_{k,i}\Big)

    Arguments:
        config: The shape of the network.

    Example:
        >>> model = BlockTransformer(BlockTransformerConfig(4, layers=2, channels=16, heads=2))
        >>> model.log_prob(torch.zeros(2, 10)).shape, model.sample(2, length=10).shape
        (torch.Size([2]), torch.Size([2, 10]))
    """

    gain: Tensor
    residual_std: Tensor

    def __init__(self, config: BlockTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Linear(config.block_size, config.channels)
        self.transformer = CausalTransformer(
            config.layers, config.channels, config.heads, config.reach_blocks, config.dropout
        )
        self.hidden = nn.Linear(config.channels, 2 * config.channels)
        self.output = nn.Linear(2 * config.channels, config.block_size * self._num_outputs)
        self.predictor = (
            nn.Linear(config.predictor_order, config.block_size, bias=False)
            if config.predictor_order
            else None
        )
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("residual_std", torch.ones(config.block_size))
        self._begin()

    @property
    def base(self) -> Base:
        """The base noise its samples are made from."""
        return "normal" if self.config.head == "gaussian" else "logistic"

    @torch.no_grad()
    def calibrate(self, x: Tensor, frames: Tensor | None = None) -> None:
        """Set the gain and the linear predictors, with the scales they leave, from data.

        Arguments:
            x: Sequences `(N,)` or `(B, T)`.
            frames: Not used.
        """
        del frames
        self.gain.copy_(unit_gain(x))
        if self.predictor is None:
            return
        order, size = self.config.predictor_order, self.config.block_size
        signals = (x if x.dim() == 2 else x.unsqueeze(0)).double() * self.gain
        if signals.shape[1] < order + size:
            raise ValueError(
                f"sequences of {signals.shape[1]} steps do not tell {order} taps for blocks of "
                f"{size}; give longer ones"
            )
        windows = signals.unfold(1, order + size, 1).reshape(-1, order + size)
        past, block = windows[:, :order], windows[:, order:]
        gram = past.T @ past / len(past)
        # As for one step (`fit_linear_predictor`): a pure tone makes the equations singular.
        ridge = 1e-6 * gram[0, 0] * torch.eye(order, dtype=gram.dtype, device=gram.device)
        taps = torch.linalg.solve(gram + ridge, past.T @ block / len(past))  # (P, K)
        self.predictor.weight.copy_(taps.T)
        self.residual_std.copy_((block - past @ taps).std(0))

    def conditionals(self, x: Float[Tensor, "B T"], context: Context = None) -> Distribution:
        """The law of every step given the blocks before its own, in one pass.

        Arguments:
            x: Sequences `(B, T)`; the last block may be a part of one.
            context: None: the density is unconditional.

        Raises:
            ValueError: If a context is given.
        """
        _require_no_context(context)
        size, order = self.config.block_size, self.config.predictor_order
        num_blocks = -(-x.shape[1] // size)
        lead = max(size, order)
        seen = F.pad(x[:, : (num_blocks - 1) * size], (lead, 0))  # before the first: silence
        blocks = seen[:, lead - size :].unfold(1, size, size)
        windows = seen[:, lead - order :].unfold(1, order, size) if order else None
        return self._law(
            self._law_parameters(blocks, windows, None).flatten(1, 2)[:, : x.shape[1]]
        )

    @torch.no_grad()
    def advance(
        self,
        x_new: Float[Tensor, "B n"],
        context: Context = None,
        state: BlockTransformerState | None = None,
    ) -> tuple[Distribution, BlockTransformerState]:
        """The laws that become known with `x_new`: see `Autoregressive`; carries no gradient.

        The transformer runs when a block is full; until then the laws of its steps are at hand.
        """
        _require_no_context(context)
        num_laws = x_new.shape[1] + (state is None)
        state, parameters, phase = self._extended(x_new, state)
        flat = parameters.flatten(1, 2)  # from the first step of the block that was being filled
        if isinstance(phase, int):
            return self._law(flat[:, phase + 1 :][:, :num_laws].clone()), state
        index = phase.unsqueeze(1) + torch.arange(1, num_laws + 1, device=x_new.device)
        return self._law(flat.gather(1, index.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))), state

    @torch.no_grad()
    def advance_block(
        self, block: Float[Tensor, "B n"], state: BlockTransformerState | None = None
    ) -> tuple[Distribution, BlockTransformerState]:
        """The laws of the next `block_size` steps, `(B, K)`, once a block has been seen.

        Arguments:
            block: The block `(B, K)`, or nothing `(B, 0)` before the first.
            state: What the block before returned; None at the beginning.

        Raises:
            ValueError: If the sequence does not end with a block then.
        """
        state, parameters, _ = self._extended(block, state)
        if not isinstance(state.position, int) or state.position % self.config.block_size:
            raise ValueError(
                f"the sequence stands at step {state.position}, within a block of "
                f"{self.config.block_size}; give whole blocks, or use 'advance'"
            )
        return self._law(parameters[:, -1].clone()), state

    def log_prob(self, x: Float[Tensor, "B T"], context: Context = None) -> Float[Tensor, " B"]:
        """Log-likelihood in nats: of the grid's bins, or a log-density where the law has none."""
        return self.conditionals(x, context).log_prob(x).sum(-1)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        context: Context = None,
        *,
        length: int | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B T"]:
        """Ancestral samples, one pass for each block, `(num, T)`.

        Arguments:
            num: Sequences to draw.
            context: None: the density is unconditional.
            length: Steps `T`.
            temperature: Factor on the base noise; 1 samples the density itself.
            generator: Source of the noise.
        """
        _require_no_context(context)
        noise = sequence_noise(
            self.base,
            num,
            length,
            None,
            temperature=temperature,
            generator=generator,
            like=self.gain,
        )
        blocks: list[Tensor] = [noise[:, :0]]
        state: BlockTransformerState | None = None
        for z in torch.split(noise, self.config.block_size, dim=1):
            laws, state = self.advance_block(blocks[-1], state)
            blocks.append(laws[:, : z.shape[1]].from_noise(z))
        return torch.cat(blocks, 1)

    @property
    def _num_outputs(self) -> int:
        """Parameters of the law of a step."""
        return 2 if self.config.head == "gaussian" else 3 * self.config.num_mixtures

    def _begin(self) -> None:
        """Start the output near zero, the mixture's components at widths that part them."""
        nn.init.normal_(self.output.weight, std=0.1 / math.sqrt(self.output.in_features))
        nn.init.zeros_(self.output.bias)
        if self.predictor is not None:
            nn.init.zeros_(self.predictor.weight)
        if self.config.head == "logistics":
            with torch.no_grad():
                bias = self.output.bias.view(self.config.block_size, 3, self.config.num_mixtures)
                bias[:, 2] = torch.linspace(-2.5, 0.0, self.config.num_mixtures)

    def _extended(
        self, x_new: Tensor, state: BlockTransformerState | None
    ) -> tuple[BlockTransformerState, Tensor, int | Tensor]:
        """The state after `x_new (B, n)`, and what is known of the laws by then.

        That is their parameters `(B, 1 + m, K, P)`, of the block that was being filled and of
        those that follow, and where in the first of them the sequences stood before.
        """
        size, order = self.config.block_size, self.config.predictor_order
        reach = max(size, order) - 1
        is_first = state is None
        if state is None:  # a block of silence comes before the first
            blocks = self.transformer.fresh_state()
            laws, samples = History(1, room=16), History(reach)
            state = BlockTransformerState(size, blocks, laws, samples, -size)
            x_new = F.pad(x_new, (size, 0))
        state.cut()
        phase, num_new = state.position % size, x_new.shape[1]
        window = state.samples.extend(x_new.unsqueeze(-1)).squeeze(-1)  # (B, reach + n)
        num_full = (phase + num_new) // size
        most = int(num_full) if isinstance(num_full, int) else int(num_full.max())
        if most:
            start = reach - phase
            blocks_new = _pieces(window, start, most, size, size)
            past = _pieces(window, start + size - order, most, order, size) if order else None
            parameters = self._law_parameters(blocks_new, past, state.blocks).flatten(2)
            known = state.laws.extend(parameters)
            state.surplus = most - num_full
        else:
            known = state.laws.last(window)
        state.position = state.position + num_new
        parameters = known.view(len(known), -1, size, self._num_outputs)
        return state, parameters, size - 1 if is_first else phase

    def _law_parameters(
        self, blocks: Tensor, past: Tensor | None, state: AttentionState | None
    ) -> Tensor:
        """Parameters `(B, m, K, P)` of the laws that follow `blocks (B, m, K)`, in data's units.

        The predictors take the steps `past (B, m, order)` before them.
        """
        h = self.transformer(self.input(blocks * self.gain), state)
        hidden = F.gelu(self.hidden(h))
        unit = (self.residual_std / self.gain).unsqueeze(-1)  # (K, 1)
        with torch.autocast(hidden.device.type, enabled=False):  # the laws keep full precision
            out: Tensor = self.output(hidden.to(self.output.weight.dtype))
            out = out.view(*out.shape[:2], self.config.block_size, -1)
            count = 1 if self.config.head == "gaussian" else self.config.num_mixtures
            logits, loc, log_scale = out.tensor_split((out.shape[-1] - 2 * count, -count), -1)
            loc = loc * unit
            if self.predictor is not None and past is not None:
                loc = loc + self.predictor(past).unsqueeze(-1)
            return torch.cat([logits, loc, log_scale + unit.log()], -1)

    def _law(self, parameters: Tensor) -> Distribution:
        """Laws of steps from their parameters `(..., P)`."""
        if self.config.head == "gaussian":
            return Normal(*parameters.unbind(-1))
        logits, loc, log_scale = parameters.chunk(3, dim=-1)
        mixture = Mixture(logits, Logistic(loc, log_scale))
        if self.config.bits is None:
            return mixture
        bin_width = 2.0 ** (1 - self.config.bits)
        return Discretized(mixture, bin_width, -1.0, 1.0 - bin_width)


def _pieces(window: Tensor, start: int | Tensor, num: int, width: int, step: int) -> Tensor:
    """`num` pieces of `window (B, n)`, `step` apart: `(B, num, width)`.

    Where sequences begin apart `(B,)`, pieces beyond the end of one are filled with what is there.
    """
    if isinstance(start, int):
        return window[:, start : start + (num - 1) * step + width].unfold(1, width, step)
    piece = torch.arange(num, device=window.device).unsqueeze(1) * step
    index = start.view(-1, 1, 1) + piece + torch.arange(width, device=window.device)
    index = index.clamp(max=window.shape[1] - 1).flatten(1)
    return window.gather(1, index).view(-1, num, width)


def _require_no_context(context: Context) -> None:
    if context is not None:
        raise ValueError("a context was given but the model is unconditional; leave it out")
