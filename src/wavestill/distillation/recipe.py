"""The objective as a recipe states it."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from torch import nn

from wavestill.density import Density, Reparametrised
from wavestill.distillation.adversarial import Adversarial, AdversarialConfig
from wavestill.distillation.balance import (
    Balance,
    FixedWeights,
    GradientBalance,
    LoudnessBalance,
    ScheduledWeights,
    TargetBalance,
    UncertaintyBalance,
)
from wavestill.distillation.contrastive import Contrastive
from wavestill.distillation.divergence import StepDivergence
from wavestill.distillation.features import FeatureMatching
from wavestill.distillation.latent import LatentReconstruction
from wavestill.distillation.moving import MovingTeacher
from wavestill.distillation.objective import Objective
from wavestill.distillation.perceptual import Perceptual
from wavestill.distillation.pool import LogLinearPool
from wavestill.distillation.spectral import MultiResolutionMagnitude, SpectralPower
from wavestill.distillation.teacher_forced import TeacherForced
from wavestill.distillation.trial import Term
from wavestill.divergences import (
    KL,
    Divergence,
    ForwardKL,
    JensenShannon,
    Renyi,
    SquaredWasserstein,
    TotalVariation,
)
from wavestill.models import MixturePool
from wavestill.models.calibration import waveform_log_scale
from wavestill.models.phone_classifier import PhoneClassifier

DivergenceName = Literal[
    "kl", "forward_kl", "jensen_shannon", "renyi", "total_variation", "wasserstein"
]
BalanceName = Literal["fixed", "loudness", "scheduled", "target", "gradients", "uncertainty"]

SPECTRAL: dict[str, Callable[[int], Term]] = {
    "magnitude": MultiResolutionMagnitude,
    "power": SpectralPower,
}
CLASSIFIED: dict[str, Literal["features", "style"]] = {
    "perceptual": "features",
    "style": "style",
}
TERMS = (
    "adversarial",
    "contrastive",
    "drafting",
    "features",
    "forward",
    "latent",
    "reconstruction",
    *CLASSIFIED,
    *SPECTRAL,
)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the student is trained on.

    Arguments:
        divergence: The divergence of each step: `kl`, `forward_kl`, `jensen_shannon`, `renyi`,
            `total_variation` or `wasserstein` (squared).
        share: The student's weight in `jensen_shannon` or the order of `renyi`, in (0, 1).
        path_wise: Gradients of `kl` without the score (see `divergences.KL`).
        scale_penalty: ClariNet's regulariser of `kl`, 4 there, on the log-scales of both laws; 0
            for none. Only where both are of one location-scale shape: a Gaussian teacher and a
            student of base `normal`.
        num_points: Stratified points per step of the divergence.
        log_scale_min: Floor of both laws' log-scales in the divergence, in nats of the
            unit-variance signal; None for none. It keeps the gradient bounded where a law is all
            but certain; what is reported has no floor.
        skip_samples: Steps at the start of a clip left out of the divergence.
        cap_nats: Limit of one step's divergence; None for none.
        pool: What several teachers make together: `mixture` of their laws at every step, or
            `log_linear`, the product of their densities.
        weights: Further terms and their weights; the divergence's is 1. Of sound: `magnitude`,
            `power`; of the teacher's hidden layers: `features`; of a phone classifier's:
            `perceptual` (features) and `style` (Gram matrices); of discriminators that learn:
            `adversarial`; of mismatched conditioning: `contrastive`, whose weight is the paper's
            gamma, 0.3; of noise through both models: `latent`, `reconstruction`; under the
            teacher's own prefixes: `forward` (forward KL) and `drafting` (total variation).
        classifier: Folder of the phone classifier that `perceptual` and `style` listen with.
        margin_nats: KL per step at which mismatched conditioning is unlikely enough for
            `contrastive`.
        adversarial: How the discriminators of `adversarial` learn.
        balance: How they are weighted: `fixed`; `loudness`: `power` follows the student's level;
            `scheduled`: by `schedules`; `target`: the divergence is held at `target_nats`;
            `gradients`: weights are shares of the gradient; `uncertainty`: learnt.
        loudness_rate: How fast the weight of `power` follows the student's level, per step
            (`LoudnessBalance`); 0 keeps it as it is.
        schedules: Factors on terms' weights: lists of `[step, factor]`, on a line between.
        target_nats: The value that `target` holds the divergence at.
        teacher_averaging: Let the teacher go on learning from the recordings while the student
            follows its moving average, of this decay in [0, 1); None for a teacher at rest.
    """

    divergence: DivergenceName = "kl"
    share: float = 0.5
    path_wise: bool = False
    scale_penalty: float = 0.0
    num_points: int = 8
    log_scale_min: float | None = -9.0
    skip_samples: int = 0
    cap_nats: float | None = 20.0
    pool: Literal["mixture", "log_linear"] = "mixture"
    weights: dict[str, float] = field(default_factory=dict)
    classifier: Path | None = None
    margin_nats: float = 2.0
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    balance: BalanceName = "loudness"
    loudness_rate: float = 0.005
    schedules: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    target_nats: float | None = None
    teacher_averaging: float | None = None

    def build(
        self,
        teacher: Density,
        student: Reparametrised,
        sample_rate: int | None = None,
        *,
        others: Sequence[nn.Module] = (),
        classifier: PhoneClassifier | None = None,
    ) -> Objective:
        """The objective of this recipe.

        Arguments:
            teacher: The density to distil.
            student: The density that learns.
            sample_rate: Of the recordings, in Hz, for terms that need it.
            others: Further teachers, equal partners in the pool.
            classifier: The phone classifier that `self.classifier` names, loaded
                (`training.load_classifier`).

        Raises:
            ValueError: If a term is not known, a spectral one lacks a sampling rate, or a setting
                is missing or out of range.
        """
        floor = self.log_scale_min
        if floor is not None:
            floor = waveform_log_scale(teacher, floor)
        divergence = StepDivergence(
            self._divergence(floor), skip_samples=self.skip_samples, cap_nats=self.cap_nats
        )
        terms: dict[str, Term] = {self.divergence: divergence}
        if others:
            teachers = [cast("nn.Module", teacher), *others]
            if self.teacher_averaging is not None:
                raise ValueError("several teachers stay at rest; leave out 'teacher_averaging'")
            if self.pool == "mixture":
                teacher = MixturePool(teachers)
            else:
                pool = LogLinearPool(cast("list[Density]", teachers), divergence=divergence)
                terms[self.divergence] = pool
        for name, weight in self.weights.items():
            if weight < 0:
                raise ValueError(f"the weight of '{name}' is {weight}; give one >= 0")
            terms[name] = self._term(name, floor, sample_rate, classifier)
        moving = None
        if self.teacher_averaging is not None:
            moving = MovingTeacher(deepcopy(teacher), averaging=self.teacher_averaging)
        return Objective(teacher, student, terms, balance=self._balance(), moving=moving)

    def _divergence(self, log_scale_min: float | None) -> Divergence:
        for name in ("path_wise", "scale_penalty"):
            if getattr(self, name) and self.divergence != "kl":
                raise ValueError(
                    f"'{name}' is of 'kl' but the divergence is '{self.divergence}'; leave it out"
                )
        options = {"num_points": self.num_points, "log_scale_min": log_scale_min}
        kinds: dict[DivergenceName, Callable[[], Divergence]] = {
            "kl": lambda: KL(
                path_wise=self.path_wise,
                scale_penalty=self.scale_penalty,
                **options,  # type: ignore[arg-type]
            ),
            "forward_kl": lambda: ForwardKL(**options),  # type: ignore[arg-type]
            "jensen_shannon": lambda: JensenShannon(self.share, **options),  # type: ignore[arg-type]
            "renyi": lambda: Renyi(self.share, **options),  # type: ignore[arg-type]
            "total_variation": lambda: TotalVariation(**options),  # type: ignore[arg-type]
            "wasserstein": lambda: SquaredWasserstein(**options),  # type: ignore[arg-type]
        }
        return kinds[self.divergence]()

    def _term(
        self,
        name: str,
        log_scale_min: float | None,
        sample_rate: int | None,
        classifier: PhoneClassifier | None,
    ) -> Term:
        if name in SPECTRAL or name == "adversarial":
            if sample_rate is None:
                raise ValueError(
                    f"the term '{name}' needs the sampling rate; give 'sample_rate' in Hz"
                )
            if name in SPECTRAL:
                return SPECTRAL[name](sample_rate)
            return Adversarial(sample_rate, self.adversarial)
        if name in CLASSIFIED:
            return Perceptual(_suited(classifier, name, sample_rate), CLASSIFIED[name])
        if name == "contrastive":
            divergence = KL(self.num_points, log_scale_min=log_scale_min)
            return Contrastive(
                divergence, margin_nats=self.margin_nats, skip_samples=self.skip_samples
            )
        if name == "features":
            return FeatureMatching()
        if name in ("latent", "reconstruction"):
            return LatentReconstruction("latent" if name == "latent" else "sample")
        if name in ("forward", "drafting"):
            kind = ForwardKL if name == "forward" else TotalVariation
            return TeacherForced(
                kind(self.num_points, log_scale_min=log_scale_min),
                skip_samples=self.skip_samples,
                cap_nats=self.cap_nats,
            )
        raise ValueError(f"no term is called '{name}'; choose among {', '.join(sorted(TERMS))}")

    def _balance(self) -> Balance:
        weights = {self.divergence: 1.0} | self.weights
        late = "adversarial" in weights and self.adversarial.after_steps
        if late and self.balance in ("gradients", "uncertainty"):
            raise ValueError(
                f"the balance '{self.balance}' learns from every term's value but 'adversarial' "
                f"has none for {late} steps; set 'adversarial.after_steps' to 0"
            )
        if self.schedules and self.balance != "scheduled":
            raise ValueError(
                f"there are schedules but the balance is '{self.balance}'; set it to 'scheduled'"
            )
        if self.balance == "scheduled":
            return ScheduledWeights(weights, self.schedules)
        if self.balance == "target":
            if self.target_nats is None:
                raise ValueError("the balance 'target' needs a value to hold; give 'target_nats'")
            return TargetBalance(weights, self.target_nats, self.divergence)
        if self.balance == "gradients":
            return GradientBalance(weights)
        if self.balance == "uncertainty":
            return UncertaintyBalance(weights)
        if self.balance == "loudness" and self.loudness_rate:
            return LoudnessBalance(weights, rate=self.loudness_rate)
        return FixedWeights(weights)


def _suited(
    classifier: PhoneClassifier | None, name: str, sample_rate: int | None
) -> PhoneClassifier:
    """A classifier for sound of this rate."""
    if classifier is None:
        raise ValueError(
            f"the term '{name}' listens with a phone classifier; train one (wavestill fit "
            "recipes/phone_classifier_16k.yaml) and give its folder as 'objective.classifier'"
        )
    if sample_rate is not None and classifier.config.sample_rate != sample_rate:
        raise ValueError(
            f"the phone classifier is of {classifier.config.sample_rate} Hz but the recordings "
            f"are of {sample_rate} Hz; train one on this corpus"
        )
    return classifier
