"""What the model sounds like so far, on one fixed held-out clip."""

import time
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from wavestill.audio.corpus import Clip, Clips, Corpus
from wavestill.audio.files import write_sound
from wavestill.audio.shards import DamagedClip
from wavestill.density import Conditioning
from wavestill.training.callbacks.averaging import Averaging
from wavestill.training.data import Batch
from wavestill.training.module import Task


class Sounds(pl.Callback):
    """Draws a sound from the averaged weights every so many minutes and at the end.

    Arguments:
        draw: From the model to a waveform `(T,)`.
        recording: The same clip as recorded, `(T,)`.
        sample_rate: Samples per second.
        folder: Where the sound files go.
        writer: TensorBoard's writer.
        averaging: Where the averaged weights are.
        every_minutes: Minutes between sounds.
    """

    def __init__(
        self,
        draw: Callable[[nn.Module], Tensor],
        recording: Tensor,
        sample_rate: int,
        folder: Path,
        writer: SummaryWriter,
        averaging: Averaging,
        *,
        every_minutes: float,
    ) -> None:
        self.draw = draw
        self.recording = recording
        self.sample_rate = sample_rate
        self.folder = folder
        self.writer = writer
        self.averaging = averaging
        self.every_minutes = every_minutes
        self._drawn_s = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the recording once."""
        assert isinstance(pl_module, Task)
        self._drawn_s = time.monotonic()
        if trainer.is_global_zero:
            self._write("recording", self.recording, pl_module.step)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Draw when it is time."""
        assert isinstance(pl_module, Task)
        due = time.monotonic() - self._drawn_s >= 60 * self.every_minutes
        if trainer.is_global_zero and (due or trainer.should_stop):
            with torch.no_grad(), self.averaging.applied(pl_module):
                sound = self.draw(pl_module.model)
            self._write(f"step_{pl_module.step:07d}", sound, pl_module.step)
            self._drawn_s = time.monotonic()

    def _write(self, name: str, sound: Tensor, step: int) -> None:
        sound = sound.detach().float().cpu()
        write_sound(self.folder / f"{name}.wav", sound.numpy(), self.sample_rate)
        tag = "recording" if name == "recording" else "model"
        self.writer.add_audio(tag, sound.clamp(-1, 1), step, self.sample_rate)
        self.writer.add_image(
            f"{tag}_spectrogram", spectrogram_picture(sound.numpy()), step, dataformats="HW"
        )


def sounds_of(
    corpus: Corpus,
    folder: Path,
    writer: SummaryWriter,
    averaging: Averaging,
    *,
    every_minutes: float,
    seconds: float,
) -> Sounds:
    """Sounds of the corpus's first held-out clip, or as many seconds of it as asked for.

    Raises:
        DamagedClip: If there is no clip that can be read.
    """
    clip = _first_readable([corpus.split("valid"), corpus.split("train")])
    hop_samples, sample_rate = corpus.spec.hop_samples, corpus.spec.sample_rate
    num_frames = max(1, min(len(clip.frames), round(seconds * sample_rate / hop_samples)))
    frames = torch.from_numpy(clip.frames[:num_frames]).unsqueeze(0)
    recording = torch.from_numpy(clip.wave[: num_frames * hop_samples])

    def draw(model: nn.Module) -> Tensor:
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(0)
        speaker = None if clip.speaker is None else torch.tensor([clip.speaker], device=device)
        context = Conditioning(frames.to(device), speaker)
        sound: Tensor = model.sample(1, context, generator=generator)  # type: ignore[operator]
        return sound[0]

    return Sounds(
        draw, recording, sample_rate, folder, writer, averaging, every_minutes=every_minutes
    )


def _first_readable(splits: list[Clips]) -> Clip:
    damaged: DamagedClip | None = None
    for clips in splits:
        for index in range(len(clips)):
            try:
                return clips[index]
            except DamagedClip as error:
                damaged = error
    assert damaged is not None, "a corpus that is trained on has clips"
    raise damaged


def spectrogram_picture(
    sound: np.ndarray, num_fft: int = 512, range_db: float = 80.0
) -> np.ndarray:
    """A spectrogram as a grey picture `(F, T)`: low frequencies below, the loudest bin white."""
    window = torch.hann_window(num_fft)
    signal = torch.as_tensor(sound, dtype=torch.float32)
    if len(signal) < num_fft:
        signal = torch.nn.functional.pad(signal, (0, num_fft - len(signal)))
    power = (
        torch.stft(signal, num_fft, num_fft // 4, window=window, return_complex=True)
        .abs()
        .square()
    )
    # Floored far below anything audible: digital silence has no logarithm.
    level_db = 10 * power.clamp_min(1e-12).log10()
    grey = ((level_db - level_db.max()) / range_db + 1).clamp(0, 1)
    return grey.flip(0).numpy()
