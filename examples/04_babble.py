"""Speech of nobody saying nothing: frames drawn one by one, their sound all at once.

python examples/04_babble.py [--corpus DIR] [--voice DIR] [--minutes 3] [--out babble]

A prior learns the frames of a prepared corpus (mels, F0, voicing), and a voice's student turns
what the prior draws into sound: p(z, x) = p_AR(z) p_NAR(x | z). Printed: nats per held-out frame
beside a first-order Gaussian process, and what tells speech from noise in the drawn frames.

As it stands it learns from the 99 packaged seconds, in four minutes on one core, and Griffin-Lim
makes the sound. It babbles with a corpus of an hour, its voice and --minutes 12; with --prior, the
weights of an earlier run, in a minute.
"""

import argparse
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

import wavestill
from wavestill.audio import write_sound
from wavestill.evaluation.griffin_lim import griffin_lim
from wavestill.models.frame_prior import FramePrior, FramePriorConfig
from wavestill.models.hybrid import Hybrid
from wavestill.models.packed_student import PackedStudent

CLIP_FRAMES = 128


def first_order_nats(train: Tensor, clips: list[Tensor], *, pitch: bool) -> float:
    """Nats per frame of z_f = a z_(f-1) + b + s e for each mel, and for F0 where it is voiced."""
    num_mels = train.shape[1] - 2 * pitch
    before, after = train[:-1, :num_mels].double(), train[1:, :num_mels].double()
    a = ((before - before.mean(0)) * (after - after.mean(0))).mean(0) / before.var(0)
    b = after.mean(0) - a * before.mean(0)
    law = torch.distributions.Normal(0.0, (after - a * before - b).std(0))
    total, count = 0.0, 0
    if pitch:
        was, voiced = train[:-1, -1] > 0.5, train[1:, -1] > 0.5
        chance = [float(voiced[was == state].double().mean()) for state in (False, True)]
        step = (train[1:, -2] - train[:-1, -2])[was & voiced].double()
        f0_law = torch.distributions.Normal(0.0, step.std())
    for clip in clips:
        z = clip.double()
        total -= float(law.log_prob(z[1:, :num_mels] - a * z[:-1, :num_mels] - b).sum())
        count += len(z) - 1
        if pitch:
            was, voiced = z[:-1, -1] > 0.5, z[1:, -1] > 0.5
            p = torch.where(was, chance[1], chance[0])
            total -= float(torch.where(voiced, p, 1 - p).log().sum())
            total -= float(f0_law.log_prob(z[1:, -2] - z[:-1, -2])[voiced].sum())
    return total / count


@torch.no_grad()
def held_out_nats(prior: FramePrior, clips: list[Tensor]) -> float:
    """Nats per frame of whole clips, their first frames left out as for the process above."""
    terms = [prior.frame_log_probs(clip[None])[0, 1:] for clip in clips]
    return -float(torch.cat(terms).mean())


def describe(frames: np.ndarray, num_mels: int, loud: float, frames_per_second: float) -> dict:
    """What tells speech from noise."""
    voiced = np.flatnonzero(np.diff(np.pad(frames[:, -1] > 0.5, 1)))
    runs = voiced[1::2] - voiced[::2]
    return {
        "voiced frames, %": 100 * float((frames[:, -1] > 0.5).mean()),
        "mean voiced run, ms": 1000 * float(runs.mean() if len(runs) else 0) / frames_per_second,
        "F0 of voiced, Hz": float(np.exp(np.median(frames[frames[:, -1] > 0.5, -2])))
        if len(runs)
        else float("nan"),
        "quiet frames, %": 100 * float((frames[:, :num_mels].mean(1) < loud).mean()),
        "change per frame, dB": 8.686
        * float(np.abs(np.diff(frames[:, :num_mels], axis=0)).mean()),
    }


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--corpus", help="a prepared corpus with pitch; else the packaged speech")
parser.add_argument("--voice", help="folder of a voice of the same frames; else Griffin-Lim")
parser.add_argument("--minutes", type=float, default=3.0, help="training time of the prior")
parser.add_argument("--channels", type=int, default=192, help="width of the prior")
parser.add_argument("--seconds", type=float, default=10.0, help="of babble")
parser.add_argument("--temperature", type=float, default=1.0, help="factor on the prior's noise")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--prior", help="weights that an earlier run wrote: prior.pt")
parser.add_argument("--out", default="babble", help="folder of sound, picture and weights")
options = parser.parse_args()

out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)
if options.corpus is None:
    options.corpus = out / "corpus"
    speech = Path(wavestill.__file__).parent / "data" / "demo_speech"
    wavestill.prepare(speech, options.corpus, pitch=True, valid_fraction=0.1)
try:
    corpus = wavestill.Corpus(options.corpus)
    if not corpus.spec.pitch:
        raise ValueError(f"{options.corpus}: its frames have no pitch; prepare it with --pitch")
    voice = None if options.voice is None else wavestill.load(options.voice)
    if voice is not None:
        voice.spec.require_same(corpus.spec)
        voice.require_student()
except ValueError as error:
    sys.exit(f"error: {error}")
spec = corpus.spec
frames_per_second = spec.sample_rate / spec.hop_samples

train = torch.from_numpy(np.array(corpus.split("train").frames))
held_out = [torch.from_numpy(clip.frames) for clip in corpus.split("valid")]
torch.manual_seed(options.seed)
prior = FramePrior(
    FramePriorConfig(spec.num_features, pitch=True, channels=options.channels, dropout=0.05)
)
prior.calibrate(train)
if options.prior:
    prior.load_state_dict(torch.load(options.prior, weights_only=True))
    prior.eval()
else:
    _, history = wavestill.fit(
        prior,
        train.unfold(0, CLIP_FRAMES, CLIP_FRAMES // 2).transpose(1, 2),
        calibrate=False,
        minutes=options.minutes,
        batch_size=16,
        clip_samples=CLIP_FRAMES * spec.num_features,
        learning_rate=1e-3,
        averaging=0.998,
        log_scale_min=None,
        precision="auto",
        seed=options.seed,
    )
    torch.save(prior.state_dict(), out / "prior.pt")
    print(f"{history.column('step')[-1]:,.0f} steps of 16 x {CLIP_FRAMES} frames")

nats = held_out_nats(prior, held_out)
baseline = first_order_nats(train, held_out, pitch=True)
print(f"{sum(p.numel() for p in prior.parameters()):,} parameters of the prior")
print(f"{nats:9.2f} nats per held-out frame")
print(f"{baseline:9.2f} of a first-order Gaussian process of each column: {nats - baseline:+.2f}")

num_frames = round(options.seconds * frames_per_second)
drawing = {"seed": options.seed, "temperature": options.temperature}
babble = torch.cat(list(prior.stream(num_frames, **drawing))).numpy()
start = time.perf_counter()
if voice is None:
    sound = griffin_lim(babble, spec)
    print("no --voice: the sound is Griffin-Lim's")
else:
    hybrid = Hybrid(prior, PackedStudent(voice.require_student()))
    sound = torch.cat(list(hybrid.stream(num_frames, **drawing))).numpy()
    seconds = time.perf_counter() - start
    print(f"{len(sound) / spec.sample_rate:.1f} s of sound in {seconds:.1f} s, frame by frame")
write_sound(out / "babble.wav", sound, spec.sample_rate)

recording = np.concatenate([clip.numpy() for clip in held_out])
num_mels = spec.num_mels
loud = np.quantile(train[:, :num_mels].mean(1).numpy(), 0.2)
columns = {"recording": recording, "babble": babble}
many = prior.sample(16, length=num_frames, temperature=options.temperature).numpy()
columns["16 more babbles"] = many.reshape(-1, spec.num_features)
figures = {
    name: describe(frames, num_mels, loud, frames_per_second) for name, frames in columns.items()
}
print(f"{'':24}" + "".join(f"{name:>18}" for name in columns))
for row in figures["recording"]:
    print(f"{row:24}" + "".join(f"{figures[name][row]:18.1f}" for name in columns))
spectra = {name: 8.686 * frames[:, :num_mels].mean(0) for name, frames in columns.items()}
for name in ("babble", "16 more babbles"):
    distance = np.abs(spectra[name] - spectra["recording"]).mean()
    print(f"{distance:6.2f} dB from the recordings' long-term average: {name}")
level = 10 * np.log10(np.mean(sound**2))
print(f"{level:6.1f} dBFS, where the recordings were brought to {corpus.level_dbfs:g}")

figure, axes = plt.subplots(3, 2, figsize=(13, 8), layout="constrained")
shown = {"recording": recording[:num_frames], "babble": babble}
for column, (name, frames) in enumerate(shown.items()):
    extent = (0, len(frames) / frames_per_second, 0, num_mels)
    axes[0, column].imshow(
        8.686 * frames[:, :num_mels].T,
        origin="lower",
        aspect="auto",
        extent=extent,
        vmin=-80,
        vmax=5,
    )
    axes[0, column].set(title=name, ylabel="mel band")
    f0_hz = np.where(frames[:, -1] > 0.5, np.exp(frames[:, -2]), np.nan)
    axes[1, column].plot(np.arange(len(frames)) / frames_per_second, f0_hz, ".", markersize=3)
    axes[1, column].set(ylim=(60, 400), xlim=(0, extent[1]), xlabel="seconds", ylabel="F0, Hz")
wave_seconds = np.arange(len(sound)) / spec.sample_rate
axes[2, 1].plot(wave_seconds, sound, linewidth=0.3)
axes[2, 1].set(xlim=(0, wave_seconds[-1]), xlabel="seconds", title="its sound")
for name, spectrum in spectra.items():
    axes[2, 0].plot(spectrum, label=name)
axes[2, 0].set(xlabel="mel band", ylabel="dB", title="mean spectrum")
axes[2, 0].legend()
figure.savefig(out / "babble.png", dpi=110)
print(f"wrote {out / 'babble.wav'} and {out / 'babble.png'}")
