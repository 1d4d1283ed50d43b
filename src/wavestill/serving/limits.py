"""What one request may ask for, and how many may be in the house."""

from dataclasses import dataclass

from wavestill.audio.spec import FeatureSpec

_RECORDING_BYTES_PER_SECOND = 192_000  # 48 kHz, two channels, 16 bits
_JSON_BYTES_PER_NUMBER = 24  # a float64 in full, its comma and a space
_HEADER_BYTES = 65_536


@dataclass(frozen=True)
class Limits:
    """Bounds on work, memory and patience.

    Memory that clients can fill is at most `(max_active + max_waiting)` bodies and sounds: with
    the defaults some 300 MB at 24 kHz; and what one body unpacks to, which is 140 MB of samples or
    200 MB of JSON at most, for they are decoded one at a time.

    Arguments:
        max_seconds: Sound of one request, in seconds.
        max_active: Sounds drawn at the same time, in turns; who does not keep up takes none.
        max_waiting: Requests that wait beside them; one more is told to come back (429).
        body_timeout_s: Time for a request's body to arrive, in seconds.
        timeout_s: Time for a whole answer, in seconds.
        max_stream_seconds: Sound, and time, of one live stream, in seconds.
        idle_timeout_s: Silence of a live stream's client, in seconds.

    Raises:
        ValueError: If a limit is not positive.
    """

    max_seconds: float = 30.0
    max_active: int = 8
    max_waiting: int = 32
    body_timeout_s: float = 20.0
    timeout_s: float = 120.0
    max_stream_seconds: float = 600.0
    idle_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "max_waiting" else 1e-9
            if not value >= least:
                raise ValueError(f"'{name}' is {value}; it must be positive")

    @property
    def places(self) -> int:
        """Requests in the house at most."""
        return self.max_active + self.max_waiting

    def max_frames(self, spec: FeatureSpec) -> int:
        """Frames of one request."""
        return max(1, int(self.max_seconds * spec.sample_rate / spec.hop_samples))

    def max_body_bytes(self, spec: FeatureSpec) -> int:
        """Bytes of one request's body, whatever is in it."""
        recording = int(self.max_seconds * _RECORDING_BYTES_PER_SECOND)
        frames = self.max_frames(spec) * spec.num_features * _JSON_BYTES_PER_NUMBER
        return max(recording, frames) + _HEADER_BYTES
