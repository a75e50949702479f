"""Preference samples of the nano world: honest splits, labels that follow from what is shown, and losers that tempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nano_reading import (
    KEPT_FOR_TEST,
    KEPT_FOR_VALIDATION,
    Values,
    pair_of,
    scenes_of,
    values_of,
    wanted_by,
)

from omnirm.nano.requests import HINTS
from omnirm.nano.scenes import ATTRIBUTES, Scene, Split
from omnirm.nano.world import FAMILIES, Family, Preference, demo_samples, preference, with_files
from omnirm.nano.writer import Drawing
from omnirm.preprocessing import prepare
from omnirm.sample import Sample, read_samples, write_samples
from omnirm.types import Part

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MODALITIES: dict[Family, tuple[set[str], set[str]]] = {
    "T2T": ({"text"}, {"text"}),
    "TI2T": ({"image", "text"}, {"text"}),
    "TV2T": ({"video", "text"}, {"text"}),
    "TA2T": ({"audio", "text"}, {"text"}),
    "T2I": ({"text"}, {"image"}),
    "T2V": ({"text"}, {"video"}),
    "T2A": ({"text"}, {"audio"}),
    "TI2I": ({"image", "text"}, {"image"}),
}
MANY = 400


def pairs(split: Split = "train", n: int = MANY, family: Family | None = None) -> Iterator[Preference]:
    """Pairs of every family (or of one), with media and in words."""
    for name in FAMILIES if family is None else (family,):
        for seed in range(n):
            yield preference(seed, split, name, in_words=bool(seed % 2))


def parts(sample: Sample) -> Iterator[Part]:
    for message in sample.prompt:
        yield from message.parts
    for candidate in sample.candidates:
        yield from candidate.parts


def asked(sample: Sample) -> str:
    return sample.prompt[0].parts[-1].value


# What a reader can tell from the sample alone, with no help of the generator


def seen_values(pair: Preference) -> list[Values]:
    """The values of both candidates, read off what they show."""
    return [values_of(candidate.parts[0], pair.sample.prompt[0].parts) for candidate in pair.sample.candidates]


def goal(pair: Preference) -> Values:
    """What the prompt asks for, read off the prompt."""
    return wanted_by(pair.sample.prompt[0].parts)


def hinted(pair: Preference) -> list[str]:
    """The attributes that the prompt says matter."""
    return [name for name, hints in HINTS.items() if any(asked(pair.sample).endswith(h) for h in hints)]


@pytest.mark.parametrize("split", SPLITS)
def test_the_label_follows_from_what_the_sample_shows_and_asks(split: Split) -> None:
    for pair in pairs(split, 150):
        (attribute,) = hinted(pair)
        wanted, shown = goal(pair), seen_values(pair)
        assert attribute == pair.attribute
        assert shown == [dict(s.values) for s in pair.scenes]
        assert wanted == dict(pair.wanted.values), pair.sample.id
        right = [values[attribute] == wanted[attribute] for values in shown]
        assert right.count(True) == 1
        assert pair.sample.label == right.index(True)


def test_gold_rubric_and_analysis_agree_with_the_label() -> None:
    for pair in pairs(n=150):
        of_a, of_b, letter = pair.analysis()
        assert letter == "AB"[int(pair.sample.label)]  # type: ignore[arg-type]
        good, a, b = (s[pair.attribute] for s in (pair.wanted, *pair.scenes))
        assert (of_a, of_b) == (
            f"{good}? {a}, {'yes' if letter == 'A' else 'no'}",
            f"{good}? {b}, {'yes' if letter == 'B' else 'no'}",
        )
        rubric = pair.rubric()
        assert rubric.name == pair.attribute
        assert f" {pair.wanted[pair.attribute]}." in rubric.text
        assert pair.sample.metadata["gold_rubric"] == {"name": rubric.name, "text": rubric.text}
        assert pair.attribute in pair.decisive
        for other in pair.wanted.attributes:
            right = [s[other] == pair.wanted[other] for s in pair.scenes]
            assert (pair.analysis(other)[2] == "tie") == (right[0] == right[1])
            assert (other in pair.decisive) == (right[0] != right[1])


def test_a_rubric_may_ask_for_another_value_than_the_request_does() -> None:
    turned = 0
    for pair in pairs(n=60):
        for name in pair.wanted.attributes:
            for value in ATTRIBUTES[pair.wanted.kind][name]:
                right = [s[name] == value for s in pair.scenes]
                yes = ["yes" if fits else "no" for fits in right]
                letter = "tie" if right[0] == right[1] else "AB"[right.index(True)]
                expected = *(f"{value}? {s[name]}, {y}" for s, y in zip(pair.scenes, yes, strict=True)), letter
                assert pair.analysis(name, value) == expected
                rubric = pair.rubric(name, value)
                assert (rubric.name, rubric.text) == (name, f"the {name} should be {value}.")
                turned += name == pair.attribute and letter == "AB"[1 - int(pair.sample.label)]  # type: ignore[arg-type]
    assert turned > 100, "the loser wins under another value"


def test_a_thing_has_none_of_an_attribute_of_other_things() -> None:
    for pair in pairs(n=5):
        name = "pitch" if pair.wanted.kind != "tune" else "color"
        value = ATTRIBUTES["tune" if name == "pitch" else "picture"][name][0]
        assert pair.analysis(name, value) == (f"{value}? none, no", f"{value}? none, no", "tie")
        assert pair.rubric(name, value).text == f"the {name} should be {value}."


def test_writers_put_the_scenes_into_the_very_words_of_the_candidates() -> None:
    for pair in pairs(n=60):
        texts = [c.parts[0].value for c in pair.sample.candidates if c.parts[0].type == "text"]
        assert len(pair.writers) == len(texts)
        for write, text, scene in zip(pair.writers, texts, pair.scenes, strict=False):
            assert write(scene) == text
            for name in scene.attributes:
                other = scene.with_value(name, pair.wanted[name])
                said = values_of(Part("text", write(other)), pair.sample.prompt[0].parts)
                assert said == dict(other.values)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loser_often_wins_under_another_rubric(family: Family) -> None:
    tempting = majority = differing = 0
    found = list(pairs(family=family))
    for pair in found:
        rights = [sum(s[a] == pair.wanted[a] for a in pair.wanted.attributes) for s in pair.scenes]
        winner, loser = rights[int(pair.sample.label)], rights[1 - int(pair.sample.label)]  # type: ignore[arg-type]
        letters = {pair.analysis(a)[2] for a in pair.decisive}
        tempting += len(letters) == 2
        majority += winner > loser
        differing += sum(pair.scenes[0][a] != pair.scenes[1][a] for a in pair.wanted.attributes) > 1
    n = len(found)
    assert 0.6 < tempting / n < 0.95, "a judge with the wrong rubric goes wrong"
    assert majority / n < 0.6, "counting right attributes is not enough"
    assert differing / n > 0.8


def test_labels_are_balanced_in_every_family_and_split() -> None:
    for split in SPLITS:
        for family in FAMILIES:
            first = sum(preference(seed, split, family, True).sample.label == 0 for seed in range(800)) / 800
            assert abs(first - 0.5) < 0.07, (split, family)


def test_every_attribute_decides_and_every_hint_is_used() -> None:
    found = Counter((p.wanted.kind, p.attribute) for p in pairs())
    for kind in ("picture", "clip", "tune", "list", "sum"):
        names = {a for k, a in found if k == kind}
        assert names == set(next(p for p in pairs() if p.wanted.kind == kind).wanted.attributes)
    said = {hint for p in pairs() for hint in HINTS[p.attribute] if asked(p.sample).endswith(hint)}
    assert said == {hint for hints in HINTS.values() for hint in hints}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_the_modalities_of_its_name(family: Family) -> None:
    for seed in range(60):
        sample = preference(seed, "train", family).sample
        prompt, candidates = MODALITIES[family]
        assert {p.type for p in sample.prompt[0].parts} == prompt
        assert [{p.type for p in c.parts} for c in sample.candidates] == [candidates] * 2
        assert len(sample.prompt) == 1
        assert sample.prompt[0].role == "user"
        assert sample.metadata["family"] == family
        assert preference(seed, "train", family, in_words=True).sample.modalities == {"text"}


def test_nothing_of_a_sample_is_trusted_text() -> None:
    assert not any(part.trusted for pair in pairs(n=30) for part in parts(pair.sample))


def test_training_never_shows_a_held_out_combination() -> None:
    seen = 0
    for pair in pairs("train", 800):
        for scene in (*scenes_of(parts(pair.sample)), pair.wanted, *pair.scenes):
            seen += 1
            assert pair_of(scene) not in KEPT_FOR_TEST | KEPT_FOR_VALIDATION
        assert pair.sample.metadata["held_out"] is False
    assert seen > 20_000


def test_the_edited_picture_is_no_held_out_one_either() -> None:
    for seed in range(2000):
        pair = preference(seed, "train", "TI2I", in_words=bool(seed % 2))
        assert all(pair_of(s) not in KEPT_FOR_TEST | KEPT_FOR_VALIDATION for s in scenes_of(parts(pair.sample)))


@pytest.mark.parametrize(
    ("split", "own", "foreign"),
    [("test", KEPT_FOR_TEST, KEPT_FOR_VALIDATION), ("validation", KEPT_FOR_VALIDATION, KEPT_FOR_TEST)],
)
def test_validation_and_test_have_their_own_combinations(split: Split, own: set, foreign: set) -> None:
    for family in FAMILIES[1:]:
        held_out = 0
        for pair in pairs(split, 300, family):
            found = {pair_of(s) for s in (*scenes_of(parts(pair.sample)), pair.wanted, *pair.scenes)}
            assert not found & foreign
            shown = {pair_of(s) for s in (pair.wanted, *pair.scenes)}
            assert pair.sample.metadata["held_out"] == bool(shown & own)
            held_out += bool(shown & own)
        assert held_out / 300 > 0.5, family
    assert not any(p.sample.metadata["held_out"] for p in pairs(split, 50, "T2T"))


def test_splits_have_other_samples_and_names_for_the_same_seed() -> None:
    for family in FAMILIES:
        for seed in range(50):
            found = [preference(seed, split, family).sample for split in SPLITS]
            assert len({s.id for s in found}) == 3
    contents = [{repr((p.sample.prompt, p.sample.candidates)) for p in pairs(split, 200, "T2I")} for split in SPLITS]
    assert not contents[1] & contents[2]
    assert not contents[0] & contents[2]


@given(st.integers(0, 10**9), st.sampled_from(SPLITS), st.sampled_from([None, *FAMILIES]), st.booleans())
def test_a_sample_is_decided_by_its_arguments(seed: int, split: Split, family: Family | None, in_words: bool) -> None:
    assert preference(seed, split, family, in_words) == preference(seed, split, family, in_words)


def test_seeds_give_different_samples_of_all_families() -> None:
    found = [preference(seed) for seed in range(400)]
    assert len({repr(p.sample.prompt + p.sample.candidates) for p in found}) > 380  # type: ignore[operator]
    assert {p.sample.metadata["family"] for p in found} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_files_on_disk_are_the_sample_and_travel_through_json(family: Family, tmp_path: Path) -> None:
    pair = preference(3, "test", family)
    folder = tmp_path / "media"
    sample = with_files(pair.sample, folder)
    media = [p for p in parts(sample) if p.type != "text"]
    assert len(media) == len({p.value for p in media}) == sum(p.type != "text" for p in parts(pair.sample))
    for drawn, part in zip((p for p in parts(pair.sample) if p.type != "text"), media, strict=True):
        assert isinstance(drawn.value, Drawing)
        assert Path(part.value).read_bytes() == drawn.value.render()[0]
        assert Path(part.value).suffix == {"image": ".png", "video": ".mp4", "audio": ".wav"}[part.type]
        prepare(part.value, part.type)  # type: ignore[arg-type]
    assert Sample.from_json(sample.to_json()) == sample
    assert (sample.label, sample.metadata, sample.id) == (pair.sample.label, pair.sample.metadata, pair.sample.id)
    file = tmp_path / "samples.jsonl"
    write_samples(file, [sample])
    assert list(read_samples(file)) == [sample]
    assert "media/" not in file.read_text() or str(tmp_path) not in file.read_text(), "paths are relative to the file"


def test_the_demo_has_a_text_an_image_a_video_and_an_audio_pair(tmp_path: Path) -> None:
    samples = demo_samples(tmp_path / "new" / "folder")
    assert [s.metadata["family"] for s in samples] == ["T2T", "T2I", "T2V", "T2A"]
    assert [s.modalities for s in samples] == [{"text"}, {"image", "text"}, {"text", "video"}, {"audio", "text"}]
    assert all("test" in s.id and s.label in (0, 1) for s in samples)
    assert [Sample.from_json(s.to_json()) for s in samples] == samples
    assert demo_samples(tmp_path / "new" / "folder") == samples


def test_swapping_a_pair_swaps_its_label() -> None:
    pair = preference(1, "test", "T2I")
    assert pair.sample.swapped().label == 1 - int(pair.sample.label)  # type: ignore[arg-type]
    other = Preference(pair.sample.swapped(), pair.wanted, (pair.scenes[1], pair.scenes[0]), pair.attribute)
    assert {pair.analysis()[2], other.analysis()[2]} == {"A", "B"}


def test_a_scene_that_both_meet_is_a_tie_under_that_rubric() -> None:
    scene = Scene("sum", (("correctness", "5"), ("format", "digits"), ("brevity", "brief")))
    pair = Preference(preference(1).sample, scene, (scene, scene.with_value("correctness", "6")), "correctness")
    assert pair.analysis() == ("5? 5, yes", "5? 6, no", "A")
    assert pair.analysis("format") == ("digits? digits, yes", "digits? digits, yes", "tie")
    assert pair.decisive == ("correctness",)
