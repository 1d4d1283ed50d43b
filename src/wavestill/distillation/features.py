"""Distillation by features: what the teacher's hidden layers make of the student's sound."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from wavestill.density import Context
from wavestill.distillation.trial import Trial


def hidden_features(
    density: nn.Module, modules: Sequence[str], x: Tensor, context: Context
) -> list[Tensor]:
    """What the named modules of a density give out while it scores `x`: each `(B, T, C)`.

    Raises:
        ValueError: If there is no module of a name, or its output is not of that form.
    """
    own = dict(density.named_modules())
    missing = [name for name in modules if name not in own]
    if missing:
        raise ValueError(
            f"the {type(density).__name__} has no module '{missing[0]}'; it has "
            f"{', '.join(name for name in list(own)[1:9])}, ..."
        )
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            del module, inputs
            found[name] = output if isinstance(output, Tensor) else output[0]

        return hook

    handles = [own[name].register_forward_hook(keep(name)) for name in modules]
    try:
        density.conditionals(x, context)  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()
    for name, features in found.items():
        if features.dim() != 3:
            raise ValueError(
                f"the module '{name}' gives {tuple(features.shape)}, not (batch, time, channels); "
                "name another"
            )
    return [found[name] for name in modules]


class FeatureMatching:
    r"""Moments of the teacher's hidden layers on the student's draw and on the recording.

    .. math:: L = \frac1N \sum_l \frac{\sum_i \| G_l^{(i)}(x) - G_l^{(i)}(y) \|^2}
        {\sum_i \| G_l^{(i)}(y) \|^2}, \qquad G_l^{(i)} = \mathrm{mean}_{t \in i} \,
        [1, f_{l,t}] [1, f_{l,t}]^\top

    over stretches of time `i` under the same conditioning: the mean of every feature (first row)
    and every product of two, so phases need not agree. It is what the perceptual loss of Parallel
    WaveNet asks of a classifier, asked of the teacher itself.

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 4.2, https://arxiv.org/abs/1711.10433
        | A Neural Algorithm of Artistic Style (Gatys et al., 2015), equations 3 to 5,
          https://arxiv.org/abs/1508.06576

    Arguments:
        modules: Names of the teacher's modules, as in `named_modules`; every third gated layer of
            a WaveNet where none are given.
        stretch_samples: Length of a stretch; the whole clip if that is shorter.
    """

    def __init__(self, modules: Sequence[str] | None = None, stretch_samples: int = 2000) -> None:
        self.modules = None if modules is None else list(modules)
        self.stretch_samples = stretch_samples

    def __call__(self, trial: Trial) -> Tensor:
        """The distance of the draw from the recording, 0 at equality."""
        reference = trial.require_reference("features")
        density = trial.teacher.density
        if not isinstance(density, nn.Module) or not trial.teacher.gives_conditionals:
            raise ValueError(
                f"a {type(density).__name__} has no hidden layers to compare; drop 'features'"
            )
        names = self._modules_of(density)
        ours = hidden_features(density, names, trial.draw.x, trial.context)
        with torch.no_grad():
            theirs = hidden_features(density, names, reference, trial.context)
        return moment_distance(ours, theirs, self.stretch_samples)

    def _modules_of(self, density: nn.Module) -> list[str]:
        if self.modules is not None:
            return self.modules
        layers = [
            name
            for name, _ in density.named_modules()
            if name.startswith("stack.layers.") and name.count(".") == 2
        ]
        if not layers:
            raise ValueError(
                f"a {type(density).__name__} has no gated layers; name the modules to compare"
            )
        return layers[2::3] or layers[-1:]


def moment_distance(
    ours: Sequence[Tensor], theirs: Sequence[Tensor], stretch_samples: int
) -> Tensor:
    """The equation of `FeatureMatching` for features `(B, T, C)` of any network, layer by layer.

    Arguments:
        ours: Features of the draw.
        theirs: Features of the recording.
        stretch_samples: Steps of a stretch; the whole clip if that is shorter.
    """
    distances = []
    for own, other in zip(ours, theirs, strict=True):
        reference = _moments(other, stretch_samples)
        difference = _moments(own, stretch_samples) - reference
        distances.append(difference.square().sum() / reference.square().sum())
    return torch.stack(distances).mean()


def _moments(features: Tensor, stretch_samples: int) -> Tensor:
    """Second moments of `[1, f]`, `(B, stretches, C + 1, C + 1)`."""
    features = nn.functional.pad(features.float(), (1, 0), value=1.0)
    length = min(stretch_samples, features.shape[1])
    num = features.shape[1] // length
    stretches = features[:, : num * length].reshape(len(features), num, length, -1)
    return torch.einsum("bitc,bitd->bicd", stretches, stretches) / length
