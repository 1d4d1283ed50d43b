r"""The cached sampler in C++: no Python between the samples.

Weights are packed once and read through once per step, for all streams; what a step computes is
that of the PyTorch path, in float32. The draw is the same map, so the same noise gives the same
sound, until a draw falls within rounding of a gap between two modes.
"""

import copy
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavestill.density import Context, Draw
from wavestill.distributions import Discretized, Distribution, Logistic, Mixture, MuLaw, Normal
from wavestill.nn.conditioning import Encoded
from wavestill.nn.native import float32_array, is_available, why_not
from wavestill.sampling.cached import CachedSampler, cached, check_noise

if TYPE_CHECKING:
    from wavestill.models import IAFWaveNet, WaveNet

if is_available():
    from wavestill import _native

Weights = Literal["float32", "bfloat16"]
Progress = Callable[[int], None]


def read_bandwidth(num_bytes: int, repeats: int = 5) -> list[float]:
    """GB/s of merely reading a buffer again and again on one core, for each repeat.

    What a step-by-step sampler, which reads all its weights for every sample, can reach at most.

    Raises:
        RuntimeError: If the kernel is not available.
    """
    _require()
    return _native.read_bandwidth(num_bytes, repeats)


@torch.no_grad()
def native(
    model: "WaveNet",
    noise: Tensor,
    context: Context = None,
    *,
    weights: Weights = "float32",
    threads: int = 1,
    progress: Progress | None = None,
) -> Tensor:
    r"""Map noise to a sample with the native kernel.

    .. math:: x_t = F_p^{-1}(F_\mathrm{base}(z_t) \mid x_{<t})

    Where the kernel cannot be loaded, `cached` draws in its place, and a warning says so once.

    Arguments:
        model: The density.
        noise: Base draws `z (B, T)` (`standard_noise(model.base, ...)`).
        context: As for the model's `conditionals`.
        weights: How they are stored; they are multiplied and summed in float32 either way.
        threads: Streams are split among them; the sample is the same to the bit.
        progress: Called from time to time with the number of finished steps.

    Returns:
        The sample, `(B, T)`: float32 values in the dtype of the noise.

    Raises:
        ValueError: If the noise or the conditioning is not finite, has no steps, or is not of the
            model's shape.
    """
    if not is_available():
        _warn_once()
        return cached(model, noise, context, progress=progress)
    sampler = NativeSampler(model, weights=weights, threads=threads)
    return sampler.extend(noise, context, progress=progress)


def native_sampler(
    model: "WaveNet", *, weights: Weights = "float32", threads: int = 1
) -> "NativeSampler | CachedSampler":
    """A `NativeSampler`; where the kernel cannot be loaded a `CachedSampler`, with a warning."""
    if is_available():
        return NativeSampler(model, weights=weights, threads=threads)
    _warn_once()
    return CachedSampler(model)


class NativeSampler:
    """`native`, stretch by stretch: the sound of each goes on where the one before ended.

    The first stretch says how many sequences there are. A call that is interrupted (Ctrl-C, or an
    error in `progress`) leaves the streams at different steps: begin anew after it.

    Arguments:
        model: The density; a later change of its weights is not seen.
        weights: How they are stored.
        threads: Streams are split among them.
        instruction_set: One of `instruction_sets()`; None takes the fastest.

    Raises:
        RuntimeError: If the kernel is not available.
        ValueError: If a weight of the model is not finite.

    Example:
        >>> from wavestill import WaveNet, WaveNetConfig
        >>> from wavestill.distributions import counter_noise
        >>> teacher = WaveNet(WaveNetConfig(layers=2, dilation_cycle=2, residual_channels=4))
        >>> sampler = native_sampler(teacher)
        >>> z = counter_noise(teacher.base, 0, 1, 30)
        >>> pieces = [sampler.extend(z[:, :10]), sampler.extend(z[:, 10:])]
        >>> bool((torch.cat(pieces, 1) - native(teacher, z)).abs().max() < 1e-5)
        True
    """

    def __init__(
        self,
        model: "WaveNet",
        *,
        weights: Weights = "float32",
        threads: int = 1,
        instruction_set: str | None = None,
    ) -> None:
        _require()
        from wavestill.models.arrays import teacher_arrays  # models import this package

        self._model = model
        self._arrays = teacher_arrays(model)
        self._packed = _native.pack_teacher(self._arrays, weights, instruction_set or "")
        self._threads = threads
        self._streams: _native.Sampler | None = None
        self._encoded: Encoded | None = None

    def anew(self) -> "NativeSampler":
        """Another one at its beginning, with the same packed weights."""
        other = copy.copy(self)
        other._streams = other._encoded = None
        return other

    @property
    def position(self) -> int:
        """Samples drawn so far."""
        return 0 if self._streams is None else self._streams.position

    @property
    def instruction_set(self) -> str:
        """The instruction set in use."""
        return self._packed.instruction_set

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights of a step."""
        return self._packed.weight_bytes

    def step_bytes(self, num: int = 1) -> float:
        """Bytes of weights that a step of `num` sequences on one thread reads, on average.

        Fewer than all: taps that reach back eight steps or more are multiplied for a block of
        steps at once, whose length shrinks as sequences grow in number, from 8 to 1.
        """
        return self._packed.step_bytes(num)

    @torch.no_grad()
    def extend(
        self, noise: Tensor, context: Context = None, *, progress: Progress | None = None
    ) -> Tensor:
        """The sample's next steps `(B, n)`.

        Arguments:
            noise: Their base draws, `(B, n)`.
            context: The whole context, with the first stretch; or with each the piece of an
                `Encoded` one that it lies in.
            progress: Called from time to time with the number of finished steps of the stretch.
        """
        check_noise(noise)
        num, length = noise.shape
        streams, condition = self._at(num, length, context)
        x = streams.draw(_float64(noise), condition, progress)
        return torch.from_numpy(x).to(noise)

    @torch.no_grad()
    def extend_from_seed(
        self,
        seed: int,
        num: int,
        length: int,
        context: Context = None,
        *,
        first_stream: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        """The same from `counter_noise(base, seed, num, length, start=position)`, made inside.

        Arguments:
            seed: Of all the streams, in [0, 2^64).
            num: Sequences `B`.
            length: Steps `n`.
            context: As for `extend`.
            first_stream: Number of the first sequence's stream.
            progress: As for `extend`.

        Returns:
            `(B, n)`, float32.
        """
        streams, condition = self._at(num, length, context)
        x = streams.draw_seeded(length, seed, first_stream, self.position, condition, progress)
        return torch.from_numpy(x)

    @torch.no_grad()
    def follow(
        self, x: Tensor, context: Context = None, *, progress: Progress | None = None
    ) -> Distribution:
        """The laws of the next steps, `(B, n)`, given that their samples are `x (B, n)`.

        In one call from the beginning these are the model's `conditionals`.
        """
        check_waveform(x)
        num, length = x.shape
        streams, condition = self._at(num, length, context)
        laws = streams.follow(float32_array(x), condition, progress)
        return self._law(torch.from_numpy(laws))

    def _at(
        self, num: int, length: int, context: Context
    ) -> tuple["_native.Sampler", "_native.Condition"]:
        """The streams, and the conditioning under their next steps."""
        if self._streams is None:
            self._encoded = self._model.encode(context)
            if num < 1:
                raise ValueError(f"there must be at least one sequence, not {num}")
            self._streams = _native.Sampler(self._packed, num, self._threads)
        elif isinstance(context, Encoded):
            self._encoded = context
        return self._streams, _condition(self._encoded, self.position, length)

    def _law(self, laws: Tensor) -> Distribution:
        if self._arrays.head == "mulaw":
            return MuLaw(laws)
        if self._arrays.head == "gaussian":
            loc, log_scale = laws.unbind(-1)
            return Normal(loc, log_scale)
        logits, loc, log_scale = laws.chunk(3, dim=-1)
        mixture = Mixture(logits, Logistic(loc, log_scale))
        if not self._arrays.bits:
            return mixture
        bin_width = 2.0 ** (1 - self._arrays.bits)
        return Discretized(mixture, bin_width, -1.0, 1.0 - bin_width)


@torch.no_grad()
def native_invert(
    student: "IAFWaveNet",
    x: Tensor,
    context: Context = None,
    *,
    weights: Weights = "float32",
    threads: int = 1,
    noise_max: float | None = None,
    progress: Progress | None = None,
) -> Draw:
    """`student.invert(x, context)` with the native kernel: the noise that maps to given audio.

    Where the kernel cannot be loaded, the student's own `invert` is used, and a warning says so
    once. Arguments as for `native`; `x` are waveforms `(B, T)`.

    Raises:
        ValueError: If `x` or the conditioning is not finite, has no steps, or is not of the
            model's shape.
    """
    check_waveform(x)
    if not is_available():
        _warn_once()
        return student.invert(x, context, noise_max=noise_max)
    from wavestill.models.arrays import student_arrays  # models import this package
    from wavestill.models.sequences import sequence_length

    encoded = student.encode(context)
    if encoded is not None:
        sequence_length(encoded.num_samples, x.shape[1])
    flowed, predicted = student.flows_output(x)
    packed = _native.pack_student(student_arrays(student), weights)
    streams = _native.Inverter(packed, x.shape[0], threads)
    condition = _condition(encoded, 0, x.shape[1])
    parts = streams.invert(_float64(flowed), condition, progress, noise_max or 0.0)
    noise, loc, log_scale = (torch.from_numpy(part).to(x) for part in parts)
    return student.inverted(x, noise, loc, log_scale, predicted)


def check_waveform(x: Tensor) -> None:
    """Refuse waveforms that no noise maps to.

    Raises:
        ValueError: If they are not `(B, T)` with at least one step, or not finite.
    """
    if x.dim() != 2 or 0 in x.shape:
        raise ValueError(f"a waveform must be (batch, at least one step), not {tuple(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        raise ValueError(
            f"{int((~torch.isfinite(x)).sum())} samples of the waveform are not finite; "
            "read it anew"
        )


def _condition(encoded: Encoded | None, position: int, length: int) -> "_native.Condition":
    """The conditioning of `length` steps from a position on."""
    if encoded is None:
        return _native.Condition()
    here = encoded.at(position)
    rows, lead = here.rows(length)
    if not bool(torch.isfinite(rows).all()):
        raise ValueError(
            f"{int((~torch.isfinite(rows)).sum())} values of the encoded conditioning are not "
            "finite; make the features anew"
        )
    source = here.source_at(length)
    return _native.Condition(
        float32_array(rows),
        encoded.subframe_samples,
        cast("int", lead),  # one position, so one lead
        None if source is None else float32_array(source),
    )


def _float64(x: Tensor) -> npt.NDArray[np.float64]:
    return x.detach().to("cpu", torch.float64).contiguous().numpy()


def _require() -> None:
    if not is_available():
        raise RuntimeError(
            f"the native kernel cannot be loaded ({why_not()}); install wavestill anew with a "
            "C++17 compiler at hand, or use 'cached'"
        )


_has_warned = False


def _warn_once() -> None:
    """Say in one line that PyTorch stands in for the kernel."""
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            f"the native kernel cannot be loaded ({why_not()}): sampling with PyTorch instead",
            RuntimeWarning,
            stacklevel=3,
        )
