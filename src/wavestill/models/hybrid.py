r"""A sequential density of few things and a parallel one of many.

.. math:: p(z, x) = p_{AR}(z) \; p_{NAR}(x \mid z)
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wavestill.density import Conditioning, Context, Density, Streaming
from wavestill.distributions import Base
from wavestill.sampling.streaming import FramePieces, StudentSampler, stream


class Joint(NamedTuple):
    """Latents and what they become.

    Arguments:
        z: `(B, ...)`, commonly frames `(B, F, C)`.
        x: `(B, ...)`, commonly samples `(B, T)`.
    """

    z: Tensor
    x: Tensor


class JointLogProb(NamedTuple):
    r"""The two terms of a joint log-likelihood, each `(B,)`, in nats.

    Arguments:
        z: :math:`\log p(z)`.
        x: :math:`\log p(x \mid z)`.
    """

    z: Tensor
    x: Tensor


@runtime_checkable
class StreamingPrior(Protocol):
    """A density of frames that come one by one: `FramePrior`."""

    def stream(
        self, num_frames: int, *, seed: int = 0, temperature: float = 1.0
    ) -> Iterator[Tensor]:
        """Frames `(n, C)` as they are drawn."""
        ...


@runtime_checkable
class StreamingDecoder(Streaming, Protocol):
    """A student that takes its frames piece by piece: `IAFWaveNet`, `PackedStudent`."""

    base: Base

    def frame_stream(self, speaker: Tensor | None = None) -> FramePieces:
        """Its conditioning network, begun anew."""
        ...


def as_frames(z: Tensor) -> Conditioning:
    """Latents `(B, F, C)` as the frames that a sequence model is conditioned on."""
    return Conditioning(frames=z)


class Hybrid(nn.Module):
    r"""The joint density :math:`p(z, x) = p(z) \, p(x \mid z)`.

    What is hard to know and short, `z`, is drawn step by step; what is long and easy once `z` is
    known, `x`, all at once. With a `FramePrior` and a student that is a voice that babbles: 80
    sequential steps a second instead of 16,000. Where the decoder is a teacher, its likelihood
    costs one pass; a student's is exact too, by sequential inversion.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), section 3.3 (a prior
          over the latents of a decoder), https://arxiv.org/abs/1711.00937
        | Parallel WaveNet (van den Oord et al., 2018), section 3 (the decoder),
          https://arxiv.org/abs/1711.10433

    Arguments:
        prior: Density of `z`.
        decoder: Density of `x` given a context.
        adapter: From `z` to the decoder's context.

    Example:
        >>> from wavestill.models import IAFWaveNet, IAFWaveNetConfig
        >>> from wavestill.models.frame_prior import FramePrior, FramePriorConfig
        >>> from wavestill.nn.conditioning import ConditioningConfig
        >>> prior = FramePrior(FramePriorConfig(5, layers=1, channels=16, hidden=16))
        >>> frames = ConditioningConfig(5, hop_samples=8, sample_rate=800, channels=4)
        >>> decoder = IAFWaveNet(IAFWaveNetConfig(flows=(2,), channels=4, conditioning=frames))
        >>> hybrid = Hybrid(prior, decoder)
        >>> z, x = hybrid.sample(2, length=3)
        >>> z.shape, x.shape, hybrid.log_prob((z, x)).shape
        (torch.Size([2, 3, 5]), torch.Size([2, 24]), torch.Size([2]))
    """

    def __init__(
        self,
        prior: Density,
        decoder: Density,
        adapter: Callable[[Tensor], Context] = as_frames,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.decoder = decoder
        self.adapter = adapter

    def log_prob(self, joint: tuple[Tensor, Tensor], context: Context = None) -> Tensor:
        """Joint log-density of `(z, x)` in nats, `(B,)`.

        Arguments:
            joint: Latents and what they became, of as many sequences.
            context: What the latents are conditioned on, if the prior takes it.

        Raises:
            ValueError: If there are not as many latents as sequences.
        """
        parts = self.log_prob_parts(joint, context)
        return parts.z + parts.x

    def log_prob_parts(
        self, joint: tuple[Tensor, Tensor], context: Context = None
    ) -> JointLogProb:
        """The two terms of `log_prob`."""
        z, x = joint
        if len(z) != len(x):
            raise ValueError(f"there are {len(z)} latents for {len(x)} sequences; give one each")
        return JointLogProb(
            self.prior.log_prob(z, context), self.decoder.log_prob(x, self.adapter(z))
        )

    @torch.no_grad()
    def sample(
        self,
        num: int,
        context: Context = None,
        *,
        length: int | None = None,
        temperature: float | None = None,
        decoder_temperature: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Joint:
        """Latents, then all of `x` at once.

        Arguments:
            num: Independent draws.
            context: As for `log_prob`.
            length: Steps of `z`, for priors that ask for it.
            temperature: For the prior's `sample`; None leaves it out.
            decoder_temperature: For the decoder's `sample`; None leaves it out.
            generator: For both; None leaves it out.
        """
        drawn = {"length": length, "temperature": temperature, "generator": generator}
        z = self.prior.sample(num, context, **_given(drawn))
        decoded = {"temperature": decoder_temperature, "generator": generator}
        return Joint(z, self.decoder.sample(num, self.adapter(z), **_given(decoded)))

    def stream(
        self,
        num_frames: int,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        decoder_temperature: float = 1.0,
        chunk_samples: int | None = None,
    ) -> Iterator[Tensor]:
        """Sound `(n,)` while its frames are still being drawn, in bounded memory.

        Frames come one by one and are handed on at once; the student makes the samples of each
        stretch together. The adapter is left out: frames go to the decoder as they are.

        Arguments:
            num_frames: Frames to draw.
            seed: Of the noise of both.
            temperature: Factor on the prior's noise.
            decoder_temperature: Factor on the decoder's.
            chunk_samples: Samples of each piece but the last; None gives what is ready.

        Raises:
            ValueError: If prior or decoder cannot go piece by piece.
        """
        prior, decoder = self.prior, self.decoder
        if not isinstance(prior, StreamingPrior) or not isinstance(decoder, StreamingDecoder):
            raise ValueError(
                f"{type(prior).__name__} and {type(decoder).__name__} do not both stream; use "
                "'sample', or a FramePrior with an IAFWaveNet"
            )
        return stream(
            StudentSampler(decoder),
            decoder.frame_stream(),
            prior.stream(num_frames, seed=seed, temperature=temperature),
            decoder.base,
            seed=seed,
            temperature=decoder_temperature,
            chunk_samples=chunk_samples,
        )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given: not every density takes them."""
    return {name: value for name, value in options.items() if value is not None}
