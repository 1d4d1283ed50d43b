"""Bodies that no client should send, each with what it is meant to break."""

import io
import json
import struct
from collections.abc import Iterator

import numpy as np
import soundfile


def bad_bodies(seed: int, columns: int) -> Iterator[tuple[str, bytes, str]]:
    """Endless (kind, body, content type); no body of them is a valid request."""
    rng = np.random.default_rng(seed)
    kinds = [
        _npy_header,
        _npy_pickle,
        _npy_cut,
        _npy_values,
        _npy_garbage,
        _json_wrong,
        _json_values,
        _wav_header,
        _wav_cut,
        _flac_damaged,
        _noise,
        _foreign,
    ]
    while True:
        make = kinds[int(rng.integers(len(kinds)))]
        body, content_type = make(rng, columns)
        yield make.__name__.strip("_"), body, content_type


def _one(rng: np.random.Generator, options: list) -> object:
    return options[int(rng.integers(len(options)))]


def npy_with_header(header: str, values: bytes = b"", version: int = 1) -> bytes:
    """A .npy whose header says what it likes."""
    text = header.encode("latin-1")
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + values


def _npy_header(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    shape = _one(
        rng,
        [
            f"(10**12, {columns})",
            f"(999999999999, {columns})",
            f"(-1, {columns})",
            f"(0, {columns})",
            f"({columns},)",
            f"(3, {columns}, 1)",
            f"(1, {columns + 1})",
            "(" + "1, " * 40 + ")",
            "('a', 3)",
            "None",
            "()",
            f"(1.5, {columns})",
            f"(True, {columns})",
            f"(5, {columns})",
        ],
    )
    kind = _one(rng, ["<f4", "<f8", "<i4", "|O", "<U9", "<c8", "V4", "<f4,<f4", "../x", "|b1"])
    more = _one(rng, ["", "'x': 1, ", "'path': '/etc/passwd', "])
    header = f"{{'descr': '{kind}', 'fortran_order': {_one(rng, ['False', 'True', '7'])}, "
    values = bytes(int(rng.integers(0, 64)))
    version = int(_one(rng, [1, 2, 3, 9]))
    return npy_with_header(f"{header}{more}'shape': {shape}, }}\n", values, version), NPY


def _npy_pickle(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    file = io.BytesIO()
    array = np.array([[{"a": 1}] * columns], dtype=object)
    np.save(file, array, allow_pickle=True)
    return file.getvalue(), NPY


def _npy_cut(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    body = _npy(rng.normal(size=(4, columns)).astype(np.float32))
    if rng.random() < 0.5:
        return body[: int(rng.integers(1, len(body)))], NPY
    return body + bytes(int(rng.integers(1, 100))), NPY


def _npy_values(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    array = rng.normal(size=(4, columns)).astype(np.float32)
    array[int(rng.integers(4)), int(rng.integers(columns))] = _one(
        rng, [np.nan, np.inf, -np.inf, 1e30, -101.0]
    )
    return _npy(array), NPY


def _npy_garbage(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    del columns
    text = str(
        _one(
            rng,
            [
                "(" * 3000,
                "{" * 200,
                "__import__('os').system('x')",
                "\x00\xff",
                "'" * 99,
                "1" * 4000,
            ],
        )
    )
    return npy_with_header(text, version=int(_one(rng, [1, 2]))), NPY


def _json_wrong(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    row = [0.0] * columns
    return (
        str(
            _one(
                rng,
                [
                    "",
                    "{",
                    "[" * 50_000,
                    '{"frames": ' * 20_000,
                    "null",
                    "[]",
                    '{"frames": []}',
                    '{"frames": [[]]}',
                    '{"frames": 3}',
                    json.dumps({"frames": [row[1:]]}),
                    json.dumps({"frames": [row], "path": "/etc/passwd"}),
                    json.dumps({"frames": "../../etc/passwd"}),
                    json.dumps({"url": "http://127.0.0.1/"}),
                    json.dumps({"frames": [row] * 200})[:-2],
                    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
                ],
            )
        ).encode("latin-1"),
        "application/json",
    )


def _json_values(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    row: list[object] = [0.0] * columns
    value = str(
        _one(rng, ["NaN", "Infinity", "1e999", '"3"', "null", "true", "[1]", "{}", "9" * 400])
    )
    text = json.dumps({"frames": [row]}).replace("0.0", value, 1)
    return text.encode(), "application/json"


def _wav(rng: np.random.Generator) -> bytearray:
    file = io.BytesIO()
    wave = (3000 * rng.normal(size=2000)).astype(np.int16)
    soundfile.write(file, wave, 8000, format="WAV", subtype="PCM_16")
    return bytearray(file.getvalue())


def _wav_header(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    del columns
    body = _wav(rng)
    at, kind, values = [
        (40, "<I", [2**31, 2**32 - 2, 10**9]),  # bytes of samples
        (22, "<H", [0, 9, 1000, 65535]),  # channels
        (24, "<I", [0, 1, 100, 2**31, 2**32 - 1]),  # rate
        (34, "<H", [0, 65, 65535]),  # bits
        (20, "<H", [0, 85, 0xFFFE, 0xABCD]),  # format
    ][int(rng.integers(5))]
    struct.pack_into(kind, body, at, _one(rng, values))
    return bytes(body), "audio/wav"


def _wav_cut(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    del columns
    body = _wav(rng)
    return bytes(body[: int(rng.integers(12, len(body)))]), "audio/wav"


def _flac_damaged(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    del columns
    file = io.BytesIO()
    wave = (3000 * rng.normal(size=2000)).astype(np.int16)
    soundfile.write(file, wave, 8000, format="FLAC")
    body = bytearray(file.getvalue())
    struct.pack_into(">I", body, 22, 2**32 - 1)  # samples claimed
    if rng.random() < 0.5:
        body = body[: int(rng.integers(4, len(body)))]
    return bytes(body), "audio/flac"


def _noise(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    del columns
    body = rng.bytes(int(rng.integers(0, 2000)))
    return body, str(_one(rng, [NPY, "audio/wav", "text/plain", "", "application/json", "a/b/c"]))


def _foreign(rng: np.random.Generator, columns: int) -> tuple[bytes, str]:
    """Names, links and other formats."""
    del columns
    body = _one(
        rng,
        [
            b"/etc/passwd",
            b"../../../../etc/shadow",
            b"file:///etc/passwd",
            b"http://169.254.169.254/latest/meta-data",
            b"\x80\x04\x95cos\nsystem\n.",
            b"PK\x03\x04" + bytes(40),
            b"OggS" + bytes(60),
            b"ID3" + bytes(60),
            b"FORM\0\0\0\x04AIFF",
            b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>",
        ],
    )
    return bytes(body), str(_one(rng, ["", "application/octet-stream", "application/x-npy"]))


NPY = "application/x-npy"


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
