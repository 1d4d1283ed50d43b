"""What onnxruntime makes of an exported voice is what torch makes of it, whole and in pieces."""

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from wavestill import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig, cli, publish
from wavestill.audio import MelSpec
from wavestill.density import Conditioning
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.publish import Voice
from wavestill.publish.onnx import begin_states, description_of, export
from wavestill.publish.onnx.graph import Graph
from wavestill.publish.onnx.laws import _log1mexp, _log_sigmoid

pytestmark = pytest.mark.usefixtures("one_thread")

HOP, RATE = 20, 8000
PLAIN = ConditioningConfig(5, HOP, RATE, channels=6, subframe_samples=5)
PITCH = dataclasses.replace(PLAIN, num_features=7, num_harmonics=3)
SPEAKERS = dataclasses.replace(PITCH, num_speakers=3, subframe_samples=1)

STUDENTS = {
    "plain": IAFWaveNetConfig((3, 2), channels=4, conditioning=PLAIN),
    "pitch, filter": IAFWaveNetConfig((3,), channels=4, predictor_order=6, conditioning=PITCH),
    "speakers, normal": IAFWaveNetConfig(
        (1, 3), 2, channels=4, filter_width=2, base="normal", conditioning=SPEAKERS
    ),
}
STACK = WaveNetConfig(4, 2, 4, 6, 5, conditioning=PITCH)
TEACHERS = {
    "16 bits, predictor": dataclasses.replace(STACK, num_mixtures=3, predictor_order=5),
    "8 bits": dataclasses.replace(STACK, num_mixtures=2, bits=8, conditioning=PLAIN),
    "continuous": dataclasses.replace(STACK, num_mixtures=3, bits=None),
    "one layer": dataclasses.replace(STACK, layers=1, num_mixtures=2, filter_width=1),
    "gaussian": dataclasses.replace(STACK, head="gaussian", predictor_order=2),
    "mu-law, speakers": dataclasses.replace(STACK, head="mulaw", conditioning=SPEAKERS),
}


def spec_of(conditioning: ConditioningConfig) -> MelSpec:
    pitch = conditioning.num_harmonics > 0
    num_mels = conditioning.num_features - 2 * pitch
    return MelSpec(RATE, 64, HOP, 64, num_mels, 0.0, 4000.0, pitch=pitch)


def voice_of(config: IAFWaveNetConfig | WaveNetConfig) -> Voice:
    """A voice whose every weight matters: as it is built, the flows' outputs would be zero."""
    torch.manual_seed(1)
    model = IAFWaveNet(config) if isinstance(config, IAFWaveNetConfig) else WaveNet(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 4000).cumsum(1) * 0.01
    model.calibrate(x - x.mean(), torch.randn(50, config.conditioning.num_features))
    kind = {"student" if isinstance(config, IAFWaveNetConfig) else "teacher": model.eval()}
    names = tuple(f"speaker {i}" for i in range(config.conditioning.num_speakers))
    return Voice(spec_of(config.conditioning), speakers=names, **kind)


def random_context(
    rng: np.random.Generator, conditioning: ConditioningConfig, batch: int, num_frames: int
) -> dict[str, np.ndarray]:
    frames = rng.normal(size=(batch, num_frames, conditioning.num_features)).astype(np.float32)
    if conditioning.num_harmonics:
        frames[..., -2] = rng.uniform(np.log(80), np.log(1500), (batch, num_frames))
        frames[..., -1] = rng.random((batch, num_frames)) < 0.7
    given = {"frames": frames}
    if conditioning.num_speakers:
        given["speaker"] = rng.integers(0, conditioning.num_speakers, batch)
    return given


def in_torch(given: dict[str, np.ndarray]) -> Conditioning:
    speaker = given.get("speaker")
    return Conditioning(
        torch.from_numpy(given["frames"]), None if speaker is None else torch.from_numpy(speaker)
    )


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def base_noise(rng: np.random.Generator, base: str, batch: int, num: int) -> np.ndarray:
    drawn = rng.normal(size=(batch, num)) if base == "normal" else rng.logistic(size=(batch, num))
    return drawn.astype(np.float32)


def streamed(
    path: Path, given: dict[str, np.ndarray], noise: np.ndarray, cuts: list[int]
) -> list[np.ndarray]:
    """Sound, locations and log-scales of frames that come cut at `cuts`."""
    run, description = session(path), description_of(path)
    ahead, (batch, num_frames) = description["lookahead_frames"], given["frames"].shape[:2]
    states, pieces, begin, drawn = begin_states(description, batch), [], 0, 0
    names = [output.name for output in run.get_outputs()]
    for number, cut in enumerate(cuts):
        is_last = number == len(cuts) - 1
        ready = HOP * (num_frames if is_last else max(0, cut - ahead))
        feeds = {**given, **states, "is_last": np.array([is_last])}
        feeds |= {"frames": given["frames"][:, begin:cut], "noise": noise[:, drawn:ready]}
        outputs = dict(zip(names, run.run(None, feeds), strict=True))
        states = {f"state_{k[5:]}": v for k, v in outputs.items() if k.startswith("next_")}
        pieces.append([outputs[name] for name in ("audio", "loc", "log_scale")])
        begin, drawn = cut, ready
    return [np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)]


@pytest.mark.parametrize("name", STUDENTS)
def test_the_student_is_torchs_whole_and_in_any_pieces(name: str, tmp_path: Path) -> None:
    voice, rng = voice_of(STUDENTS[name]), np.random.default_rng(0)
    student = voice.require_student()
    whole, stream = tmp_path / "whole.onnx", tmp_path / "stream.onnx"
    export(voice, whole)
    export(voice, stream, part="stream")
    run = session(whole)
    for batch, num_frames in ((1, 1), (3, 2), (2, 7), (1, 23)):
        given = random_context(rng, student.config.conditioning, batch, num_frames)
        noise = base_noise(rng, student.base, batch, num_frames * HOP)
        with torch.no_grad():
            draw = student.rsample(torch.from_numpy(noise), in_torch(given))
        expected = (draw.x, draw.conditionals.loc, draw.conditionals.log_scale)
        assert draw.x.std() > 0.01
        outputs = run.run(None, {**given, "noise": noise})
        for own, torchs in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(own, torchs.numpy(), rtol=1e-4, atol=1e-4)
        cuts = sorted(rng.integers(1, num_frames + 1, 4).tolist())
        for own, pieces in zip(
            outputs, streamed(stream, given, noise, [*cuts, num_frames, num_frames]), strict=True
        ):
            np.testing.assert_allclose(pieces, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", STUDENTS)
def test_a_stream_may_begin_before_its_first_frame(
    name: str, precision: str, tmp_path: Path
) -> None:
    voice, rng = voice_of(STUDENTS[name]), np.random.default_rng(0)
    student, path = voice.require_student(), tmp_path / "stream.onnx"
    export(voice, path, part="stream", precision=precision)
    given = random_context(rng, student.config.conditioning, 2, 5)
    noise = base_noise(rng, student.base, 2, 5 * HOP)
    for own, late in zip(
        streamed(path, given, noise, [5]), streamed(path, given, noise, [0, 0, 5, 5]), strict=True
    ):
        # in int8 the flush has a scale of its own
        wide = 0.5 * own.std() if precision == "int8" else 1e-3
        np.testing.assert_allclose(late, own, rtol=1e-3, atol=wide)
    nothing = {name: value[:, :0] if name == "frames" else value for name, value in given.items()}
    assert streamed(path, nothing, noise[:, :0], [0, 0])[0].shape == (2, 0)


def test_the_phase_holds_over_a_long_utterance(tmp_path: Path) -> None:
    # the sum of steps passes 2^63 after 2,048 turns, and wraps
    voice, rng = voice_of(STUDENTS["pitch, filter"]), np.random.default_rng(1)
    path = tmp_path / "long.onnx"
    export(voice, path)
    given = random_context(rng, PITCH, 1, 5000)
    turns = np.exp(given["frames"][..., -2]).sum() * HOP / RATE
    assert turns > 2**12
    noise = base_noise(rng, "logistic", 1, 5000 * HOP)
    with torch.no_grad():
        x = voice.require_student().rsample(torch.from_numpy(noise), in_torch(given)).x
    own = session(path).run(["audio"], {**given, "noise": noise})[0]
    np.testing.assert_allclose(own, x.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TEACHERS)
def test_the_teachers_likelihood_is_torchs(name: str, tmp_path: Path) -> None:
    voice, rng = voice_of(TEACHERS[name]), np.random.default_rng(0)
    teacher = voice.require_teacher()
    path = tmp_path / "teacher.onnx"
    export(voice, path, part="teacher")
    run = session(path)
    for batch, num_frames in ((1, 1), (3, 4), (2, 31)):
        given = random_context(rng, teacher.config.conditioning, batch, num_frames)
        bits = teacher.config.bits or 16
        wave = np.clip(rng.normal(0, 0.1, (batch, num_frames * HOP)), -1, 1 - 2.0 ** (1 - bits))
        wave[:, :2] = -1, 1 - 2.0 ** (1 - bits)  # the ends of the grid
        wave = (np.round(wave * 2 ** (bits - 1)) / 2 ** (bits - 1)).astype(np.float32)
        with torch.no_grad():
            law = teacher.conditionals(torch.from_numpy(wave), in_torch(given))
            expected = law.log_prob(torch.from_numpy(wave)).numpy()
        own = run.run(None, {**given, "audio": wave})[0]
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-4)


def test_a_trained_teachers_likelihood_is_as_exact_as_torchs(tmp_path: Path) -> None:
    # components a tenth of a bin wide: float32 differs from itself by 1e-4 nats there
    voice, rng = publish.load("kathleen"), np.random.default_rng(0)
    teacher, spec = voice.require_teacher(), voice.spec
    path = tmp_path / "teacher.onnx"
    export(voice, path, part="teacher")
    mean, std = (
        value.numpy() for value in (teacher.encoder.feature_mean, teacher.encoder.feature_std)
    )
    frames = rng.normal(mean, std, (1, 20, spec.num_features)).astype(np.float32)
    frames[..., -2:] = np.log(200), 1
    noise = base_noise(rng, "logistic", 1, 20 * spec.hop_samples)
    given = {"frames": frames}
    with torch.no_grad():
        x = voice.require_student().rsample(torch.from_numpy(noise), in_torch(given)).x
        x = (x * 2**15).round().clamp(-(2**15), 2**15 - 1) / 2**15
        torchs = teacher.conditionals(x, in_torch(given)).log_prob(x).numpy()
        wide, context = x.double(), torch.from_numpy(frames).double()
        exact = teacher.double().conditionals(wide, context).log_prob(wide).numpy()
    own = session(path).run(None, {**given, "audio": x.numpy()})[0]
    np.testing.assert_allclose(own, exact, rtol=1e-4, atol=1e-4)
    assert np.std(own - exact) < 1.5 * np.std(torchs - exact)


def test_laws_keep_their_digits_in_the_tails(tmp_path: Path) -> None:
    graph = Graph("tails")
    z, x = (graph.input(name, np.float32, ["n"]) for name in "zx")
    graph.output("log_sigmoid", _log_sigmoid(graph, z), np.float32, ["n"])
    graph.output("log1mexp", _log1mexp(graph, x), np.float32, ["n"])
    (tmp_path / "tails.onnx").write_bytes(graph.model({}).SerializeToString())
    magnitudes = np.logspace(-6, 4, 200).astype(np.float32)
    for sign in (1, -1):
        z, x = sign * magnitudes, np.minimum(magnitudes, 80)
        own = session(tmp_path / "tails.onnx").run(None, {"z": z, "x": x})
        exact = torch.nn.functional.logsigmoid(torch.from_numpy(z).double()).numpy()
        seen = exact < -1e-37  # what float32 can hold
        np.testing.assert_allclose(own[0][seen], exact[seen], rtol=1e-6)
        x = x.astype(float)
        exact = np.where(x < 1, np.log(-np.expm1(-x)), np.log1p(-np.exp(-x)))
        np.testing.assert_allclose(own[1], exact, rtol=2e-6)


@pytest.mark.parametrize(("precision", "snr_min_db"), [("float16", 50), ("int8", 15)])
@pytest.mark.parametrize("part", ["student", "stream", "teacher"])
def test_smaller_files_sound_alike(
    part: str, precision: str, snr_min_db: float, tmp_path: Path
) -> None:
    config = dataclasses.replace(STUDENTS["pitch, filter"], channels=32)
    wide = dataclasses.replace(STACK, residual_channels=16, gate_channels=32)
    voice = dataclasses.replace(voice_of(config), teacher=voice_of(wide).teacher)
    rng, outputs = np.random.default_rng(0), []
    given = random_context(rng, PITCH, 2, 9)
    noise = base_noise(rng, "logistic", 2, 9 * HOP)
    for kind in ("float32", precision):
        path = tmp_path / f"{kind}.onnx"
        export(voice, path, part=part, precision=kind)
        if part == "stream":
            outputs.append(streamed(path, given, noise, [2, 4, 7, 9])[0])
        else:
            other = {"noise": noise} if part == "student" else {"audio": 0.05 * noise}
            outputs.append(session(path).run(None, {**given, **other})[0])
    reference, own = outputs
    snr_db = 10 * np.log10((reference**2).sum() / ((own - reference) ** 2).sum())
    assert snr_min_db < snr_db < 120  # another precision it is
    assert (tmp_path / f"{precision}.onnx").stat().st_size < path.with_stem(
        "float32"
    ).stat().st_size


@pytest.mark.parametrize("name", STUDENTS)
def test_what_is_told_of_a_file_is_so(name: str, tmp_path: Path) -> None:
    voice = dataclasses.replace(voice_of(STUDENTS[name]), level_dbfs=-17.5)
    told = export(voice, tmp_path / "voice.onnx")
    assert told["base"] == STUDENTS[name].base
    assert told["level_dbfs"] == -17.5
    assert told["speakers"] == list(voice.speakers)
    [opset] = onnx.load(tmp_path / "voice.onnx").opset_import
    assert (opset.domain, opset.version) == ("", told["opset"])


def test_int8_is_of_the_stacks_alone_in_7_bits_per_channel(tmp_path: Path) -> None:
    voice = voice_of(STUDENTS["pitch, filter"])
    export(voice, tmp_path / "small.onnx", precision="int8")
    stored = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "small.onnx").graph.initializer
    }
    small = {name: value for name, value in stored.items() if name.endswith("weight_quantized")}
    assert len(small) == 1 + 3 * 2 - 1 + 1  # conditioning; taps and residual of 3 layers
    for name, value in small.items():
        assert "/layer" in name or name.endswith("project.weight_quantized")
        assert value.dtype == np.int8
        assert np.abs(value.astype(int)).max() <= 64  # pairs of 8 bits overflow without VNNI
        assert stored[name.replace("_quantized", "_scale")].shape == value.shape[1:]


def test_the_command_says_what_goes_in_and_out(voice_path: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "stream.onnx", tmp_path / "stream.json"
    arguments = ["export", voice_path, out, "--part", "stream", "--json", figures]
    assert cli.run([str(argument) for argument in arguments]) == 0
    said = json.loads(figures.read_text())
    assert said.pop("bytes") == out.stat().st_size
    assert said == description_of(out)
    run = session(out)
    assert [tensor["name"] for tensor in said["inputs"]] == [i.name for i in run.get_inputs()]
    assert said["spec"] == publish.load(voice_path).spec.to_dict()
    assert {f"state_{state['name']}" for state in said["states"]} == set(begin_states(said))


def test_a_full_disk_leaves_the_file_that_was_there(
    tiny_voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "voice.onnx"
    export(tiny_voice, path)
    whole, write = path.read_bytes(), Path.write_bytes

    def fills_the_disk(self: Path, data: bytes) -> int:
        write(self, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fills_the_disk)
    with pytest.raises(ValueError, match=r"cannot be written \(No space left on device\)"):
        export(tiny_voice, path)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_int8_has_nothing_to_complain_of(
    tiny_voice: Voice, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export(tiny_voice, tmp_path / "voice.onnx", precision="int8")
    assert not caplog.records


def test_what_cannot_be_exported_is_refused_in_one_line(
    tiny_voice: Voice, voice_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = IAFWaveNet(IAFWaveNetConfig((2,), channels=4))
    deaf = WaveNet(WaveNetConfig(2, 2, 4, 4, 4))
    with pytest.raises(ValueError, match="takes no frames"):
        export(Voice(tiny_voice.spec, student=bare), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="takes no frames"):
        export(Voice(tiny_voice.spec, teacher=deaf), tmp_path / "a.onnx", part="teacher")
    with pytest.raises(ValueError, match="no student yet"):
        export(Voice(tiny_voice.spec, teacher=tiny_voice.teacher), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="cannot be written"):
        export(tiny_voice, tmp_path / "nowhere" / "a.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="was not written by 'wavestill export'"):
        description_of(tmp_path / "text.onnx")
    assert cli.run(["export", str(voice_path), str(tmp_path / "a.wav")]) == 1
    assert "is not a .onnx file" in capsys.readouterr().err
