"""What sequence models carry from call to call, and how it is cut."""

from abc import ABC, abstractmethod

from torch import Tensor

from wavestill.nn.causal import History
from wavestill.nn.conditioning import Encoded


class SequenceState(ABC):
    """What a sequence model carries between calls: histories, and a place in the conditioning.

    Attributes:
        encoded: The conditioning; None for none.
        position: The step that comes next; `(B,)` once sequences stand at their own.
    """

    encoded: Encoded | None
    position: int | Tensor

    @abstractmethod
    def histories(self) -> list[History]:
        """The past of every layer."""

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last steps; see `State`."""
        for history in self.histories():
            history.rewind(num_steps)
        self.position = rewound(self.position, num_steps)

    def select(self, index: Tensor) -> None:
        """Keep only the sequences `index (B',)`."""
        for history in self.histories():
            history.select(index)
        self.encoded = None if self.encoded is None else self.encoded.select(index)
        if isinstance(self.position, Tensor):
            self.position = rewound(self.position[index], 0)


def rewound(position: int | Tensor, num_steps: int | Tensor) -> int | Tensor:
    """The position so many steps before; a single number while all sequences stand together."""
    earlier = position - num_steps
    if isinstance(earlier, Tensor) and bool((earlier == earlier[0]).all()):
        return int(earlier[0])
    return earlier
