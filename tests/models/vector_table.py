"""Every density of vectors by name, small, with random weights: a new one is one more line."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wavestill.models.made import MADE, MADEConfig
from wavestill.models.nade import NADE, NADEConfig
from wavestill.models.rnade import RNADE, RNADEConfig

D = 21  # over one chunk of the running sum
CONTEXT = 3


@dataclass
class Case:
    """A model of vectors; how many dimensions it has is left open."""

    build: Callable[[int], nn.Module]

    @property
    def is_binary(self) -> bool:
        """Whether its values are bits."""
        return self.model().head.kind == "bernoulli"

    def model(self, num_dims: int = D) -> nn.Module:
        """The model in float64 with every parameter and buffer moved off its initial value."""
        torch.manual_seed(1)
        model = self.build(num_dims).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.15 * torch.randn_like(parameter))
            if model.head.kind != "bernoulli":
                model.head.loc.normal_()
                model.head.log_scale.normal_(std=0.3)
        return model

    def context(self, model: nn.Module, batch: int) -> Tensor | None:
        """A random context, where the model has one."""
        num_context = model.config.num_context
        if not num_context:
            return None
        generator = torch.Generator().manual_seed(0)
        return torch.randn(batch, num_context, generator=generator, dtype=torch.float64)

    def x(self, model: nn.Module, batch: int, seed: int = 0) -> Tensor:
        """Vectors that are no samples of the model, but of its kind."""
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, model.num_dims)
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (x > 0).double() if model.head.kind == "bernoulli" else x


def _nade(**shape: object) -> Case:
    return Case(lambda n: NADE(NADEConfig(num_dims=n, num_hidden=7, **shape)))


def _rnade(**shape: object) -> Case:
    return Case(lambda n: RNADE(RNADEConfig(num_dims=n, num_hidden=7, **shape)))


def _made(**shape: object) -> Case:
    return Case(lambda n: MADE(MADEConfig(num_dims=n, **({"hidden": (30,)} | shape))))


RECURRENT = {
    "nade": _nade(),
    "nade+context": _nade(num_context=CONTEXT),
    "rnade": _rnade(num_mixtures=3),
    "rnade logistic": _rnade(num_mixtures=2, components="logistic"),
    "rnade single": _rnade(num_mixtures=1),
    "rnade+context": _rnade(num_mixtures=2, num_context=CONTEXT),
}
VECTORS = RECURRENT | {
    "made": _made(),
    "made deep": _made(hidden=(30, 25)),
    "made linear": _made(hidden=()),
    "made+context": _made(num_context=CONTEXT),
    "made normal": _made(head="normal", num_mixtures=2),
    "made logistic": _made(head="logistic", hidden=(30, 25)),
}
BINARY = [name for name, case in VECTORS.items() if case.is_binary]
