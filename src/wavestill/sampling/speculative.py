r"""Exact samples of a teacher, drafted by its student and verified in windows.

A round costs one pass of each: the student maps the next `W` noise to drafts :math:`x_t` with
their laws :math:`q(x_t \mid x_{<t})`, the teacher gives :math:`p(x_t \mid x_{<t})` of all of them.
Drafts are kept up to the first rejection, which is replaced by a draw of the residual (see
`acceptance`). The replaced sample is inverted to its own noise, and all noise after it is used
again: nothing that was decided so far depends on it. What the teacher said of the drafts that are
made anew moves them (see `refinement`).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavestill.density import Autoregressive, Context, InverseAutoregressive, State, Streaming
from wavestill.distributions import Discretized, Distribution, LocationScale, MuLaw
from wavestill.sampling.acceptance import (
    TO_PLACE,
    Draft,
    draft_for,
    draw_keys,
    draw_residual,
    in_double,
    is_kept,
    rejection_probability,
    uniforms,
)
from wavestill.sampling.cached import check_noise
from wavestill.sampling.refinement import Refinement
from wavestill.sampling.windows import best_window

# What a round costs beyond its steps, in steps of one stream: see `best_window`. On one core a
# teacher of 18 layers and its student of 28 have some 100 at 64 channels and 30 at 256; half or
# twice the best window costs a few per cent.
OVERHEAD_STEPS = 64
# Corrections beyond leave the student at the nearest noise it may know (a logistic draw exceeds 12
# once in 80,000): a flow fed with noise far outside its training can run away, each correction
# asking for larger noise until nothing is finite. Seen within 100 samples of speech. Whatever
# the draft is made from, the law of the samples stays exact.
NOISE_MAX = 12.0


@dataclass
class Speculation:
    r"""Samples of the teacher, and what they cost.

    Arguments:
        x: The samples, `(B, T)`.
        noise: The student's noise that maps to them, `(B, T)`; on a grid, into their bins. Where
            it is held at `NOISE_MAX` it maps short of the sample.
        accepted: Which are the student's drafts, kept; the others were corrected. `(B, T)`.
        total_variation: What each decision says of the total variation of its step,
            :math:`1 - \min(1, p/q)` at the draft, `(B, T)`, float64. Each step is decided once,
            on a draft that is a fresh draw of q after a prefix that is an exact draw of the
            teacher: so each value is an unbiased estimate of TV under the teacher's prefixes,
            without the coin of the decision itself.
        rounds: Rounds that each stream took, `(B,)`.
        windows: The window of each round, before the end cut it.
        expected_rounds: The bound of a stream's expected rounds,
            :math:`\lceil T / W \rceil + \sum_t \mathrm{TV}_t` with the measured TV; mean over the
            streams. For windows that changed, `W` is their harmonic mean over the samples.
    """

    x: Tensor
    noise: Tensor
    accepted: Tensor
    total_variation: Tensor
    rounds: Tensor
    windows: list[int]
    expected_rounds: float

    @property
    def num_rounds(self) -> int:
        """Rounds in all: passes of each network, all streams together."""
        return len(self.windows)

    @property
    def num_rejections(self) -> int:
        """Drafts that were replaced, all streams together."""
        return int((~self.accepted).sum())

    @property
    def samples_per_round(self) -> float:
        """Samples of one stream per round that it took part in: `T / rounds` for one."""
        return self.x.numel() / int(self.rounds.sum())

    @property
    def tv_per_step(self) -> float:
        """Total variation of student and teacher, mean of the steps, under teacher's prefixes."""
        return float(self.total_variation.mean())


def speculative(
    teacher: Autoregressive,
    student: InverseAutoregressive,
    noise: Tensor,
    context: Context = None,
    *,
    student_context: Context = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    window: int | None = None,
    refine: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Speculation:
    r"""Draw from the teacher by draft and verification.

    Which law is exact:

    - A continuous teacher: x has the teacher's density, for any student.
    - A teacher on a grid (`Discretized`, `MuLaw`): x lies on the grid and has the teacher's law
      there, each step given the grid points before it. The student stays continuous, and its
      drafts may depend on its own noise within the bins.

    "The teacher's" is what its `advance` returns in the precision of its parameters; from there
    on all is float64: densities, masses, decisions and residual draws. The random uniforms have
    52 bits; each step's law is exact to about 1e-12 in total variation (see
    `acceptance.draw_residual`). A continuous sample is rounded once to the noise's dtype.

    A decision uses only its own step's random word, drawn from ``generator`` in one call before
    the first round. So with a given ``window``, which streams are drawn together changes nothing
    but the rounding of the networks; and unless drafts are refined, no window does.

    .. math:: E[\mathrm{rounds}] \le \lceil T / W \rceil + \sum_t E_{x_{<t} \sim p}\,
        \mathrm{TV}(q_t, p_t)

    References:
        | Fast Inference from Transformers via Speculative Decoding (Leviathan et al., 2023),
          algorithm 1, https://arxiv.org/abs/2211.17192
        | Parallel WaveNet (van den Oord et al., 2018), section 3, for the student's conditionals,
          https://arxiv.org/abs/1711.10433

    Arguments:
        teacher: The density to draw from.
        student: The draft: any stack of flows in the teacher's order, of either base.
        noise: Base draws of the student, `(B, T)` (`standard_noise(student.base, ...)`), one row
            for each stream. They must be fresh: noise of another temperature, or chosen, makes no
            draws of the teacher.
        context: `Conditioning` or frames, given to both; each encodes them itself.
        student_context: The student's, where `context` is of the teacher alone, having been
            encoded by it.
        generator: Source of the decisions; or one for each stream, which then decides as it would
            by itself.
        window: Drafts per round; None chooses it before each round from the rejections so far
            (`best_window`).
        refine: Move drafts that are made anew by what the teacher said of them (`refinement`).
            Without, they are the student's own, and the total variation is its own as well.
        progress: Called after each round with the samples done and the samples in all.

    Returns:
        The samples with their decisions and costs. Beside the rounds the teacher makes one pass of
        one step, which tells its grid.

    Raises:
        ValueError: If the noise is not finite or has no steps, the window is not positive, a
            model cannot stream or rewind, or its laws are not finite.

    Example:
        >>> from wavestill.distributions import standard_noise
        >>> from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
        >>> teacher = WaveNet(WaveNetConfig(layers=4, residual_channels=8, gate_channels=8))
        >>> student = IAFWaveNet(IAFWaveNetConfig(flows=(4, 4), channels=8))
        >>> result = speculative(teacher, student, standard_noise("logistic", (2, 50)))
        >>> result.x.shape, result.tv_per_step < 1 < result.expected_rounds
        (torch.Size([2, 50]), True)
    """
    rounds = speculative_rounds(
        teacher,
        student,
        noise,
        context,
        student_context=student_context,
        generator=generator,
        window=window,
        refine=refine,
    )
    while True:
        try:
            _, position = next(rounds)
        except StopIteration as ended:
            drawn: Speculation = ended.value
            return drawn
        if progress is not None:
            progress(int(position.sum()), noise.numel())


def speculative_rounds(
    teacher: Autoregressive,
    student: InverseAutoregressive,
    noise: Tensor,
    context: Context = None,
    *,
    student_context: Context = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    window: int | None = None,
    refine: bool = True,
) -> Generator[tuple[Tensor, Tensor], None, Speculation]:
    """`speculative`, round by round.

    Yields:
        After each round the samples `(B, T)` and how many of each stream are done, `(B,)`: those
        will not change. Both are the sampler's own; copy what is kept.

    Returns:
        What `speculative` returns.
    """
    rounds = _rounds(
        teacher, student, noise, context, student_context, generator, window, refine=refine
    )
    while True:
        with torch.no_grad():  # not around the yield: whoever takes the round has his own mode
            try:
                told = next(rounds)
            except StopIteration as ended:
                drawn: Speculation = ended.value
                return drawn
        yield told


def _rounds(
    teacher: Autoregressive,
    student: InverseAutoregressive,
    noise: Tensor,
    context: Context,
    student_context: Context,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    window: int | None,
    *,
    refine: bool,
) -> Generator[tuple[Tensor, Tensor], None, Speculation]:
    check_noise(noise)
    if window is not None and window < 1:
        raise ValueError(f"the window is {window}; give at least 1, or None to have it chosen")
    own_context = context if student_context is None else student_context
    pair = _Pair(teacher, student, context, own_context, noise)
    num_streams, length = noise.shape
    if isinstance(generator, Sequence):
        own_keys = [draw_keys((length,), generator=g, device=noise.device) for g in generator]
        keys = torch.stack(own_keys)
    else:
        keys = draw_keys((num_streams, length), generator=generator, device=noise.device)
    z, x = noise.clone(), torch.zeros_like(noise)
    refinement = Refinement(noise)
    accepted = torch.zeros_like(noise, dtype=torch.bool)
    variation = torch.zeros_like(noise, dtype=torch.float64)
    position, rounds = (torch.zeros_like(keys[:, 0]) for _ in range(2))
    full_rounds = torch.zeros_like(variation[:, 0])  # sum of 1 / W over the samples
    windows: list[int] = []
    num_done, num_expected = 0, 0.0  # samples, and the rejections that were to be expected in them

    active = torch.arange(num_streams, device=noise.device)
    while len(active):
        here = position[active]
        # Begun as one rejection in eight steps: the first window is a modest one.
        rate = (1 + num_expected) / (8 + num_done)
        windows.append(window or best_window(rate, OVERHEAD_STEPS / len(active)))
        width = min(windows[-1], length - int(here.min()))
        rows, steps = active.unsqueeze(1), torch.arange(width, device=noise.device)
        columns = here.unsqueeze(1) + steps  # (A, W)
        # Streams ahead of the others draft past the end; what is drafted there is not used.
        is_inside, columns = columns < length, columns.clamp(max=length - 1)

        window_of = rows.expand_as(columns), columns

        z_new = refinement.moved(z[window_of], window_of)
        own = pair.own_laws(z[active, here - 1].unsqueeze(1), z_new)
        draft = pair.draft(refinement.proposal(own, window_of))
        x_new = draft.from_noise(z[window_of].double()).to(x.dtype)
        p = pair.verify(x[active, here - 1].unsqueeze(1), x_new)
        log_q = draft.log_prob(x_new.double())
        log_ratio = p.log_prob(x_new.double()) - log_q
        keeps = is_kept(log_ratio, keys[rows, columns])
        num_kept = (keeps & is_inside).long().cumprod(1).sum(1)
        is_rejected = num_kept < is_inside.sum(1)
        if bool(is_rejected.any()):
            at = is_rejected.nonzero().squeeze(1), num_kept[is_rejected]
            _check_laws(log_ratio[at], log_q[at], columns[at])
            step_keys = keys[active[at[0]], columns[at]]
            y = draw_residual(p[at], draft[at], log_ratio[at], step_keys).to(x.dtype)
            u = uniforms(step_keys, TO_PLACE, 1)[0]
            z_at = draft[at].to_noise(y.double(), u)
            z_at = refinement.moved(z_at, (active[at[0]], columns[at]))
            x_new[at], z_new[at] = y, z_at.clamp(-NOISE_MAX, NOISE_MAX).to(z.dtype)

        num_new = num_kept + is_rejected.long()
        is_new = steps < num_new.unsqueeze(1)
        places = window_of[0][is_new], columns[is_new]
        x[places], z[places] = x_new[is_new], z_new[is_new]
        accepted[places] = keeps[is_new]
        variation[places] = rejection_probability(log_ratio)[is_new]
        is_left = is_inside & ~is_new
        if refine:
            refinement.learn(own[is_left], p[is_left], (window_of[0][is_left], columns[is_left]))
        num_done += int(num_new.sum())
        num_expected += float(variation[places].sum())
        position[active] += num_new
        rounds[active] += 1
        full_rounds[active] += num_new.double() / windows[-1]
        pair.cut(width - num_new, remaining := (position[active] < length).nonzero().squeeze(1))
        active = active[remaining]
        yield x, position

    expected = torch.ceil(full_rounds - 1e-9) + variation.sum(1)  # a sum of 1 / W may round up
    return Speculation(x, z, accepted, variation, rounds, windows, float(expected.mean()))


class _Pair:
    """Teacher and student with their states, both one step behind the samples that are done.

    So the last sample, which may have been corrected, is fed once more: a cut state cannot know
    it. A teacher's first call has no step to lag.
    """

    def __init__(
        self,
        teacher: Autoregressive,
        student: InverseAutoregressive,
        context: Context,
        student_context: Context,
        noise: Tensor,
    ) -> None:
        if not isinstance(student, Streaming):
            raise ValueError(
                f"{type(student).__name__} has no 'stream'; draft with a student such as "
                "IAFWaveNet"
            )
        self._teacher, self._student = teacher, student
        self._teacher_state: State | None = None
        self._student_state: State | None = None
        self._student_context = student_context
        self._context = teacher.encode(context) if hasattr(teacher, "encode") else context
        law, _ = teacher.advance(noise[:, :0], self._context)
        self._grid = in_double(law) if isinstance(law, Discretized | MuLaw) else None

    def own_laws(self, z_before: Tensor, z: Tensor) -> LocationScale:
        """The student's laws `(A, W)` of the steps of `z`; `z_before (A, 1)` is done."""
        fed = z if self._student_state is None else torch.cat([z_before, z], 1)
        context = self._student_context if self._student_state is None else None
        draw, self._student_state = self._student.stream(fed, context, self._student_state)
        laws = draw.conditionals[:, -z.shape[1] :]
        if not isinstance(laws, LocationScale):
            raise ValueError(
                f"the student's laws are {type(laws).__name__}, which have no bin masses; "
                "draft with a continuous student (Logistic or Normal)"
            )
        return laws

    def draft(self, proposal: LocationScale) -> Draft:
        """What such laws propose to the teacher."""
        return draft_for(proposal, self._grid)

    def verify(self, x_before: Tensor, x: Tensor) -> Distribution:
        """The teacher's laws `(A, W)` at the drafts `x`; `x_before (A, 1)` is done."""
        fed = x[:, :-1] if self._teacher_state is None else torch.cat([x_before, x[:, :-1]], 1)
        context = self._context if self._teacher_state is None else None
        laws, self._teacher_state = self._teacher.advance(fed, context, self._teacher_state)
        return in_double(laws)

    def cut(self, num_unused: Tensor, remaining: Tensor) -> None:
        """Forget drafts not used, `(A,)` of each stream, and streams that do not remain."""
        for model, state, num_steps in (
            (self._student, self._student_state, num_unused + 1),  # it saw the last draft as well
            (self._teacher, self._teacher_state, num_unused),
        ):
            if not isinstance(state, State):
                raise ValueError(
                    f"the state of {type(model).__name__} cannot be cut; give it 'rewind' and "
                    "'select' (density.State), or draw with 'cached'"
                )
            # By one number where all streams agree: so they keep one common position.
            agree = bool((num_steps == num_steps[0]).all())
            state.rewind(int(num_steps[0]) if agree else num_steps)
            if 0 < len(remaining) < len(num_unused):
                state.select(remaining)


def _check_laws(log_ratio: Tensor, log_q: Tensor, steps: Tensor) -> None:
    """Refuse rejections by laws that decide nothing: no residual draw would ever be kept."""
    if bool(log_ratio.isnan().any()):
        model = "student" if bool(log_q.isnan().any()) else "teacher"
        raise ValueError(
            f"the {model} has no finite law at step {int(steps[log_ratio.isnan()].min())}; check "
            "its weights and the context, or draw with 'cached'"
        )
