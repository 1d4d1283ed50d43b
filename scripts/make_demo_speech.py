"""Make the speech that `wavestill demo` trains on: our own sentences, spoken by flite's voice slt.

Writes the LJSpeech layout, ``metadata.csv`` (``id|text|normalised``) and ``wavs/*.flac`` (16 kHz,
16 bit, mono, exactly as flite speaks them), into ``src/wavestill/data/demo_speech``. Needs flite
(``apt-get install flite``) and soundfile. The licences are told in that folder's LICENCE.md.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile

ROOT = Path(__file__).resolve().parent.parent
DEMO_SPEECH = ROOT / "src" / "wavestill" / "data" / "demo_speech"
VOICE = "slt"
SAMPLE_RATE = 16_000
SECONDS_PER_CLIP = (2.2, 4.2)
BYTES_MAX = 3_000_000

# As written and as spoken, where the two differ. Written for this purpose; see LICENCE.md.
SENTENCES: tuple[str | tuple[str, str], ...] = (
    "The morning ferry slid away from the quiet harbour.",
    "A thin blue thread of smoke was rising over the valley.",
    "Please choose whichever jar of honey you would enjoy.",
    "Seven children raced each other down the steep hill.",
    ("The last train to the coast leaves at 9:15.",
     "The last train to the coast leaves at nine fifteen."),
    "Our neighbour grows yellow roses along the garden wall.",
    "How often have you heard an owl call before midnight?",
    "She measured the oak table twice and cut it once.",
    "Fresh bread, sharp cheese and a pear make a good lunch.",
    "The orchestra tuned slowly while the audience settled.",
    "Nobody could explain why the old clock ran backwards.",
    "Thunder rolled through the mountains all afternoon.",
    ("We counted 36 swans on the frozen lake.",
     "We counted thirty six swans on the frozen lake."),
    "His voice was warm, but his answer was rather vague.",
    "A small brown dog waited beside the bakery door.",
    "The judge put the letter back without reading it.",
    "Rain had washed the chalk drawings from the pavement.",
    "Could you hand me the pliers and that short copper wire?",
    "Above the clouds the air was clear, cold and still.",
    "Every evening they argued about the rules of the game.",
    "The museum keeps its oldest maps in a dark, dry room.",
    "Watch how the river bends just beyond the stone bridge.",
    "My cousin repairs violins in a workshop near the church.",
    "Both keys were found under a pile of autumn leaves.",
    ("It takes about 40 minutes to boil the beetroot.",
     "It takes about forty minutes to boil the beetroot."),
    "The engine coughed, shook itself and fell silent again.",
    "They usually pour the milk first and argue about it later.",
    "Few voyages begin with such a favourable wind.",
    "Why should a whisper carry further than a shout?",
    "The lighthouse threw its beam across the empty beach.",
    "Put the vegetables in a basket and weigh them together.",
    "Good night, and thank you all for listening to this.",
)  # fmt: skip


def speak(text: str, path: Path) -> float:
    """Speak ``text`` into the FLAC file ``path``; returns its length in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.wav"
        subprocess.run(["flite", "-voice", VOICE, "-t", text, "-o", str(spoken)], check=True)
        wave, sample_rate = soundfile.read(spoken, dtype="int16")
    if sample_rate != SAMPLE_RATE or wave.ndim != 1:
        sys.exit(f"flite's voice {VOICE} gave {sample_rate} Hz, {wave.ndim} dimensions")
    soundfile.write(path, wave, sample_rate, subtype="PCM_16", format="FLAC")
    return len(wave) / sample_rate


def main() -> None:
    """Speak every sentence, write the index, and check length and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEMO_SPEECH)
    out: Path = parser.parse_args().out
    if shutil.which("flite") is None:
        sys.exit("flite is not installed: apt-get install flite")
    wavs = out / "wavs"
    wavs.mkdir(parents=True, exist_ok=True)
    rows, total_seconds = [], 0.0
    for number, sentence in enumerate(SENTENCES, start=1):
        text, normalised = sentence if isinstance(sentence, tuple) else (sentence, sentence)
        name = f"demo-{number:03d}"
        seconds = speak(normalised, wavs / f"{name}.flac")
        if not SECONDS_PER_CLIP[0] <= seconds <= SECONDS_PER_CLIP[1]:
            print(f"{name} is {seconds:.2f} s, outside {SECONDS_PER_CLIP}: {text}")
        rows.append(f"{name}|{text}|{normalised}\n")
        total_seconds += seconds
    (out / "metadata.csv").write_text("".join(rows), encoding="utf-8")
    num_bytes = sum(path.stat().st_size for path in wavs.glob("*.flac"))
    print(f"{len(rows)} clips, {total_seconds:.1f} s, {num_bytes / 1e6:.2f} MB in {out}")
    if num_bytes > BYTES_MAX:
        sys.exit(f"{num_bytes} bytes are more than the {BYTES_MAX} that the package may carry")


if __name__ == "__main__":
    main()
