"""Linguistic frames: the phone under each frame's centre, and its neighbours."""

import math
from dataclasses import replace

import numpy as np
import pytest

from wavestill.audio.labels import SILENCE, Label
from wavestill.audio.linguistic import (
    LinguisticSpec,
    linguistic_frames,
    num_label_frames,
    phone_inventory,
)
from wavestill.audio.mel import MEL_PRESETS
from wavestill.audio.spec import FeatureSpec, spec_from_dict

LABELS = (
    Label(0, 0.1, "sil"),
    Label(0.1, 0.25, "k"),
    Label(0.25, 0.4, "ae"),
    Label(0.4, 0.5, "t"),
)
SPEC = LinguisticSpec(8000, 100, ("ae", "k", "sil", "t"))
MEL = MEL_PRESETS["wavestill_8k"]


def decoded(frames: np.ndarray, spec: LinguisticSpec) -> list[list[str | None]]:
    """The phones of each frame, two before to two after."""
    num = len(spec.phones)
    places = [frames[:, i * num : (i + 1) * num] for i in range(2 * spec.context + 1)]
    assert all(set(np.unique(place)) <= {0, 1} and place.sum(1).max() <= 1 for place in places)
    return [
        [spec.phones[int(place[f].argmax())] if place[f].any() else None for place in places]
        for f in range(len(frames))
    ]


def test_every_frame_is_of_the_phone_under_its_centre() -> None:
    frames = linguistic_frames(LABELS, SPEC)
    assert frames.shape == (40, SPEC.num_features)
    assert frames.dtype == np.float32
    sequence = [None, None, *(label.phone for label in LABELS), None, None]
    for f, context in enumerate(decoded(frames, SPEC)):
        centre = (f + 0.5) * 100 / 8000
        (i,) = (i for i, label in enumerate(LABELS) if label.start_s <= centre < label.end_s)
        assert context == sequence[i : i + 5]
        start_s, end_s, _ = LABELS[i]
        assert frames[f, -2:] == pytest.approx(
            [(centre - start_s) / (end_s - start_s), math.log(end_s - start_s)], rel=1e-5
        )


def test_a_phone_shorter_than_a_hop_is_still_a_neighbour() -> None:
    labels = (Label(0, 0.1, "sil"), Label(0.1, 0.101, "k"), Label(0.101, 0.2, "ae"))
    contexts = decoded(linguistic_frames(labels, SPEC), SPEC)
    assert contexts[0] == [None, None, "sil", "k", "ae"]
    assert contexts[-1] == ["sil", "k", "ae", None, None]


@pytest.mark.parametrize("context", [0, 1, 3])
def test_context_is_as_wide_as_asked_for(context: int) -> None:
    spec = replace(SPEC, context=context)
    frames = linguistic_frames(LABELS, spec)
    assert frames.shape[1] == spec.num_features == (2 * context + 1) * 4 + 2
    widest, num = linguistic_frames(LABELS, replace(SPEC, context=4)), len(SPEC.phones)
    inner = slice((4 - context) * num, (5 + context) * num)
    assert np.array_equal(frames[:, :-2], widest[:, inner])


def test_past_the_labels_is_silence_and_a_rounding_is_none() -> None:
    longer = decoded(linguistic_frames(LABELS, SPEC, 45), SPEC)
    assert [context[2] for context in longer[38:]] == ["t", "t"] + 5 * [SILENCE]
    assert [context[2] for context in decoded(linguistic_frames(LABELS, SPEC, 41), SPEC)][
        -1
    ] == "t"
    shorter = linguistic_frames(LABELS, SPEC, 30)
    assert np.array_equal(shorter, linguistic_frames(LABELS, SPEC)[:30])


@pytest.mark.parametrize(
    ("end_s", "num_frames"), [(0.3, 24), (0.3001, 25), (0.1 + 0.2, 24), (1e-3, 1)]
)
def test_frames_cover_the_labels(end_s: float, num_frames: int) -> None:
    assert num_label_frames([Label(0, end_s, "t")], SPEC) == num_frames


def test_pitch_comes_last_and_only_where_the_spec_has_it() -> None:
    spec = replace(SPEC, pitch=True)
    pitch = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    frames = linguistic_frames(LABELS, spec, pitch=pitch)
    assert np.array_equal(frames[:, -2:], pitch)
    assert np.array_equal(frames[:, :-2], linguistic_frames(LABELS, SPEC))
    with pytest.raises(ValueError, match="has pitch but none was given"):
        linguistic_frames(LABELS, spec)
    with pytest.raises(ValueError, match="has no pitch but some of shape"):
        linguistic_frames(LABELS, SPEC, pitch=pitch)
    with pytest.raises(ValueError, match=r"shape \(39, 2\) was given.*give \(40, 2\)"):
        linguistic_frames(LABELS, spec, pitch=pitch[1:])


def test_an_unknown_phone_is_named() -> None:
    with pytest.raises(ValueError, match="the phone 'zh' is not among the 4 that were prepared"):
        linguistic_frames([Label(0, 1, "zh")], SPEC)
    assert phone_inventory([LABELS, [Label(0, 1, "zh")]]) == ("ae", "k", "sil", "t", "zh")
    assert phone_inventory([[Label(0, 1, "a")]]) == ("a", SILENCE)


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, pitch=True, context=0), MEL])
def test_a_spec_comes_back_from_its_dictionary(spec: FeatureSpec) -> None:
    assert isinstance(spec, FeatureSpec)
    again = spec_from_dict(spec.to_dict())
    assert again == spec
    spec.require_same(again)


def test_specs_that_differ_are_refused_by_what_differs() -> None:
    with pytest.raises(ValueError, match="hop_samples 100 against 80, context 2 against 1"):
        SPEC.require_same(replace(SPEC, hop_samples=80, context=1))
    with pytest.raises(ValueError, match="4 phones against 4, which differ in p, t"):
        SPEC.require_same(replace(SPEC, phones=("ae", "k", "p", "sil")))
    with pytest.raises(ValueError, match="linguistic features against a MelSpec"):
        SPEC.require_same(MEL)
    with pytest.raises(ValueError, match="'kind' is 'video'"):
        spec_from_dict({**SPEC.to_dict(), "kind": "video"})
    for changes, message in (
        ({"phones": ["a", 3]}, "no name"),
        ({"phones": ["a", "a"]}, "2 names, 1 of them different"),
        ({"context": -1}, "'context' is -1"),
        ({"hop_samples": "100"}, "not of type int"),
        ({"colour": 1}, "no field colour"),
    ):
        with pytest.raises(ValueError, match=message):
            spec_from_dict({**SPEC.to_dict(), **changes})
