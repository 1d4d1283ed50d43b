"""Write docs/export.md: what the exported files are, cost and lose, measured here and now.

python scripts/write_export.py kathleen
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
import torch

from wavestill import Conditioning, Draw, Voice, load
from wavestill.distributions import Logistic, Normal, counter_noise
from wavestill.evaluation.likelihood import GRID_WIDTH, closeness
from wavestill.input_frames import frames_of_recording
from wavestill.machine import describe_machine, wavestill_commit
from wavestill.models import PackedStudent
from wavestill.models.packed_flow import kernel_set
from wavestill.publish.onnx import begin_states, description_of, export
from wavestill.publish.onnx.graph import OPSET

SPEECH = Path(__file__).parents[1] / "src" / "wavestill" / "data" / "demo_speech" / "wavs"
PRECISIONS = ("float32", "float16", "int8")
ROUNDS = 5
CHUNK_FRAMES = 16


class Exported:
    """A student in ONNX Runtime, to be measured as one in PyTorch is.

    Arguments:
        path: Its file, of part `student`.
    """

    def __init__(self, path: Path) -> None:
        self._session = session(path)
        self._base = description_of(path)["base"]

    def rsample(self, noise: torch.Tensor, context: Conditioning) -> Draw:
        """Its sample, with the laws of its own steps."""
        feeds = {"frames": context.frames.numpy(), "noise": noise.numpy()}
        x, loc, log_scale = map(torch.from_numpy, self._session.run(None, feeds))
        return Draw(x, noise, (Normal if self._base == "normal" else Logistic)(loc, log_scale))


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description="Write docs/export.md from measured figures.")
    parser.add_argument("voice", type=Path, help="a voice with teacher and student")
    parser.add_argument("--clips", type=int, default=3, help="sentences that losses are taken on")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each sentence")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where to write")
    parser.add_argument("--note", default="", help="what else must be said")
    options = parser.parse_args()
    torch.set_num_threads(1)
    voice = load(options.voice)
    recordings = sorted(SPEECH.glob("*.flac"))[: options.clips]
    num_frames = int(options.seconds * voice.spec.sample_rate / voice.spec.hop_samples)
    clips = [frames_of_recording(path, voice).frames[:num_frames] for path in recordings]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("student", "stream", "teacher"):
            for precision in PRECISIONS:
                export(voice, folder / f"{part}_{precision}.onnx", part=part, precision=precision)
        losses = student_losses(voice, folder, clips)
        likelihoods = teacher_losses(voice, folder, clips)
        speeds = student_speeds(voice, folder, clips[0])
    page = write_page(options, voice, losses, likelihoods, speeds)
    (options.docs / "export.md").write_text(page, encoding="utf-8")


def session(path: Path) -> onnxruntime.InferenceSession:
    """A file in ONNX Runtime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def size_mb(path: Path) -> str:
    """Size of a file."""
    return f"{path.stat().st_size / 1e6:.2f} MB"


def noise_of(voice: Voice, frames: np.ndarray, seed: int) -> torch.Tensor:
    """Base noise for some frames, `(1, T)`."""
    length = len(frames) * voice.spec.hop_samples
    return counter_noise(voice.require_student().base, seed, 1, length, dtype=torch.float32)


@torch.no_grad()
def student_losses(voice: Voice, folder: Path, clips: list[np.ndarray]) -> list[list[str]]:
    """Size, SNR against PyTorch, KL and TV against the teacher, by precision."""
    teacher, torchs = voice.require_teacher(), voice.require_student()
    rows = []
    for label in ("PyTorch", *PRECISIONS):
        path = folder / f"student_{label}.onnx"
        student = torchs if label == "PyTorch" else Exported(path)
        signal = error = kl = tv = 0.0
        for seed, frames in enumerate(clips):
            noise, context = (
                noise_of(voice, frames, seed),
                Conditioning(torch.from_numpy(frames)[None]),
            )
            reference = torchs.rsample(noise, context).x[0].double()
            generator = torch.Generator().manual_seed(seed)
            drawn = closeness(teacher, student, noise, context, context, generator)
            signal += float((reference**2).sum())
            error += float(((drawn.x.double() - reference) ** 2).sum())
            kl += drawn.kl_nats / len(clips)
            tv += drawn.tv / len(clips)
        snr = "–" if label == "PyTorch" else f"{10 * np.log10(signal / error):.0f} dB"
        size = "–" if label == "PyTorch" else size_mb(path)
        rows.append([label, size, snr, f"{kl:.4f}", f"{tv:.4f}"])
    return rows


@torch.no_grad()
def teacher_losses(voice: Voice, folder: Path, clips: list[np.ndarray]) -> list[list[str]]:
    """Nats of the student's sound on the teacher's grid, and how far they are from float64's."""
    teacher = voice.require_teacher()
    exact = copy.deepcopy(teacher).double()
    runs = {label: session(folder / f"teacher_{label}.onnx") for label in PRECISIONS}
    labels, references = ("PyTorch, float32", *PRECISIONS), []
    own: dict[str, list[np.ndarray]] = {label: [] for label in labels}
    for seed, frames in enumerate(clips):
        context = Conditioning(torch.from_numpy(frames)[None])
        x = voice.require_student().rsample(noise_of(voice, frames, seed), context).x
        x = (x / GRID_WIDTH).round() * GRID_WIDTH
        wide = Conditioning(context.frames.double())
        references.append(exact.conditionals(x.double(), wide).log_prob(x.double()).numpy())
        own[labels[0]].append(teacher.conditionals(x, context).log_prob(x).numpy())
        for label, run in runs.items():
            own[label] += run.run(None, {"audio": x.numpy(), "frames": frames[None]})
    expected, rows = np.concatenate(references, axis=1), []
    for label in labels:
        given = np.concatenate(own[label], axis=1).astype(np.float64)
        errors = given - expected
        rms, worst = np.sqrt(np.mean(errors**2)), np.abs(errors).max()
        size = size_mb(folder / f"teacher_{label}.onnx") if label in runs else "–"
        row = [f"{-given.mean():.4f}", f"{-errors.mean():+.1e}", f"{rms:.1e}", f"{worst:.1e}"]
        rows.append([label, size, *row])
    return rows


@torch.no_grad()
def student_speeds(voice: Voice, folder: Path, frames: np.ndarray) -> list[list[str]]:
    """Times real time on one thread, all in turns, and their ratio to our own path."""
    student = voice.require_student()
    noise, context = noise_of(voice, frames, 0), Conditioning(torch.from_numpy(frames)[None])
    paths: dict[str, Callable[[], object]] = {}
    for label, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        packed = PackedStudent(student, dtype=dtype)
        paths[f"wavestill, {label}"] = lambda packed=packed: packed.rsample(noise, context)
    for precision in PRECISIONS:
        run = session(folder / f"student_{precision}.onnx")
        feeds = {"frames": frames[None], "noise": noise.numpy()}
        paths[f"ONNX Runtime, whole, {precision}"] = lambda r=run, f=feeds: r.run(None, f)
        path = folder / f"stream_{precision}.onnx"
        streamed = session(path), description_of(path)
        label = f"ONNX Runtime, stream of {CHUNK_FRAMES} frames a call, {precision}"
        paths[label] = lambda s=streamed: stream(*s, frames, noise.numpy())
    seconds: dict[str, list[float]] = {label: [] for label in paths}
    for _ in range(ROUNDS + 1):
        for label, path in paths.items():
            start = time.process_time()
            path()
            seconds[label].append(time.process_time() - start)
    length = noise.shape[1] / voice.spec.sample_rate
    own = median(seconds["wavestill, float32"][1:])
    rows = []
    for label, times in seconds.items():
        rates = sorted(length / value for value in times[1:])  # the first round warms up
        ratio = own / median(times[1:])
        extremes = f"{rates[0]:.1f} – {rates[-1]:.1f}"
        rows.append([label, f"{median(rates):.1f}", extremes, f"{ratio:.2f}"])
    return rows


def stream(
    run: onnxruntime.InferenceSession, description: dict, frames: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """The sound of frames that come some at a time."""
    hop, ahead = description["spec"]["hop_samples"], description["lookahead_frames"]
    states, sound, drawn = begin_states(description), [], 0
    names = [output.name for output in run.get_outputs()]
    for begin in range(0, len(frames), CHUNK_FRAMES):
        end = min(begin + CHUNK_FRAMES, len(frames))
        is_last = end == len(frames)
        ready = hop * (end if is_last else max(0, end - ahead))
        feeds = {"frames": frames[None, begin:end], "noise": noise[:, drawn:ready]}
        outputs = run.run(None, {**feeds, **states, "is_last": np.array([is_last])})
        named = dict(zip(names, outputs, strict=True))
        states = {f"state_{k[5:]}": v for k, v in named.items() if k.startswith("next_")}
        sound.append(named["audio"])
        drawn = ready
    return np.concatenate(sound, axis=1)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_page(
    options: argparse.Namespace,
    voice: Voice,
    losses: list[list[str]],
    likelihoods: list[list[str]],
    speeds: list[list[str]],
) -> str:
    """The page as Markdown."""
    machine, student = describe_machine(), voice.require_student().config
    about = (
        f"Voice `{options.voice}`: {voice.spec.sample_rate:,} Hz, flows of "
        f"{', '.join(map(str, student.flows))} layers of {student.channels} channels. Measured on "
        f"{machine['processor']} (kernel: {kernel_set()}), one thread, torch {machine['torch']}, "
        f"ONNX Runtime {version('onnxruntime')}, commit {wavestill_commit()}, with "
        f"`python scripts/write_export.py {options.voice}`."
    )
    length = f"{options.clips} sentences of {options.seconds:g} s"
    template = (Path(__file__).parent / "export_page.md").read_text(encoding="utf-8")
    return template.format(
        opset=OPSET,
        about=about + (f" {options.note}" if options.note else ""),
        length=length,
        losses=table(["student", "size", "SNR", "KL, nats per sample", "TV per step"], losses),
        likelihoods=table(
            ["teacher", "size", "nats per sample", "mean error", "rms", "worst sample"],
            likelihoods,
        ),
        rounds=ROUNDS,
        speeds=table(["student", "× real time", "(min – max)", "of our own path"], speeds),
    )


if __name__ == "__main__":
    main()
