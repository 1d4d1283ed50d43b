"""An inverse autoregressive flow as posterior: digits, and the bound that each posterior leaves.

python examples/06_variational_posterior.py [--steps 1500] [--out runs/posterior.png]

A variational autoencoder of scikit-learn's digits (8 x 8, black or white) with eight latent
numbers is trained with an IAF as posterior q(z | x) under the encoder's context; then a diagonal
normal with an encoder of its own is trained for the same decoder. Printed for held-out digits:
the ELBO, the importance-weighted bound of 1000 draws, which tends to log p(x), and the gap between
them: what the posterior's shape costs. Under two minutes on two cores.
"""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from wavestill.distributions import Normal
from wavestill.models.flows import IAF

NUM_LATENT, NUM_CONTEXT, NUM_DRAWS = 8, 32, 1000

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=1500, help="steps of each model")
parser.add_argument("--out", type=Path, default=Path("runs/posterior.png"), help="the picture")
options = parser.parse_args()

pixels = torch.tensor(load_digits().data > 7.5, dtype=torch.float32)
pixels = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))]
train, held_out = pixels[:1500], pixels[1500:]


class Diagonal(nn.Module):
    """q(z | x) = N(mu(x), s(x)), every latent number by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes = nn.Linear(NUM_CONTEXT, 2 * NUM_LATENT)

    def forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """A draw and its log-density."""
        law = Normal(*self.shapes(context).chunk(2, -1))
        z = law.from_noise(noise)
        return z, law.log_prob(z).sum(-1)


class Flow(nn.Module):
    """q(z | x) an inverse autoregressive flow."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = IAF(NUM_LATENT, NUM_CONTEXT, num_flows=2, hidden=(64,))

    def forward(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """A draw and its log-density: one pass, and no inverse."""
        draw = self.flow.rsample(noise, context)
        return draw.x, draw.log_prob


class Autoencoder(nn.Module):
    """p(z) = N(0, 1), p(x | z) Bernoulli, and a posterior."""

    def __init__(self, posterior: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, NUM_CONTEXT))
        self.decoder = nn.Sequential(
            nn.Linear(NUM_LATENT, 128),
            nn.SiLU(),
            nn.Linear(128, 128),
            nn.SiLU(),
            nn.Linear(128, 64),
        )
        self.posterior = posterior

    def log_weights(self, x: Tensor, num: int) -> Tensor:
        """Weights log p(x, z) - log q(z | x) of draws z ~ q, `(num, B)`."""
        context = self.encoder(x).repeat(num, 1)
        z, log_q = self.posterior(torch.randn(len(context), NUM_LATENT), context)
        log_prior = Normal(torch.zeros_like(z), torch.zeros_like(z)).log_prob(z).sum(-1)
        odds, x = self.decoder(z), x.repeat(num, 1)
        log_likelihood = (x * odds - nn.functional.softplus(odds)).sum(-1)
        return (log_prior + log_likelihood - log_q).view(num, -1)


def trained(posterior: nn.Module, decoder: nn.Module | None = None) -> Autoencoder:
    """Maximises the ELBO; a decoder that is given stays as it is."""
    model = Autoencoder(posterior)
    if decoder is not None:
        model.decoder = decoder.requires_grad_(requires_grad=False)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    for _ in range(options.steps):
        x = train[torch.randint(len(train), (128,))]
        loss = -model.log_weights(x, 1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model


figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
counts = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
torch.manual_seed(0)
model = trained(Flow())
models = {"IAF": model, "diagonal normal": trained(Diagonal(), model.decoder)}
for name, model in models.items():
    with torch.no_grad():
        weights = torch.cat([model.log_weights(rows, NUM_DRAWS) for rows in held_out.split(20)], 1)
    elbo = weights.mean()
    bounds = [  # the mean over disjoint groups of k draws, so that every bound uses all of them
        (weights.view(-1, k, weights.shape[1]).logsumexp(1) - math.log(k)).mean() for k in counts
    ]
    print(
        f"{name:16s} ELBO {elbo:8.3f}   bound of {NUM_DRAWS} draws {bounds[-1]:8.3f}"
        f"   gap {bounds[-1] - elbo:.3f} nats"
    )
    left.semilogx(counts, bounds, "o-", label=name)
left.set(xlabel="draws of the posterior, K", ylabel="bound of log p(x), nats")
left.set(title="Held-out digits: importance-weighted bounds")
left.legend()
with torch.no_grad():
    drawn = model.decoder(torch.randn(40, NUM_LATENT)).sigmoid().view(4, 10, 8, 8)
drawn = nn.functional.pad(drawn, (1, 1, 2, 2))  # apart from one another
right.imshow(drawn.permute(0, 2, 1, 3).reshape(48, 100), cmap="gray_r")
right.set(title="Digits that the decoder makes of the prior", xticks=[], yticks=[])
options.out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(options.out, dpi=120)
print(f"wrote {options.out}")
