"""What every kind of frames says of itself, and specs from files."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class FeatureSpec(Protocol):
    """How frames are made: `MelSpec` of sound, `LinguisticSpec` of labels.

    Corpora, models and voices need no more of it than this.
    """

    @property
    def sample_rate(self) -> int:
        """Samples per second of the sound."""
        ...

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        ...

    @property
    def pitch(self) -> bool:
        """Whether the last two columns are log F0 (nats of Hz) and voicing (0 or 1)."""
        ...

    @property
    def num_features(self) -> int:
        """Columns of a frame."""
        ...

    @property
    def min_samples(self) -> int:
        """The shortest sound that has frames."""
        ...

    @property
    def summary(self) -> str:
        """The frames in a few words, for people."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        ...

    def require_same(self, other: object) -> None:
        """Refuse frames of another spec.

        Raises:
            ValueError: If `other` is of another kind, or any field differs.
        """
        ...


def spec_from_dict(values: dict[str, Any]) -> FeatureSpec:
    """The spec that `to_dict` described; without a `kind` it is a mel spec.

    Raises:
        ValueError: If the kind is unknown, or a field is missing, unknown or of another type.
    """
    from wavestill.audio.linguistic import LinguisticSpec  # both name the protocol above
    from wavestill.audio.mel import MelSpec

    kind = values.get("kind", "mel")
    if kind == "mel":
        return MelSpec.from_dict({k: v for k, v in values.items() if k != "kind"})
    if kind == LinguisticSpec.KIND:
        return LinguisticSpec.from_dict(values)
    raise ValueError(f"'kind' is {kind!r}; specs are 'mel' or '{LinguisticSpec.KIND}'")
