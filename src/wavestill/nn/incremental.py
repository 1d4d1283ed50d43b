r"""A masked network, output by output, at the cost of half a pass in all.

An autoregressive network is inverted one step at a time. Run anew for each of its `D` steps it
costs `D` passes. But a hidden unit that looks at the first `k` inputs alone is final as soon as
these are known: computed once, when its last input arrives, all units of all layers together
cost

.. math:: \sum_{k=1}^{D} (H / D)\, k\, H / D \approx \tfrac12 H^2

products a layer, half of one dense pass.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from zuko.nn import MaskedLinear, MaskedMLP  # type: ignore[import-untyped]


class IncrementalMLP:
    """A `zuko.nn.MaskedMLP` whose inputs arrive in groups.

    Holds a copy of the weights, units sorted by the group that completes them; without gradients.

    Arguments:
        net: The network; its inputs are `D` steps and, after them, context.
        order: The group of each step, `(D,)`: step `i` is known after group `order[i]`.
        num_outputs: Outputs per step; those of step `i` look at groups before its own.

    Raises:
        ValueError: If the network has other layers than masked linear ones and activations.
    """

    def __init__(self, net: MaskedMLP, order: Tensor, num_outputs: int) -> None:
        linears = [layer for layer in net if isinstance(layer, MaskedLinear)]
        self._activations = [layer for layer in net if not isinstance(layer, MaskedLinear)]
        if len(self._activations) != len(linears) - 1:
            raise ValueError(
                f"{len(linears)} masked layers with {len(self._activations)} others between them "
                "cannot be taken apart; give a network without residual blocks"
            )
        self.num_outputs = num_outputs
        self.num_groups = int(order.max()) + 1
        steps = torch.argsort(order, stable=True)
        self.steps = torch.split(steps, torch.bincount(order).tolist())
        # The group after which each unit is final; of context, -1: it is known from the start.
        ready = torch.full((linears[0].in_features,), -1, device=order.device)
        ready[: len(order)] = order
        self._weights: list[Tensor] = []
        self._biases: list[Tensor] = []
        self._counts: list[list[int]] = []  # units that are final after groups -1, 0, 1, ...
        places = torch.argsort(ready, stable=True)
        self._input_places = places
        self._counts.append(self._final_after(ready))
        for number, linear in enumerate(linears):
            mask = linear.mask
            seen = torch.where(mask, ready, -1).amax(1)
            if number == len(linears) - 1:
                outputs = steps.repeat_interleave(num_outputs) * num_outputs
                own = outputs + torch.arange(num_outputs, device=order.device).repeat(len(order))
            else:
                own = torch.argsort(seen, stable=True)
                self._counts.append(self._final_after(seen))
            weight = (linear.weight * mask).detach()
            self._weights.append(weight[own][:, places].contiguous())
            self._biases.append(linear.bias.detach()[own].unsqueeze(1))
            places, ready = own, seen

    def _final_after(self, ready: Tensor) -> list[int]:
        counts = torch.bincount(ready + 1, minlength=self.num_groups + 1)
        return [int(count) for count in counts.cumsum(0)]

    @torch.no_grad()
    def run(self, x: Tensor, context: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """The outputs of one group after another; each is to be answered by its values.

        Between two turns of the loop the group's columns of `x (B, D)` are to be written.

        Yields:
            The steps of the group, `(G,)`, and their outputs, `(B, G, num_outputs)`.
        """
        num = x.shape[0]
        inputs = x.new_zeros(self._counts[0][-1], num)
        first = self._counts[0][0]
        if context is not None:
            inputs[:first] = context.T
        layers = [inputs, *(x.new_empty(counts[-1], num) for counts in self._counts[1:])]
        done = 0
        for group, steps in enumerate(self.steps):
            known = [counts[group] for counts in self._counts]
            before = [counts[group - 1] if group else 0 for counts in self._counts]
            if group:
                inputs[before[0] : known[0]] = x[:, self.steps[group - 1]].T
            for number, act in enumerate(self._activations):
                low, high = before[number + 1], known[number + 1]
                if high > low:
                    part = self._part(number, low, high, layers[number][: known[number]])
                    layers[number + 1][low:high] = act(part)
            last, high = len(self._weights) - 1, done + len(steps) * self.num_outputs
            found = self._part(last, done, high, layers[last][: known[last]])
            done = high
            yield steps, found.T.reshape(x.shape[0], len(steps), self.num_outputs)

    def _part(self, number: int, low: int, high: int, known: Tensor) -> Tensor:
        weight = self._weights[number][low:high, : known.shape[0]]
        return torch.addmm(self._biases[number][low:high], weight, known)
