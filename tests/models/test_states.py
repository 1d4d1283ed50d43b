"""States that are cut: every sequence goes on from where it stands."""

import pytest
import torch

from tests.models.table import HOP, STUDENTS, TEACHERS
from wavestill.density import State

T = 6 * HOP


def begun(name):
    """A model, its context, and its incremental call as (inputs, state) -> (law, state)."""
    case = (TEACHERS | {f"student {key}": value for key, value in STUDENTS.items()})[name]
    model, context = case.model(), case.context(3, 6)

    def call(x, state=None):
        if name.startswith("student"):
            draw, state = model.stream(x, context, state)
            return draw.conditionals, state
        return model.advance(x, context, state)

    return call


NAMES = [*TEACHERS, *(f"student {key}" for key in STUDENTS)]


def values(law):
    """Numbers that tell a law."""
    return law.log_cdf(torch.tensor(0.1, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("counts", [2, [4, 0, 7], [1, 3, 3]])
def test_rewound_and_fed_again_equals_never_fed(name, counts):
    call = begun(name)
    torch.manual_seed(3)
    x, wrong = (0.2 * torch.randn(3, T, dtype=torch.float64) for _ in range(2))
    cuts = [counts] * 3 if isinstance(counts, int) else counts
    ends = [20 - cut for cut in cuts]
    first = x[:, :20].clone()
    for i, end in enumerate(ends):
        first[i, end:] = wrong[i, end:20]
    _, state = call(first[:, :9])
    _, state = call(first[:, 9:], state)
    assert isinstance(state, State)
    state.rewind(counts if isinstance(counts, int) else torch.tensor(counts))
    again = torch.stack([x[i, end : end + 8] for i, end in enumerate(ends)])
    law, state = call(again, state)
    whole, _ = call(x[:, :-1])
    lead = 0 if name.startswith("student") else 1  # the law that follows, or that of the step
    for i, end in enumerate(ends):
        expected = values(whole)[i, end + lead : end + lead + 8]
        torch.testing.assert_close(values(law)[i], expected, rtol=1e-10, atol=1e-10)
    # and on, with some of them only
    keep = torch.tensor([2, 1])
    state.select(keep)
    law, _ = call(torch.stack([x[i, ends[i] + 8 : ends[i] + 12] for i in keep]), state)
    for row, i in enumerate(keep):
        expected = values(whole)[i, ends[i] + 8 + lead : ends[i] + 12 + lead]
        torch.testing.assert_close(values(law)[row], expected, rtol=1e-10, atol=1e-10)


def test_positions_are_one_again_once_the_sequences_stand_together():
    call = begun("mel")
    _, state = call(torch.zeros(3, 10, dtype=torch.float64))
    state.rewind(torch.tensor([2, 0, 1]))
    assert state.position.tolist() == [9, 11, 10]
    state.rewind(torch.tensor([0, 2, 1]))
    assert state.position == 9
