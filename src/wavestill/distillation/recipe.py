"""The objective as a recipe states it."""

from dataclasses import dataclass, field

from wavestill.density import Density, InverseAutoregressive
from wavestill.distillation.balance import Balance, FixedWeights, LoudnessBalance
from wavestill.distillation.divergence import StepDivergence
from wavestill.distillation.objective import Objective
from wavestill.distillation.spectral import MultiResolutionMagnitude, SpectralPower
from wavestill.distillation.trial import Term
from wavestill.divergences import KL
from wavestill.models.calibration import waveform_log_scale


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the student is trained on.

    Arguments:
        num_points: Stratified points per step of the divergence.
        log_scale_min: Floor of both laws' log-scales in the divergence, in nats of the
            unit-variance signal; None for none. It keeps the gradient bounded where a law is all
            but certain; what is reported has no floor.
        skip_samples: Steps at the start of a clip left out of the divergence.
        cap_nats: Limit of one step's divergence; None for none.
        weights: Further terms (`magnitude`, `power`) and their weights; the divergence's is 1.
        loudness_rate: How fast the weight of `power` follows the student's level, per step
            (`LoudnessBalance`); 0 keeps it as it is.
    """

    num_points: int = 8
    log_scale_min: float | None = -9.0
    skip_samples: int = 0
    cap_nats: float | None = 20.0
    weights: dict[str, float] = field(default_factory=dict)
    loudness_rate: float = 0.005

    def build(
        self, teacher: Density, student: InverseAutoregressive, sample_rate: int | None = None
    ) -> Objective:
        """The objective of this recipe.

        Raises:
            ValueError: If a term is not known, or a spectral one lacks a sampling rate.
        """
        floor = self.log_scale_min
        if floor is not None:
            floor = waveform_log_scale(teacher, floor)
        divergence = KL(num_points=self.num_points, log_scale_min=floor)
        terms: dict[str, Term] = {
            "kl": StepDivergence(
                divergence, skip_samples=self.skip_samples, cap_nats=self.cap_nats
            )
        }
        spectral = {"magnitude": MultiResolutionMagnitude, "power": SpectralPower}
        for name in self.weights:
            if self.weights[name] < 0:
                raise ValueError(f"the weight of '{name}' is {self.weights[name]}; give one >= 0")
            if name not in spectral:
                raise ValueError(
                    f"no term is called '{name}'; choose among {', '.join(sorted(spectral))}"
                )
            if sample_rate is None:
                raise ValueError(
                    f"the term '{name}' needs the sampling rate; give 'sample_rate' in Hz"
                )
            terms[name] = spectral[name](sample_rate)
        weights = {"kl": 1.0} | self.weights
        balance: Balance = (
            LoudnessBalance(weights, rate=self.loudness_rate)
            if self.loudness_rate
            else FixedWeights(weights)
        )
        return Objective(teacher, student, terms, balance=balance)
