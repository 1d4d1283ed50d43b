r"""Linguistic features: which phone is said, between which others, how far into it, how long.

What the WaveNet papers call linguistic features, made of time-stamped phones alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32

from wavestill.audio.labels import SILENCE, Label
from wavestill.audio.mel import MelSpec
from wavestill.audio.pitch import estimate_pitch
from wavestill.audio.spec import FeatureSpec

MAX_OVERHANG_S = 0.1
"""Labels that last longer than their sound by more than this are of another one."""

_NUM_NUMBERS = 2  # place in the phone, log duration


@dataclass(frozen=True)
class LinguisticSpec:
    r"""How labels become frames.

    Frame `i` describes the phone under its centre, sample `(i + 0.5) * hop_samples`. Its columns:

    - who: for each of the phones two before, one before, here, one after and two after (as in
      quinphones; `context` says how many on either side) one column per phone of the inventory,
      1 for the one that it is, else 0; all 0 before the first and after the last phone;
    - the place in the phone, :math:`(t - t_0) / (t_1 - t_0)`, from 0 to 1;
    - the logarithm of its duration in seconds, :math:`\ln(t_1 - t_0)`;
    - with `pitch`, log F0 (nats of Hz) and voicing.

    Note:
        Why one column per phone and not a short code: the network's first layer multiplies the
        columns by a matrix, and so learns a vector for each phone at each place, where the bits of
        a code would make phones alike that share nothing but a bit. The price is space: 40 phones
        make 202 columns, four times the bytes of the sound at 16 kHz and a hop of 12.5 ms. The
        distance to the phone's end is one minus the place, which a layer does by itself, so it has
        no column.

    References:
        | WaveNet (van den Oord et al., 2016), section 3.2, https://arxiv.org/abs/1609.03499
        | Parallel WaveNet (van den Oord et al., 2018), section 5, https://arxiv.org/abs/1711.10433

    Arguments:
        sample_rate: Samples per second of the sound.
        hop_samples: Samples from one frame to the next.
        phones: The inventory; its order numbers the columns.
        context: Neighbours on either side, 0 or more.
        pitch: Whether log F0 and voicing follow; labels do not tell them, a recording does.

    Raises:
        ValueError: If a value is out of range, or the inventory is empty or names a phone twice.

    Example:
        >>> spec = LinguisticSpec(16000, 200, ("a", "sil"), context=1)
        >>> frames = linguistic_frames([Label(0.0, 0.025, "sil"), Label(0.025, 0.05, "a")], spec)
        >>> frames[2].tolist() == [0, 1, 1, 0, 0, 0, 0.25, float(np.log(np.float32(0.025)))]
        True
    """

    KIND: ClassVar[str] = "linguistic"

    sample_rate: int
    hop_samples: int
    phones: tuple[str, ...]
    context: int = 2
    pitch: bool = False

    def __post_init__(self) -> None:
        for name, least in (("sample_rate", 1), ("hop_samples", 1), ("context", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must be {least} or more")
        if not self.phones or len(set(self.phones)) < len(self.phones):
            raise ValueError(
                f"'phones' holds {len(self.phones)} names, {len(set(self.phones))} of them "
                "different; give each phone once, and at least one"
            )

    @property
    def num_features(self) -> int:
        """Columns of a frame."""
        return (2 * self.context + 1) * len(self.phones) + _NUM_NUMBERS + 2 * self.pitch

    @property
    def min_samples(self) -> int:
        """The shortest sound that has frames."""
        return self.hop_samples

    @property
    def summary(self) -> str:
        """The frames in a few words."""
        pitch = ", log F0 and voicing" if self.pitch else ""
        return f"{len(self.phones)} phones with {self.context} neighbours on either side{pitch}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return {"kind": self.KIND, **asdict(self), "phones": list(self.phones)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LinguisticSpec":
        """The spec that `to_dict` described.

        Raises:
            ValueError: If a field is missing, unknown or of another type.
        """
        kinds = {"sample_rate": int, "hop_samples": int, "phones": list, "context": int}
        kinds["pitch"] = bool
        values = {name: value for name, value in values.items() if name != "kind"}
        if unknown := sorted(values.keys() - kinds.keys()):
            raise ValueError(f"a linguistic spec has no field {', '.join(unknown)}")
        for name, kind in kinds.items():
            if name not in values:
                raise ValueError(f"the linguistic spec lacks the field {name}")
            if type(values[name]) is not kind:
                raise ValueError(f"'{name}' is {values[name]!r}, not of type {kind.__name__}")
        if not all(type(phone) is str for phone in values["phones"]):
            raise ValueError("'phones' holds something that is no name")
        return cls(**{**values, "phones": tuple(values["phones"])})

    def require_same(self, other: object) -> None:
        """Refuse frames of another spec.

        Raises:
            ValueError: If `other` is of another kind, or any field differs; the message names each
                with the value here and there.
        """
        if not isinstance(other, LinguisticSpec):
            raise ValueError(
                f"linguistic features against a {type(other).__name__}; make both with one spec"
            )
        if self.phones != other.phones:
            own, others = set(self.phones), set(other.phones)
            told = ", ".join(sorted(own ^ others)[:5]) or "the order"
            raise ValueError(
                f"features of another spec: {len(own)} phones against {len(others)}, which differ "
                f"in {told}; make both with the same inventory"
            )
        differing = [
            f"{name} {getattr(self, name)!r} against {getattr(other, name)!r}"
            for name in ("sample_rate", "hop_samples", "context", "pitch")
            if getattr(self, name) != getattr(other, name)
        ]
        if differing:
            raise ValueError(
                f"features of another spec: {', '.join(differing)}; make both with the same one"
            )


def measuring_spec(spec: FeatureSpec) -> MelSpec:
    """The mels that sounds made of such frames are measured by: the spec itself if it is of mels.

    Otherwise 80 bands over the whole range, in windows of 50 ms at its own hop.
    """
    if isinstance(spec, MelSpec):
        return spec
    win_samples = max(round(0.05 * spec.sample_rate), spec.hop_samples)
    n_fft = 1 << (win_samples - 1).bit_length()
    return MelSpec(
        *(spec.sample_rate, n_fft, spec.hop_samples, win_samples, 80, 0.0, spec.sample_rate / 2),
        pitch=spec.pitch,
        padding="center" if spec.hop_samples % 2 else "same",
    )


def phone_inventory(utterances: Iterable[Sequence[Label]]) -> tuple[str, ...]:
    """Every phone of some utterances, and silence, in alphabetical order."""
    return tuple(sorted({label.phone for labels in utterances for label in labels} | {SILENCE}))


def num_label_frames(labels: Sequence[Label], spec: LinguisticSpec) -> int:
    """Frames from the beginning to the end of the last label, the last one filled; 1 or more."""
    # A millionth of a frame: times in files are decimal, and 0.3 / 0.1 must be 3.
    frames = labels[-1].end_s * spec.sample_rate / spec.hop_samples
    return max(1, math.ceil(frames - 1e-6))


def linguistic_frames(
    labels: Sequence[Label],
    spec: LinguisticSpec,
    num_frames: int | None = None,
    *,
    pitch: Float32[np.ndarray, "F 2"] | None = None,
) -> Float32[np.ndarray, "F C"]:
    """The frames of an utterance.

    Arguments:
        labels: Its phones, without gaps, as `read_labels` gives them.
        spec: What to compute.
        num_frames: How many; None takes as many as the labels last. Beyond them is silence.
        pitch: Log F0 and voicing of each frame, if the spec has pitch.

    Raises:
        ValueError: If there are no labels, a phone is not in the inventory, or `pitch` is missing,
            superfluous or of another length.
    """
    if not labels:
        raise ValueError("there are no labels; give at least one")
    num_frames = num_label_frames(labels, spec) if num_frames is None else num_frames
    if (pitch is None) == spec.pitch or (pitch is not None and pitch.shape != (num_frames, 2)):
        given = "none" if pitch is None else f"some of shape {pitch.shape}"
        raise ValueError(
            f"the spec {'has' if spec.pitch else 'has no'} pitch but {given} was given; labels do "
            f"not tell it: give ({num_frames}, 2) from a recording where the spec has it"
        )
    end_s = num_frames * spec.hop_samples / spec.sample_rate
    if end_s - labels[-1].end_s > spec.hop_samples / spec.sample_rate:
        labels = [*labels, Label(labels[-1].end_s, end_s, SILENCE)]
    number = {phone: i for i, phone in enumerate(spec.phones)}
    if unknown := sorted({label.phone for label in labels} - number.keys()):
        raise ValueError(
            f"the phone '{unknown[0]}' is not among the {len(number)} that were prepared "
            f"({', '.join(spec.phones[:8])}{', ...' if len(number) > 8 else ''}); rename it in "
            "the labels"
        )
    starts, ends = (np.array([getattr(x, name) for x in labels]) for name in ("start_s", "end_s"))
    centres = (np.arange(num_frames) + 0.5) * spec.hop_samples / spec.sample_rate
    # the last frame's centre may lie up to a hop beyond the last label
    here = np.searchsorted(ends, centres, side="right").clip(max=len(labels) - 1)  # (F,)
    rows = np.arange(num_frames)
    frames = np.zeros((num_frames, spec.num_features), np.float32)
    phones = np.array([number[label.phone] for label in labels])
    for place in range(-spec.context, spec.context + 1):
        neighbour = here + place
        exists = (neighbour >= 0) & (neighbour < len(labels))
        first = (place + spec.context) * len(spec.phones)
        frames[rows[exists], first + phones[neighbour[exists]]] = 1
    numbers = (2 * spec.context + 1) * len(spec.phones)
    duration_s = ends[here] - starts[here]
    frames[:, numbers] = ((centres - starts[here]) / duration_s).clip(0, 1)
    frames[:, numbers + 1] = np.log(duration_s)
    if pitch is not None:
        frames[:, -2:] = pitch
    return frames


def extract_linguistic(
    wave: Float[np.ndarray, " T"], labels: Sequence[Label], spec: LinguisticSpec
) -> Float32[np.ndarray, "F C"]:
    """The frames of a recording whose phones are known, `F = T // hop_samples`.

    Arguments:
        wave: The sound, at the spec's rate; F0 is estimated from it if the spec has pitch.
        labels: Its phones. What they leave at the end is silence.
        spec: What to compute.

    Raises:
        ValueError: As `linguistic_frames`; or if the labels last longer than the sound.
    """
    seconds = len(wave) / spec.sample_rate
    if labels and labels[-1].end_s > seconds + MAX_OVERHANG_S:
        raise ValueError(
            f"the labels run to {labels[-1].end_s:.3f} s but the sound ends at {seconds:.3f} s; "
            "they are of another one"
        )
    pitch = estimate_pitch(wave, spec) if spec.pitch else None
    return linguistic_frames(labels, spec, len(wave) // spec.hop_samples, pitch=pitch)
