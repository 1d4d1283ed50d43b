import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from wavestill.density import Conditioning
from wavestill.evaluation import evaluate
from wavestill.evaluation import metrics as metrics_module
from wavestill.evaluation.drafting import draft
from wavestill.evaluation.inputs import context_for
from wavestill.evaluation.speed import measure_speed
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.publish import Voice
from wavestill.sampling import cached, standard_noise
from wavestill.sampling.native import is_available

from .conftest import SPEC

CONDITIONING = ConditioningConfig(
    num_features=SPEC.num_features,
    hop_samples=SPEC.hop_samples,
    sample_rate=SPEC.sample_rate,
    channels=4,
)
SHORT = {"num_clips": 2, "max_seconds": 0.5, "num_points": 4}


@pytest.fixture(scope="module")
def voice(corpus):
    torch.manual_seed(0)
    teacher = WaveNet(
        WaveNetConfig(
            *(3, 3, 8, 8, 8),
            head="gaussian",
            predictor_order=8,
            conditioning=CONDITIONING,
            dropout=0.5,
        )
    )
    student = IAFWaveNet(IAFWaveNetConfig((2, 2), channels=4, conditioning=CONDITIONING))
    train = corpus.split("train")
    wave = torch.from_numpy(np.concatenate([clip.wave for clip in train]))
    for model in (teacher, student):
        model.calibrate(wave, torch.from_numpy(np.array(train.frames)))
    return Voice(SPEC, teacher, student)


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Thousands of steps take too long under type checks, and `tests/sampling` has them: their
    result is replaced."""

    def coloured_noise(model, noise, context, progress):
        progress(noise.shape[1])
        return 0.02 * noise.cumsum(1) / (1 + torch.arange(noise.shape[1])).sqrt()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wavestill.evaluation.measurement.cached", coloured_noise)
        yield


@pytest.fixture(scope="module")
def evaluation(voice, corpus, quick):
    return evaluate(voice, corpus, split="train", **SHORT)


def figures(tree, path=""):
    """All leaves of nested dicts by their path."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {
        name: leaf
        for key, value in tree.items()
        for name, leaf in figures(value, f"{path}/{key}").items()
    }


def test_results_have_the_keys_of_the_design_and_only_finite_numbers(evaluation):
    results = evaluation.results
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    leaves = figures(results)
    expected = [
        "/teacher/nll_nats_per_sample",
        "/teacher/parameters",
        *(
            f"/student/{name}"
            for name in ("kl_nats_per_sample", "tv_per_step", "std_over_data", "parameters")
        ),
        *(f"/speed/{sampler}/samples_per_second" for sampler in ("naive", "cached", "student")),
        *(
            f"/quality/{system}/{name}"
            for system in ("teacher", "student", "griffin_lim")
            for name in ("mel_distance_db", "mcd_db", "pesq", "stoi")
        ),
    ]
    for path in expected:
        assert math.isfinite(leaves[path]), path
    for path in expected:
        if path.split("/")[-1] not in ("parameters", "samples_per_second"):
            assert leaves[f"{path}_standard_error"] >= 0
    assert {"machine", "version", "commit"} <= results.keys()
    assert isinstance(results["notes"], list)


def test_all_systems_copy_the_same_clips(evaluation, corpus):
    assert len(evaluation.clips) == 2
    ids = [entry.id for entry in corpus.split("train").entries]
    assert [clip.id for clip in evaluation.clips] == [ids[0], ids[-1]]  # spread over the split
    for clip in evaluation.clips:
        assert set(clip.sounds) == {"recording", "teacher", "student", "griffin_lim"}
        assert {(len(x), x.dtype.name) for x in clip.sounds.values()} == {(4000, "float32")}


def test_the_teachers_copy_is_sampled_step_by_step_from_its_frames(voice, corpus, monkeypatch):
    monkeypatch.setattr("wavestill.evaluation.measurement.cached", cached)
    settings = {
        "split": "train",
        "num_clips": 2,
        "max_seconds": 0.02,
        "num_points": 4,
        "with_speed": False,
    }
    copies = [clip.sounds["teacher"] for clip in evaluate(voice, corpus, **settings).clips]
    ends = [corpus.split("train")[i] for i in (0, -1)]
    frames = torch.stack([torch.from_numpy(clip.frames[:2]) for clip in ends])
    noise = standard_noise("normal", (2, 160), generator=torch.Generator().manual_seed(0))
    assert np.array_equal(copies, cached(voice.teacher, noise, Conditioning(frames)))


def test_a_seed_gives_the_same_figures_again(evaluation, voice, corpus):
    again, other = (
        evaluate(voice, corpus, split="train", with_speed=False, seed=seed, **SHORT)
        for seed in (0, 1)
    )
    assert "speed" not in again.results
    for part in ("teacher", "student", "quality"):
        assert again.results[part] == evaluation.results[part]
    assert other.results["student"] != again.results["student"]


def test_a_voice_may_be_half_there(voice, corpus):
    teacher_only = evaluate(
        dataclasses.replace(voice, student=None), corpus, split="train", **SHORT
    ).results
    assert "student" not in teacher_only
    assert set(teacher_only["quality"]) == {"teacher", "griffin_lim"}
    assert set(teacher_only["speed"]) - {"native"} == {"naive", "cached"}
    student_only = evaluate(
        dataclasses.replace(voice, teacher=None), corpus, split="train", **SHORT
    ).results
    assert "teacher" not in student_only
    assert set(student_only["speed"]) == {"student"}
    assert "std_over_data" in student_only["student"]
    assert "kl_nats_per_sample" not in student_only["student"]


def broken(fault):
    """A student whose samples are all faulty."""

    class Broken(IAFWaveNet):
        def rsample(self, noise, context=None):
            draw = super().rsample(noise, context)
            return dataclasses.replace(draw, x=fault(draw.x))

    return Broken(IAFWaveNetConfig((2,), channels=4, conditioning=CONDITIONING))


@pytest.mark.parametrize(
    "fault", [torch.zeros_like, lambda x: x * torch.nan], ids=["silent", "not finite"]
)
def test_a_broken_student_is_reported_and_breaks_nothing(voice, corpus, fault):
    spoilt = dataclasses.replace(voice, student=broken(fault))
    results = evaluate(spoilt, corpus, split="train", with_speed=False, **SHORT).results
    json.dumps(results, allow_nan=False)
    assert "pesq" not in results["quality"]["student"]
    assert any(
        note.startswith("student: pesq has no value on 2 of 2 clips") for note in results["notes"]
    )
    assert "pesq" in results["quality"]["teacher"]


def test_clips_of_one_frame_have_likelihoods_and_notes(voice, corpus):
    results = evaluate(
        voice, corpus, split="train", num_clips=1, max_seconds=0.001, num_points=4
    ).results
    json.dumps(results, allow_nan=False)
    assert results["data"]["seconds"] == SPEC.hop_samples / SPEC.sample_rate
    assert "nll_nats_per_sample" in results["teacher"]
    assert (
        "nll_nats_per_sample_standard_error" not in results["teacher"]
    )  # there is none over one clip
    assert results["quality"] == {"teacher": {}, "student": {}, "griffin_lim": {}}


def test_a_missing_library_costs_one_key_and_one_line(voice, corpus, monkeypatch):
    monkeypatch.setattr(
        "wavestill.evaluation.measurement.missing_libraries", lambda: {"pesq": "pesq"}
    )
    monkeypatch.setattr(metrics_module, "missing_libraries", lambda: {"pesq": "pesq"})
    results = evaluate(voice, corpus, split="train", with_speed=False, **SHORT).results
    assert not [path for path in figures(results["quality"]) if "pesq" in path]
    assert [note for note in results["notes"] if "PESQ is left out" in note]


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"teacher": None, "student": None}, {}, "neither a teacher nor a student"),
        ({"spec": dataclasses.replace(SPEC, num_mels=20)}, {}, "num_mels 20 against 32"),
        ({}, {"num_clips": 0}, "num_clips=0"),
        ({}, {"max_seconds": 0.0}, "max_seconds=0.0"),
        ({}, {"split": "nowhere"}, "no split 'nowhere'"),
        ({"speakers": ("anna", "ben")}, {}, "anna, ben"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(voice, corpus, change, settings, message):
    with pytest.raises(ValueError, match=message) as refusal:
        evaluate(dataclasses.replace(voice, **change), corpus, **{"split": "train", **settings})
    assert "\n" not in str(refusal.value)


def test_progress_goes_from_nought_to_one_in_every_stage(voice, corpus):
    stages = {}
    evaluate(
        voice,
        corpus,
        split="train",
        with_speed=False,
        progress=lambda stage, share: stages.setdefault(stage, []).append(share),
        **SHORT,
    )
    for shares in stages.values():
        assert shares == sorted(shares)
        assert shares[-1] == 1


def test_a_batch_of_contexts_holds_each_clips_own_frames(voice, corpus):
    clips = [corpus.split("train")[0], corpus.split("train")[15]]
    assert len(clips[0].frames) != len(clips[1].frames)
    frames = context_for(voice.teacher, clips).frames
    for row, clip in zip(frames, clips, strict=True):
        assert np.array_equal(row[: len(clip.frames)], clip.frames)
        assert bool((row[len(clip.frames) :] == row[len(clip.frames) - 1]).all())


def test_unconditional_models_get_no_context():
    assert context_for(WaveNet(WaveNetConfig(2, 2, 4, 4, 4)), []) is None


def test_naive_pays_for_the_whole_receptive_field_and_cached_for_one_sample(
    voice, corpus, monkeypatch
):
    lengths = {"naive": set(), "cached": set()}
    teacher, clip = voice.teacher, corpus.split("train")[0]
    conditionals, advance = teacher.conditionals, teacher.advance

    def counted_conditionals(x, context=None):
        lengths["naive"].add(x.shape[1])
        return conditionals(x, context)

    def counted_advance(x_new, context=None, state=None):
        lengths["cached"].add(x_new.shape[1])
        return advance(x_new, context, state)

    monkeypatch.setattr(teacher, "conditionals", counted_conditionals)
    monkeypatch.setattr(teacher, "advance", counted_advance)
    speeds = measure_speed(
        teacher,
        voice.student,
        clip,
        SPEC,
        names=("naive", "cached", "student"),
        repeats=3,
        seconds_per_run=0.01,
    )
    assert lengths == {"naive": {teacher.receptive_field + 1}, "cached": {0, 1}}
    for speed in speeds.values():
        assert (
            0
            < speed["samples_per_second_min"]
            <= speed["samples_per_second"]
            <= speed["samples_per_second_max"]
        )
        assert speed["times_real_time"] == speed["samples_per_second"] / SPEC.sample_rate
    assert list(speeds) == ["naive", "cached", "student"]


def test_every_sampler_of_a_voice_has_its_speed(voice, corpus):
    clip = corpus.split("train")[0]
    speeds = measure_speed(
        voice.teacher, voice.student, clip, SPEC, repeats=1, seconds_per_run=0.002
    )
    exact = {"naive", "cached", "jacobi", "speculative"} | (
        {"native"} if is_available() else set()
    )
    assert set(speeds) == exact | {"student"}
    assert speeds["speculative"]["samples_per_round"] >= 1
    assert set(measure_speed(None, voice.student, clip, SPEC, repeats=1)) == {"student"}


def test_the_draft_is_measured_under_the_teachers_prefixes(voice, corpus):
    clips = [
        clip._replace(wave=clip.wave[: 5 * SPEC.hop_samples], frames=clip.frames[:5])
        for clip in (corpus.split("train")[0], corpus.split("train")[15])
    ]
    drafted = draft(voice.teacher, voice.student, clips, 0, lambda stage, share: None)
    assert len(drafted.tv) == len(drafted.samples_per_round) == 2
    assert all(0 < tv < 1 for tv in drafted.tv)
    assert all(rate >= 1 for rate in drafted.samples_per_round)
    again = draft(voice.teacher, voice.student, clips, 0, lambda stage, share: None)
    assert again == drafted


def test_speed_needs_no_clip_longer_than_the_receptive_field(voice, corpus):
    clip = corpus.split("train")[0]
    short = clip._replace(wave=clip.wave[:80], frames=clip.frames[:1])
    deep = WaveNet(WaveNetConfig(7, 7, 4, 4, 4, conditioning=CONDITIONING))
    assert deep.receptive_field > 80
    assert (
        measure_speed(deep, None, short, SPEC, names=("naive",), repeats=1, seconds_per_run=0.01)[
            "naive"
        ]["samples_per_second"]
        > 0
    )
