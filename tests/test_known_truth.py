"""Where the truth is known, teacher and student reach it."""

import pytest
import torch

from wavestill.known_truth import GaussianAR2, learn_known_truth

PROCESSES = {
    "the demo's": GaussianAR2(0.95, 0.6, 0.1),
    "slow and ringing": GaussianAR2(0.97, 0.1, 0.1),
    "fast and ringing": GaussianAR2(0.97, 2.5, 1.0),
}


def test_the_process_has_the_variance_and_entropy_it_claims():
    process = GaussianAR2(0.9, 0.7, 0.1)
    x = process.sample(200, 2000, torch.Generator().manual_seed(0)).double()
    a1, a2 = process.coefficients
    innovations = x[:, 2:] - a1 * x[:, 1:-1] - a2 * x[:, :-2]
    assert float(innovations.std()) == pytest.approx(0.1, rel=0.005)
    assert float(x[:, :5].std()) == pytest.approx(float(x[:, -500:].std()), rel=0.05)  # stationary
    nll = -float(process.conditionals(x).log_prob(x[:, 2:]).mean())
    assert nll == pytest.approx(process.entropy_rate, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_teacher_and_student_come_close(name):
    truth = learn_known_truth(PROCESSES[name], student_steps=2000)
    excess = truth["teacher_nll_nats_per_sample"] - truth["true_nll_nats_per_sample"]
    assert abs(excess) < 0.003
    assert -1e-6 <= truth["student_kl_nats_per_sample"] < 0.002
    assert truth["samples_per_round"] >= max(20, 0.7 * truth["samples_per_round_bound"])
