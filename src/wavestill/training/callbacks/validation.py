"""Figures on held-out material, from averaged weights."""

import torch

from wavestill.training.callbacks.averaging import Averaging
from wavestill.training.data import Batch
from wavestill.training.module import Task


class Validation:
    """Figures of a task on a fixed set of held-out batches.

    Arguments:
        batches: The held-out batches; the same ones each time.
        averaging: Where the averaged weights are.
    """

    def __init__(self, batches: list[Batch], averaging: Averaging) -> None:
        self.batches = batches
        self.averaging = averaging

    @torch.no_grad()
    def __call__(self, task: Task) -> dict[str, float]:
        """Means over the batches that report a figure; the noise is the same each time.

        A figure that is not finite stays so: it must be seen, not averaged away.
        """
        found: dict[str, list[float]] = {}
        with self.averaging.applied(task):
            for number, batch in enumerate(self.batches):
                torch.manual_seed(number)  # the next training step seeds anew
                values = task.measure(task.transfer_batch_to_device(batch, task.device, 0))
                for name, value in values.items():
                    found.setdefault(name, []).append(float(value))
        return {name: sum(values) / len(values) for name, values in found.items()}
