r"""What a network costs on paper: multiplications and weights, from its shape alone.

A product of an `(n, i)` with an `(i, o)` matrix counts :math:`2 n i o` operations, multiplications
and additions; sums, activation functions and the inverse of the law are left out, as usual
(`torch.utils.flop_counter` counts the same). A pass over `n` samples projects the conditioning
once for each sub-frame it touches.
"""

from wavestill.models import IAFWaveNetConfig, WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig

_NUM_OUTPUTS = {"gaussian": 2, "mulaw": 256}


def pass_flops(config: WaveNetConfig | IAFWaveNetConfig, num_samples: int) -> int:
    """Operations of one pass over `num_samples` samples of one sequence, from a sub-frame's start.

    The conditioning network is left out: see `encoder_flops`.

    Arguments:
        config: The network's shape.
        num_samples: Length of the pass, >= 1; 1 is one step of the cached sampler.
    """
    project = projection_weights(config)
    per_sample = num_weights(config) - project
    conditioning = config.conditioning
    if conditioning is None or not conditioning.num_features:  # nothing, or one row for ever
        num_rows = 1
    else:
        num_rows = -(-num_samples // conditioning.resolved_subframe_samples)
    return 2 * (num_samples * per_sample + num_rows * project)


def encoder_flops(conditioning: ConditioningConfig | None, num_frames: int) -> int:
    """Operations of the conditioning network over `num_frames` frames.

    Two convolutions of three frames, then sub-frames interpolated from three each.

    Arguments:
        conditioning: What the model is conditioned on.
        num_frames: Frames, >= 0.
    """
    if conditioning is None or not conditioning.num_features:
        return 0
    width = conditioning.channels
    subframes = conditioning.hop_samples // conditioning.resolved_subframe_samples
    return 2 * 3 * num_frames * width * (conditioning.num_features + width + subframes)


def num_weights(config: WaveNetConfig | IAFWaveNetConfig) -> int:
    """Entries of all matrices behind the conditioning network, and taps of a linear filter."""
    if isinstance(config, WaveNetConfig):
        residual, gate, skip = config.residual_channels, config.gate_channels, config.skip_channels
        num_outputs = _NUM_OUTPUTS.get(config.head, 3 * config.num_mixtures)
        layers = config.layers * _layer_weights(config.filter_width, residual, gate, skip)
        head = skip * skip + skip * num_outputs + config.predictor_order
        return _num_inputs(config) * residual + layers + head + projection_weights(config)
    width = config.channels
    layers = sum(config.flows) * _layer_weights(config.filter_width, width, width, 0)
    ends = len(config.flows) * (_num_inputs(config) * width + width * 2)
    return layers + ends + config.predictor_order + projection_weights(config)


def num_biases(config: WaveNetConfig | IAFWaveNetConfig) -> int:
    """Entries of all biases behind the conditioning network."""
    if isinstance(config, WaveNetConfig):
        residual, gate, skip = config.residual_channels, config.gate_channels, config.skip_channels
        num_outputs = _NUM_OUTPUTS.get(config.head, 3 * config.num_mixtures)
        return residual + config.layers * (2 * gate + residual + skip) + skip + num_outputs
    width = config.channels
    return sum(config.flows) * 3 * width + len(config.flows) * (width + 2)


def projection_weights(config: WaveNetConfig | IAFWaveNetConfig) -> int:
    """Entries of the matrices that take encoded conditioning to the layers, row by row."""
    if config.conditioning is None:
        return 0
    if isinstance(config, WaveNetConfig):
        columns = config.layers * 2 * config.gate_channels
    else:
        columns = sum(config.flows) * 2 * config.channels
    return config.conditioning.channels * columns


def weight_bytes(
    config: WaveNetConfig | IAFWaveNetConfig, bytes_per_weight: int, *, projected: bool
) -> int:
    """Bytes of weights that one pass or step reads; biases take four bytes each.

    Arguments:
        config: The network's shape.
        bytes_per_weight: 4 for float32, 2 for bfloat16.
        projected: Whether the conditioning is projected in the same pass, not beforehand.
    """
    weights = num_weights(config) - (0 if projected else projection_weights(config))
    return bytes_per_weight * weights + 4 * num_biases(config)


def _layer_weights(filter_width: int, residual: int, gate: int, skip: int) -> int:
    return filter_width * residual * 2 * gate + gate * (residual + skip)


def _num_inputs(config: WaveNetConfig | IAFWaveNetConfig) -> int:
    return 1 + (2 * config.conditioning.num_harmonics if config.conditioning else 0)
