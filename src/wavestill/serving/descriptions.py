"""What OpenAPI says of requests and answers, with examples."""

from typing import Any

from wavestill.publish import Voice
from wavestill.serving.limits import Limits

DESCRIPTION = """\
Sound from mel frames, or copies of recordings, by one voice.

The seed makes an answer reproducible: the same body, sampler and seed give the same samples,
whatever else the service is doing, and those that `wavestill synth --seed` writes.

    curl --data-binary @sentence.wav 'localhost:8000/v1/vocode?seed=1' -o copy.wav
    curl --data-binary @frames.npy -H 'Content-Type: application/x-npy' \\
         'localhost:8000/v1/vocode?format=flac' -o sound.flac

Live sound comes over the WebSocket `/v1/stream`: see docs/serving.md.
"""

_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
    "example": {"error": "the .npy has shape (80, 412); this voice takes (frames, 82)"},
}

_REASONS = {
    400: "The request is no HTTP that is understood here.",
    401: "The token is missing or wrong.",
    403: "A page of another site asks.",
    404: "There is nothing at this path.",
    405: "This path has other methods.",
    408: "The body was not here in time.",
    413: "Too long: in bytes, in frames, in seconds, or in time to make.",
    415: "The body is of no kind that is read here.",
    422: "The body or a parameter cannot be used; the error says why, and what would do.",
    429: "All places are taken; come back after Retry-After seconds.",
    503: "The service is loading or shutting down.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers other than the wished one."""
    return {
        status: {
            "description": _REASONS[status],
            "content": {"application/json": {"schema": _ERROR}},
        }
        for status in statuses
    }


def recording_body() -> dict[str, Any]:
    """A recording."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    kinds = ("audio/wav", "audio/flac", "application/octet-stream")
    return {
        "required": True,
        "description": "A recording: WAV or FLAC.",
        "content": dict.fromkeys(kinds, binary),
    }


def vocode_body(voice: Voice, limits: Limits) -> dict[str, Any]:
    """Frames or a recording."""
    columns = voice.spec.num_features
    row = {"type": "array", "items": {"type": "number"}, "minItems": columns, "maxItems": columns}
    frames = {
        "type": "array",
        "items": row,
        "minItems": 1,
        "maxItems": limits.max_frames(voice.spec),
        "description": "Log-mel frames of the voice's spec (GET /v1/models), one row per frame.",
    }
    schema = {
        "type": "object",
        "properties": {"frames": frames},
        "required": ["frames"],
        "additionalProperties": False,
    }
    example = {"frames": [[round(-5 + 0.01 * i, 2) for i in range(columns)]] * 2}
    body = recording_body()
    body["description"] = (
        "Frames (.npy of shape (frames, columns), or JSON), or a recording (WAV, FLAC) to copy. "
        "What is not JSON is known by its first bytes."
    )
    binary = {"schema": {"type": "string", "format": "binary"}}
    body["content"] = {
        "application/json": {"schema": schema, "example": example},
        "application/x-npy": binary,
        **body["content"],
    }
    return body


def sound_answer(media_types: list[str]) -> dict[int | str, dict[str, Any]]:
    """The sound."""
    return {
        200: {
            "description": "The sound, 16 bits, one channel, streamed as it is made.",
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}} for kind in media_types
            },
            "headers": {
                "X-Sample-Rate": {
                    "description": "Samples per second.",
                    "schema": {"type": "integer"},
                },
                "X-Num-Samples": {
                    "description": "Samples of the whole.",
                    "schema": {"type": "integer"},
                },
            },
        }
    }
