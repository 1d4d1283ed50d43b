"""A corpus larger than memory: a million clips in 8 GiB that are mostly holes."""

import json
import os
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest

from wavestill.audio.clip_table import COLUMNS, ClipTable
from wavestill.audio.mel import MEL_PRESETS
from wavestill.audio.shards import Shard
from wavestill.audio.writing import _header, write_index

SPEC = MEL_PRESETS["wavestill_8k"]
NUM_CLIPS, NUM_SHARDS, NUM_FRAMES = 1_000_000, 8, 18
PER_SHARD = NUM_CLIPS // NUM_SHARDS


@pytest.fixture(scope="module")
def sparse(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    shards, num_frames = [], PER_SHARD * NUM_FRAMES
    for number in range(NUM_SHARDS):
        shards.append(Shard(f"audio-{number:05}.npy", f"frames-{number:05}.npy", num_frames, 0, 0))
        for name, shape, dtype in (
            (shards[-1].audio, (num_frames * SPEC.hop_samples,), np.dtype("<i2")),
            (shards[-1].frames, (num_frames, SPEC.num_features), np.dtype("<f4")),
        ):
            (folder / name).write_bytes(_header(shape, dtype))
            os.truncate(folder / name, 128 + int(np.prod(shape)) * dtype.itemsize)
    number = np.arange(NUM_CLIPS)
    columns = np.zeros(NUM_CLIPS, COLUMNS)
    columns["shard"], columns["first_frame"] = number // PER_SHARD, number % PER_SHARD * NUM_FRAMES
    columns["num_frames"], columns["speaker"] = NUM_FRAMES, number % 100
    columns["audio_crc32"] = zlib.crc32(bytes(2 * NUM_FRAMES * SPEC.hop_samples))
    columns["frames_crc32"] = zlib.crc32(bytes(4 * NUM_FRAMES * SPEC.num_features))
    words = "".join(f"{i:07}wavs/{i:07}.wav{'Said by one of many. ' * 4}" for i in number.tolist())
    columns["id_bytes"], columns["source_bytes"], columns["text_bytes"] = 7, 16, 84
    columns["strings"] = number * 107
    strings = np.frombuffer(words.encode(), np.uint8)
    table = ClipTable(columns, strings, [f"p{i}" for i in range(100)], [[]])
    header = {"source": "nowhere", "spec": SPEC.to_dict(), "level_dbfs": -23.0, "seed": 0}
    write_index(folder, table, shards, header)
    return folder


SCRIPT = """
    import json, resource, sys, time
    import torch
    from wavestill.audio import Corpus, Crops

    def peak_mib():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    torch.zeros(16, 800).float() / 3
    before = peak_mib()
    start = time.monotonic()
    clips = Corpus(sys.argv[1]).split("train")
    crops = Crops(clips, clip_frames=8, batch_size=16)
    crops.batch(0)
    opened, open_s = peak_mib(), time.monotonic() - start
    for step in range(500):
        crops.batch(step)
    assert clips[999_999].text.startswith("Said by")
    figures = {"open_mib": opened - before, "open_s": open_s, "grown": peak_mib() - opened}
    print(json.dumps(figures))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts in other units elsewhere")
def test_memory_stays_flat(sparse, tmp_path):
    """500 batches touch clips of every shard; 8 GiB are there to be touched."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    total = sum(path.stat().st_size for path in sparse.glob("*-0*.npy"))
    assert total > 7.6 * 2**30
    assert (sparse / "index.json").stat().st_size < 10_000
    done = subprocess.run(
        [sys.executable, str(script), str(sparse)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["open_mib"] < 400, found  # the table of a million clips
    assert found["grown"] < 20, found
