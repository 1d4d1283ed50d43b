"""A corpus in the making, which outlives the process that makes it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavestill.audio.clip_table import ClipEntry, ClipTable
from wavestill.audio.journal import Done, Journal, digest
from wavestill.audio.recordings import Recording
from wavestill.audio.spec import FeatureSpec
from wavestill.audio.workers import Outcome
from wavestill.audio.writing import ShardWriter, put_in_place, write_index


class Unfinished:
    """Shards that grow, and the journal of what is in them, in a folder `OUT.partial`.

    Each recording goes to its shard's files and then into the journal, so whenever the process
    ends, what the journal lists is there.

    Arguments:
        out: The corpus to be.
        spec: How its frames are made.
        shard_bytes: Most bytes of a shard.
        settings: What decides the corpus's bytes.

    Raises:
        ValueError: If the folder holds another preparation, one that runs now, or something else.
    """

    def __init__(
        self, out: Path, spec: FeatureSpec, shard_bytes: int, settings: dict[str, Any]
    ) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".partial")
        self.done: list[Done] = []
        self._journal = Journal(self.folder, settings)
        self._writer = ShardWriter(self.folder, spec, shard_bytes)

    def resume(self, recordings: Sequence[Recording]) -> None:
        """Take up what an earlier process did, as far as the recordings are still the same."""
        done = self._journal.resume(recordings)
        num_held = self._writer.resume(done)
        if num_held < len(done):
            self._journal.keep(done[:num_held])
        self.done = done[:num_held]

    def add(self, recording: Recording, outcome: Outcome) -> None:
        """Take what became of the next recording."""
        known = digest(recording)
        if outcome.treated is None:
            entry = Done(known, skipped=outcome.reason)
        else:
            audio, frames, gain_db, notes, prompt = outcome.treated
            sums = self._writer.add(audio, frames)
            entry = Done(
                recording=known,
                prompt=prompt,
                num_frames=len(frames),
                gain_db=round(gain_db, 3),
                notes=notes,
                audio_crc32=sums.audio,
                frames_crc32=sums.frames,
                shard_crc32=sums.shard,
            )
        self._journal.add(entry)
        self.done.append(entry)

    def entries(
        self, named: Sequence[tuple[Recording, str]], splits: Sequence[str]
    ) -> list[ClipEntry]:
        """The clips' entries, of the recordings that were used, their names and splits."""
        used = [entry for entry in self.done if entry.skipped is None]
        places = self._writer.places([entry.num_frames for entry in used])
        return [
            ClipEntry(
                id=recording.id,
                split=split,
                text=recording.text,
                speaker=recording.speaker,
                source=name,
                shard=place.shard,
                first_frame=place.first_frame,
                num_frames=entry.num_frames,
                gain_db=entry.gain_db,
                notes=entry.notes,
                audio_crc32=entry.audio_crc32,
                frames_crc32=entry.frames_crc32,
            )
            for entry, place, (recording, name), split in zip(
                used, places, named, splits, strict=True
            )
        ]

    def finish(self, table: ClipTable, header: dict[str, Any]) -> None:
        """Close the last shard, write the index, and put the folder in its place."""
        self._writer.close_shard()
        write_index(self.folder, table, self._writer.shards, header)
        self._journal.sync()
        put_in_place(self.folder, self.out)

    def discard(self) -> None:
        """Remove it: there is nothing in it to go on with."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the files; they stay."""
        self._writer.close()
        self._journal.close()
