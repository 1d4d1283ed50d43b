"""One compiled graph draws what the student draws.

`JAXTYPING_DISABLE=1 pytest -m "slow or gpu" tests/models/test_compiled_student.py`
"""

import os

import pytest
import torch

from wavestill.density import Conditioning
from wavestill.distributions import standard_noise
from wavestill.models import IAFWaveNet, IAFWaveNetConfig
from wavestill.models.compiled_student import CompiledStudent
from wavestill.nn.conditioning import ConditioningConfig

DEVICES = [
    pytest.param("cpu", marks=pytest.mark.slow),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


@pytest.mark.skipif(
    os.environ.get("JAXTYPING_DISABLE") != "1",
    reason="torch.compile does not see through the type checks; set JAXTYPING_DISABLE=1",
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "snr_db"), [(None, 80.0), (torch.bfloat16, 30.0)])
def test_one_graph_draws_the_same(device, dtype, snr_db):
    torch.manual_seed(0)
    conditioning = ConditioningConfig(num_features=20, hop_samples=120, sample_rate=12000)
    config = IAFWaveNetConfig(flows=(3, 4), channels=16, conditioning=conditioning)
    model = IAFWaveNet(config).eval().to(device)
    with torch.no_grad():
        for flow in model.flows:
            flow.output.weight.normal_(0.0, 0.1)
    context = Conditioning(torch.randn(2, 10, 20).to(device))
    compiled = CompiledStudent(model, dtype=dtype)
    noises = [
        standard_noise(
            "logistic", (2, 1200), generator=torch.Generator().manual_seed(seed), device=device
        )
        for seed in range(3)
    ]
    draws = [compiled.rsample(noise, context) for noise in noises]  # none writes over another
    for noise, draw in zip(noises, draws, strict=True):
        exact = model.rsample(noise, context).x.detach()
        error = (draw.x - exact).square().sum() / exact.square().sum()
        assert float(-10 * error.log10()) > snr_db
        assert draw.conditionals.loc.dtype == torch.float32
