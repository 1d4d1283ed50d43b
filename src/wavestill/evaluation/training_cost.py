r"""What a training step costs on paper: operations, memory, traffic; and how long it should take.

Operations are those of products (`evaluation/bench/cost.py`); the backward pass repeats each
twice, once for the gradient of its input and once for that of its weight, except where nobody
asks: of recordings and frames there is no gradient, and a teacher that is distilled keeps its
weights.

The time of a step on one accelerator is that of its narrowest gate,

.. math:: t = \max\Big(\frac{\text{operations}}{a \cdot \text{peak}},
    \frac{\text{bytes moved}}{b \cdot \text{bandwidth}},
    \text{kernels} \cdot t_\text{launch}\Big),

and `N` of them that share a global batch add the sum of their gradients by a ring,

.. math:: t_N = t(\text{batch} / N)
    + \frac{2 (N - 1)}{N} \frac{4 \cdot \text{weights}}{\text{link}} + 2 (N - 1) \, t_\text{hop},

none of it hidden behind the backward pass: an upper bound.
"""

from dataclasses import dataclass

from wavestill.evaluation.bench.cost import (
    encoder_flops,
    num_biases,
    num_weights,
    pass_flops,
    projection_weights,
)
from wavestill.models import IAFWaveNetConfig, WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.training.config import TrainingConfig

BYTES_PER_WEIGHT = 4 + 4 + 8 + 4
"""Weight, gradient, Adam's two moments and the moving average, all in float32."""


@dataclass(frozen=True)
class Accelerator:
    """What a device can do at best, and what share of it one may hope for.

    Arguments:
        name: Its name.
        peak_flops: Dense bfloat16 products with float32 sums, operations per second.
        memory_bandwidth: Bytes per second.
        memory_bytes: Size of its memory.
        link_bandwidth: Bytes per second that a device sends to its neighbour in the ring.
        share_of_peak: Assumed share of `peak_flops` of large products.
        share_of_bandwidth: Assumed share of `memory_bandwidth`.
        launch_s: Assumed seconds between the starts of two kernels.
        hop_s: Assumed latency of a step of the ring in seconds.
    """

    name: str
    peak_flops: float
    memory_bandwidth: float
    memory_bytes: float
    link_bandwidth: float
    share_of_peak: float = 0.5
    share_of_bandwidth: float = 0.7
    launch_s: float = 5e-6
    hop_s: float = 1e-5


ACCELERATORS = {
    "H100": Accelerator("H100 SXM", 989e12, 3.35e12, 80e9, 450e9),
    "H200": Accelerator("H200 SXM", 989e12, 4.8e12, 141e9, 450e9),
}
"""Public specifications: dense bfloat16, HBM, NVLink in one direction."""

BETWEEN_NODES = 50e9
"""Bytes per second and device between nodes: one 400 Gbit/s port each."""


@dataclass(frozen=True)
class StepCost:
    """One training step on one device.

    Arguments:
        flops: Operations of all products.
        activation_bytes: What the backward pass finds kept by the forward pass.
        moved_bytes: Read from and written to memory, each operation by itself.
        state_bytes: Weights, gradients, optimiser and average; a frozen teacher's weights too.
        reduced_bytes: Gradients that devices sum.
        kernels: Operations that are started one by one.
    """

    flops: int
    activation_bytes: int
    moved_bytes: int
    state_bytes: int
    reduced_bytes: int
    kernels: int


def likelihood_flops(config: WaveNetConfig, batch_size: int, clip_samples: int) -> int:
    """Operations of a step by maximum likelihood, forward and backward.

    Arguments:
        config: The teacher's shape, its conditioning filled in.
        batch_size: Clips.
        clip_samples: Samples per clip, whole frames.
    """
    forward = pass_flops(config, clip_samples)
    encoder = _Encoder.of(config.conditioning, clip_samples)
    of_inputs = 2 * clip_samples * (_num_inputs(config) * _width(config) + config.predictor_order)
    return batch_size * (3 * forward - of_inputs + encoder.trained)


def distillation_flops(
    teacher: WaveNetConfig, student: IAFWaveNetConfig, batch_size: int, clip_samples: int
) -> int:
    """Operations of a step of distillation on the divergence; spectral terms cost next to none.

    The student is passed as in `likelihood_flops`; the teacher once forward and once back to its
    input, for its weights rest.

    Arguments:
        teacher: The teacher's shape, its conditioning filled in.
        student: The student's.
        batch_size: Clips.
        clip_samples: Samples per clip, whole frames.
    """
    synthesis = 2 * clip_samples * student.predictor_order  # a recursion, not a product
    passed = pass_flops(student, clip_samples) - synthesis
    first = 2 * clip_samples * _num_inputs(student) * student.channels
    own = 3 * passed - first + _Encoder.of(student.conditioning, clip_samples).trained
    judged = pass_flops(teacher, clip_samples)
    projected = judged - 2 * clip_samples * (num_weights(teacher) - projection_weights(teacher))
    frozen = _Encoder.of(teacher.conditioning, clip_samples).forward
    return batch_size * (own + 2 * judged - projected + frozen)


def likelihood_cost(
    config: WaveNetConfig, batch_size: int, clip_samples: int, *, bytes_per_value: int = 2
) -> StepCost:
    """A step of the teacher; arguments as `likelihood_flops`.

    Arguments:
        config: The teacher's shape, its conditioning filled in.
        batch_size: Clips on this device.
        clip_samples: Samples per clip.
        bytes_per_value: 2 for bfloat16 activations, 4 for float32.
    """
    num = batch_size * clip_samples
    weights = num_weights(config) + num_biases(config) + encoder_weights(config.conditioning)
    kept, moved = _values(config)
    law = 4 * _LAW_VALUES * _num_components(config)
    return StepCost(
        likelihood_flops(config, batch_size, clip_samples),
        num * (bytes_per_value * kept + law),
        num * (3 * bytes_per_value * moved + 3 * law),
        BYTES_PER_WEIGHT * weights,
        4 * weights,
        _KERNELS_PER_LAYER * config.layers + _KERNELS_BESIDE,
    )


def distillation_cost(
    teacher: WaveNetConfig,
    student: IAFWaveNetConfig,
    batch_size: int,
    clip_samples: int,
    *,
    num_points: int = 8,
    bytes_per_value: int = 2,
) -> StepCost:
    """A step of the student under the divergence; arguments as `distillation_flops`.

    Arguments:
        teacher: The teacher's shape, its conditioning filled in.
        student: The student's.
        batch_size: Clips on this device.
        clip_samples: Samples per clip.
        num_points: Points of the divergence per step.
        bytes_per_value: 2 for bfloat16 activations, 4 for float32.
    """
    num = batch_size * clip_samples
    weights = num_weights(student) + num_biases(student) + encoder_weights(student.conditioning)
    frozen = num_weights(teacher) + num_biases(teacher) + encoder_weights(teacher.conditioning)
    (own_kept, own_moved), (_, moved) = _values(student), _values(teacher)
    # without gradients of weights a layer keeps its two halves alone
    kept = 2 * (teacher.layers * teacher.gate_channels + teacher.skip_channels)
    law = 4 * _LAW_VALUES * _num_components(teacher) * num_points
    layers = sum(student.flows) + teacher.layers
    return StepCost(
        distillation_flops(teacher, student, batch_size, clip_samples),
        num * (bytes_per_value * (own_kept + kept) + law),
        num * (bytes_per_value * (3 * own_moved + 2 * moved) + 3 * law),
        BYTES_PER_WEIGHT * weights + 4 * frozen,
        4 * weights,
        _KERNELS_PER_LAYER * layers + 2 * _KERNELS_BESIDE,
    )


def step_seconds(cost: StepCost, device: Accelerator) -> float:
    """Predicted seconds of a step on one device."""
    return max(
        cost.flops / (device.share_of_peak * device.peak_flops),
        cost.moved_bytes / (device.share_of_bandwidth * device.memory_bandwidth),
        cost.kernels * device.launch_s,
    )


def sum_seconds(
    reduced_bytes: int, num_devices: int, device: Accelerator, *, per_node: int = 8
) -> float:
    """Predicted seconds of summing gradients over a ring of devices.

    Arguments:
        reduced_bytes: Gradients, bytes.
        num_devices: Devices in the ring.
        device: What they are.
        per_node: Devices of one node; a ring over several runs at the pace of what joins them.
    """
    if num_devices == 1:
        return 0.0
    link = device.link_bandwidth if num_devices <= per_node else BETWEEN_NODES
    traffic = 2 * (num_devices - 1) / num_devices * reduced_bytes
    return traffic / link + 2 * (num_devices - 1) * device.hop_s


def encoder_weights(conditioning: ConditioningConfig | None) -> int:
    """Weights and biases of the conditioning network, speakers included."""
    if conditioning is None:
        return 0
    width = conditioning.channels
    speakers = conditioning.num_speakers * width
    if not conditioning.num_features:
        return speakers
    return 3 * width * (conditioning.num_features + width) + 2 * width + speakers


@dataclass(frozen=True)
class _Encoder:
    """Operations of the conditioning network of one clip: forward, and trained in all."""

    forward: int
    trained: int

    @classmethod
    def of(cls, conditioning: ConditioningConfig | None, clip_samples: int) -> "_Encoder":
        if conditioning is None or not conditioning.num_features:
            return cls(0, 0)
        frames = clip_samples // conditioning.hop_samples
        forward = encoder_flops(conditioning, frames)
        width = conditioning.channels
        near = 2 * 3 * frames * width * conditioning.num_features
        subframes = conditioning.hop_samples // conditioning.resolved_subframe_samples
        interpolated = 2 * 3 * frames * width * subframes
        # frames have no gradient, and the weights of an interpolation are given
        return cls(forward, 3 * forward - near - interpolated)


_KERNELS_PER_LAYER = 38  # operations that are no views, counted under autocast: 14 forward
_KERNELS_BESIDE = 232  # of the conditioning, the head and the law
_LAW_VALUES = 20  # of float32 per component of the mixture and sample: logs, exponentials, sums


def _values(config: WaveNetConfig | IAFWaveNetConfig) -> tuple[int, int]:
    """Values per sample that autograd keeps, and that the forward pass reads and writes."""
    if isinstance(config, WaveNetConfig):
        layers = config.layers
        residual, gate, skip = config.residual_channels, config.gate_channels, config.skip_channels
        head = 4 * skip
    else:
        layers, residual, gate, skip = sum(config.flows), config.channels, config.channels, 0
        head = 2 * config.channels * len(config.flows)
    taps = config.filter_width
    kept = layers * (taps * residual + 3 * gate) + head
    moved = layers * ((3 * taps + 6) * residual + 14 * gate + 4 * skip) + 3 * head
    return kept, moved


def _num_components(config: WaveNetConfig) -> int:
    return {"gaussian": 1, "mulaw": 26}.get(config.head, config.num_mixtures)


def _width(config: WaveNetConfig | IAFWaveNetConfig) -> int:
    return config.residual_channels if isinstance(config, WaveNetConfig) else config.channels


def _num_inputs(config: WaveNetConfig | IAFWaveNetConfig) -> int:
    return 1 + (2 * config.conditioning.num_harmonics if config.conditioning else 0)


def needs(
    teacher: WaveNetConfig,
    student: IAFWaveNetConfig,
    fit: TrainingConfig,
    distill: TrainingConfig,
    device: Accelerator,
) -> str:
    """One sentence on the memory and time of both runs of a recipe, on one device.

    Arguments:
        teacher: The teacher's shape, its conditioning filled in.
        student: The student's.
        fit: How the teacher is trained.
        distill: How the student is trained.
        device: The device.
    """
    costs = {
        "teacher": (likelihood_cost(teacher, fit.batch_size, fit.clip_samples), fit),
        "student": (
            distillation_cost(teacher, student, distill.batch_size, distill.clip_samples),
            distill,
        ),
    }
    parts = []
    for name, (cost, config) in costs.items():
        gigabytes = (cost.activation_bytes + cost.state_bytes) / 1e9
        seconds = step_seconds(cost, device)
        long = (
            f"{config.minutes:g} minutes, {60 * config.minutes / seconds:,.0f} steps"
            if config.max_steps is None and config.minutes is not None
            else f"{(config.max_steps or 0) * seconds / 3600:,.0f} hours"
        )
        parts.append(f"{name} {gigabytes:.1f} GB, {long}")
    model = "the cost model (docs/scaling.md, the divergence alone)"
    return f"Needs, by {model}, on one {device.name}: {'; '.join(parts)}."
