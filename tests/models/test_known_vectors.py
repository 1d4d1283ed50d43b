"""Vectors whose entropy is known: fitted densities come close to it, and no closer."""

import math

import pytest
import torch

import wavestill
from wavestill.models.made import MADE, MADEConfig
from wavestill.models.rnade import RNADE, RNADEConfig

pytestmark = pytest.mark.usefixtures("one_thread")

FIT = {"batch_size": 100, "learning_rate": 1e-2, "averaging": 0.98, "progress": False}


class Correlated:
    """A Gaussian of 5 dimensions, in units far from 1."""

    num_dims = 5

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        factor = torch.randn(5, 5, generator=generator).tril() * torch.tensor([3.0, 1, 1, 1, 0.2])
        self.law = torch.distributions.MultivariateNormal(
            torch.tensor([10.0, 0, -3, 0, 1]), scale_tril=factor + 2 * torch.eye(5)
        )

    def sample(self, num, generator):
        z = torch.randn(num, 5, generator=generator)
        return self.law.loc + z @ self.law.scale_tril.T

    def log_prob(self, x):
        return self.law.log_prob(x)


class TwoRings:
    """x0 of two humps; x1 of two humps whose place follows x0: no dimension is Gaussian."""

    num_dims = 2

    @staticmethod
    def _humps(centre, std):
        pair = torch.distributions.Normal(torch.stack([centre - 2, centre + 2], -1), std)
        weights = torch.distributions.Categorical(torch.tensor([0.3, 0.7]))
        return torch.distributions.MixtureSameFamily(weights, pair)

    def sample(self, num, generator):
        x, last = [], torch.zeros(num)
        for std in (0.5, 0.3):
            sign = 1 - 2.0 * (torch.rand(num, generator=generator) < 0.3)
            last = torch.sin(last) + 2 * sign + std * torch.randn(num, generator=generator)
            x.append(last)
        return torch.stack(x, 1)

    def log_prob(self, x):
        first = self._humps(torch.zeros_like(x[:, 0]), 0.5).log_prob(x[:, 0])
        return first + self._humps(torch.sin(x[:, 0]), 0.3).log_prob(x[:, 1])


def gap(process, model, num_steps, num_rows=20_000):
    """KL(truth || model) in nats, on held-out rows that both are measured on."""
    generator = torch.Generator().manual_seed(0)
    train, test = (process.sample(num_rows, generator) for _ in range(2))
    torch.manual_seed(0)
    model, _ = wavestill.fit(model, train, max_steps=num_steps, **FIT)
    with torch.no_grad():
        return float((process.log_prob(test) - model.log_prob(test)).mean()), model


MODELS = {
    "rnade": lambda n: RNADE(RNADEConfig(n, num_hidden=40, num_mixtures=4)),
    "rnade logistic": lambda n: RNADE(
        RNADEConfig(n, num_hidden=40, num_mixtures=4, components="logistic")
    ),
    "made": lambda n: MADE(MADEConfig(n, hidden=(60,), head="normal", num_mixtures=4)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("process", "tolerance"), [(Correlated(), 0.03), (TwoRings(), 0.03)], ids=["gauss", "humps"]
)
@pytest.mark.slow
def test_a_fitted_density_comes_close_to_the_truth(process, tolerance, name):
    kl, model = gap(process, MODELS[name](process.num_dims), 1500)
    assert -0.01 < kl < tolerance, "KL is not negative, but for the noise of a finite test"
    x = model.sample(5000, generator=torch.Generator().manual_seed(1))
    truth = process.sample(5000, torch.Generator().manual_seed(2))
    spread = truth.std(0)
    torch.testing.assert_close(x.mean(0) / spread, truth.mean(0) / spread, rtol=0, atol=0.1)
    torch.testing.assert_close(x.std(0) / spread, torch.ones_like(spread), rtol=0, atol=0.1)


def test_a_short_fit_of_a_correlated_gaussian():
    process = Correlated()
    model = RNADE(RNADEConfig(5, num_hidden=20, num_mixtures=1))
    kl, _ = gap(process, model, 300, num_rows=5000)
    independent = 0.5 * float(
        process.law.covariance_matrix.diagonal().log().sum()
        - math.log(float(torch.det(process.law.covariance_matrix)))
    )
    assert independent > 0.5, "there is something to be learned"
    assert -0.01 < kl < 0.1
