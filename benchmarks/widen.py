"""A wider teacher that computes the same function: as slow as a large one, as good as the small.

Every channel is repeated and what reads it divides by the number of copies (Net2WiderNet, Chen et
al., 2016, section 2.2, https://arxiv.org/abs/1511.05641). It serves to measure speed at a size
that nobody has trained here, under laws that somebody has.
"""

import dataclasses

import torch
from torch import Tensor

from wavestill.models import WaveNet


@torch.no_grad()
def widened(teacher: WaveNet, copies: int) -> WaveNet:
    """The same density with `copies` times as many residual, gate and skip channels."""
    config = teacher.config
    wide = WaveNet(
        dataclasses.replace(
            config,
            residual_channels=copies * config.residual_channels,
            gate_channels=copies * config.gate_channels,
            skip_channels=copies * config.skip_channels,
        )
    ).to(teacher.gain.dtype)
    state = teacher.state_dict()
    widths = [config.residual_channels, config.skip_channels]
    new: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith(("encoder.", "gain", "residual_std", "predictor.")):
            new[name] = value
        elif name.startswith("input."):
            new[name] = _rows(value, [len(value)], copies)
        elif name.startswith("hidden."):
            new[name] = _columns(_rows(value, [len(value)], copies), copies)
        elif name.startswith("output."):
            new[name] = _columns(value, copies)
        elif name == "stack.project.weight":
            halves = [config.gate_channels] * (2 * config.layers)
            new[name] = _rows(value, halves, copies)
        elif ".conv.taps." in name:
            halves = [config.gate_channels] * 2
            new[name] = _columns(_rows(value, halves, copies), copies, config.filter_width)
        else:
            assert ".out." in name, name
            new[name] = _columns(_rows(value, widths, copies), copies)
    wide.load_state_dict(new)
    return wide.eval()


def _rows(value: Tensor, groups: list[int], copies: int) -> Tensor:
    """Each group of outputs, `copies` times over."""
    return torch.cat([torch.cat([group] * copies) for group in value.split(groups)])


def _columns(value: Tensor, copies: int, groups: int = 1) -> Tensor:
    """Each of the equal groups of inputs `copies` times over, at a share of its weight."""
    if value.dim() == 1:  # a bias reads nothing
        return value
    return torch.cat(
        [torch.cat([group] * copies, 1) / copies for group in value.chunk(groups, 1)], 1
    )
