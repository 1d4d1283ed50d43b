"""Flows of zuko as ours, where their maps are of a kind that we know."""

import torch
import zuko  # type: ignore[import-untyped]
from torch import nn
from zuko.nn import MaskedLinear  # type: ignore[import-untyped]

from wavestill.density import Density, as_density
from wavestill.models.flows import MAF, PermutedMAF
from wavestill.models.masked_steps import MaskedStep


def adopt(flow: nn.Module) -> PermutedMAF | None:
    """A `zuko.flows.MAF` of affine maps as a `MAF` or `PermutedMAF` with the same weights.

    So it is sampled with each unit computed once, and a student can mirror it. The weights are
    shared, not copied.

    Arguments:
        flow: The flow.

    Returns:
        The same density; a `MAF`, with the laws of its steps, if all maps are of the natural
        order. None for flows of other maps, other bases, or networks with residual blocks.

    Example:
        >>> flow = zuko.flows.MAF(3, transforms=2)
        >>> ours, x = adopt(flow), torch.randn(5, 3)
        >>> torch.allclose(ours.log_prob(x), flow().log_prob(x), atol=1e-5)
        True
    """
    if not isinstance(flow, zuko.flows.MAF) or not _has_standard_base(flow):
        return None
    maps = list(getattr(flow.transform, "transforms", []))
    if not maps or not all(_is_known(part) for part in maps):
        return None
    num_dims = len(maps[0].order)
    num_context = maps[0].hyper.in_features - num_dims
    natural = torch.arange(num_dims, device=maps[0].order.device)
    kind = MAF if all(torch.equal(part.order, natural) for part in maps) else PermutedMAF
    ours = kind(num_dims, num_context, num_flows=len(maps), hidden=(num_dims,))
    for own, part in zip(ours.stack.flows, maps, strict=True):
        assert isinstance(own, MaskedStep)
        own.net, own.order = part.hyper, part.order
        own.num_passes = int(part.order.max()) + 1
    weight = next(flow.parameters())
    ours.loc, ours.log_scale = ours.loc.to(weight), ours.log_scale.to(weight)
    return ours.train(flow.training)


def taken_in(obj: object) -> Density:
    """Any object as a density: a flow of zuko's as ours if we know it, else by `as_density`."""
    adopted = adopt(obj) if isinstance(obj, nn.Module) else None
    return as_density(obj) if adopted is None else adopted


def _has_standard_base(flow: nn.Module) -> bool:
    law = flow.base()  # type: ignore[operator]
    inner = getattr(law, "base_dist", law)
    loc, scale = getattr(inner, "loc", None), getattr(inner, "scale", None)
    if loc is None or scale is None:
        return False
    return bool((loc == 0).all() and (scale == 1).all())


def _is_known(part: nn.Module) -> bool:
    """Whether a map is affine, with a plain masked network."""
    is_masked = isinstance(part, zuko.flows.MaskedAutoregressiveTransform)
    if not is_masked or part.univariate is not zuko.transforms.MonotonicAffineTransform:
        return False
    layers = list(part.hyper.children())  # type: ignore[union-attr]
    num_linear = sum(isinstance(layer, MaskedLinear) for layer in layers)
    return part.order is not None and len(layers) == 2 * num_linear - 1
