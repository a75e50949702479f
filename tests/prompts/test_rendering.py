"""Rendered prompts: golden files word for word, keys that occur nowhere, and answers that come back from the parser."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_texts import HOSTILE, KEYS
from hypothesis import given
from hypothesis import strategies as st

from omnirm.errors import ConfigError, SampleError
from omnirm.prompts.formats import FORMATS, Rendered, get_format
from omnirm.prompts.render import SYLLABLES, Slot, fill, make_key, merge, plain, template_hash, template_lines
from omnirm.sample import Sample
from omnirm.types import PairVerdict, Part, Rubric

GOLDEN = Path(__file__).parent.parent / "golden" / "prompts"
UPDATE = "OMNIRM_UPDATE_GOLDEN"  # set it to 1 to write the golden files anew, then read the difference

TEXT = Sample.from_dict(
    {"id": "text", "prompt": "Name three fruits, in a list.", "candidates": ["- apple\n- pear\n- plum", "apple, pear"]}
)
TURNS = Sample.from_dict(
    {
        "id": "turns",
        "prompt": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello. How can I help?"},
            {
                "role": "user",
                "content": [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "Who is it?"}],
            },
        ],
        "candidates": ["A cat.", "I can not tell.\n"],
    }
)
MEDIA = Sample.from_dict(
    {
        "id": "media",
        "prompt": "A red ball rolls to the left, with a low hum.",
        "candidates": [
            [{"type": "video", "video": "a.mp4", "fps": 2, "use_audio_in_video": True}],
            [
                {"type": "text", "text": "Two files:"},
                {"type": "image", "image": "b.png"},
                {"type": "audio", "audio": "b.wav"},
            ],
        ],
    }
)
EQUAL = (Rubric("Form", "It is a list."), Rubric("Completeness", "Three fruits are named."))
WEIGHTED = (Rubric("Form", "It is a list.", 2.0), Rubric("Brevity"), Rubric("Spelling", "No mistakes.", 0.5))
ONE = (Rubric("Form", "It is a list."),)


def p_yes_question() -> Rendered:
    form = get_format("p-yes")
    return form.render_question(form.render_thought(TEXT, candidate=1), "It is no list, and one fruit is missing.")


CASES = {
    "pairwise-thinking": lambda: get_format("pairwise-thinking").render(TEXT),
    "pairwise-thinking-rubrics": lambda: get_format("pairwise-thinking").render(TEXT, rubrics=EQUAL),
    "pairwise-thinking-weights-tie": lambda: get_format("pairwise-thinking").render(
        TEXT, rubrics=WEIGHTED, allow_tie=True
    ),
    "pairwise-thinking-turns": lambda: get_format("pairwise-thinking").render(TURNS),
    "pairwise-thinking-media": lambda: get_format("pairwise-thinking").render(MEDIA, rubrics=ONE),
    "pairwise": lambda: get_format("pairwise").render(TEXT),
    "pairwise-tie": lambda: get_format("pairwise").render(TEXT, allow_tie=True),
    "pairwise-media-rubrics": lambda: get_format("pairwise").render(MEDIA, rubrics=WEIGHTED),
    "pointwise": lambda: get_format("pointwise").render(TEXT),
    "pointwise-rubrics": lambda: get_format("pointwise").render(TEXT, rubrics=WEIGHTED, candidate=1),
    "pointwise-direct": lambda: get_format("pointwise").render(MEDIA, thinking=False),
    "pointwise-direct-rubrics": lambda: get_format("pointwise").render(TEXT, thinking=False, rubrics=EQUAL),
    "planning": lambda: get_format("planning").render(TEXT),
    "planning-extension": lambda: get_format("planning").render(TURNS, rubrics=WEIGHTED, count=5),
    "selection": lambda: get_format("selection").render(TEXT, rubrics=WEIGHTED),
    "refinement": lambda: get_format("refinement").render(TEXT, candidate=1, comments="It is no list."),
    "refinement-rubrics": lambda: get_format("refinement").render(TEXT, comments="Fine.", rubrics=ONE),
    "p-yes-thought": lambda: get_format("p-yes").render(TEXT, candidate=1),
    "p-yes-thought-rubrics": lambda: get_format("p-yes").render(TEXT, rubrics=EQUAL),
    "p-yes-question": p_yes_question,
}


def shown(part: Part) -> str:
    if part.type != "text":
        return f"<{part.type} {part.value}{' ' if part.options else ''}{dict(part.options) or ''}>"
    return part.value if part.trusted else f"\u27ea{part.value}\u27eb"


def golden(rendered: Rendered) -> str:
    """A prompt as a file: what is not ours stands between double angle brackets."""
    turns = [f"===== {turn.role}\n{''.join(map(shown, turn.parts))}\n" for turn in rendered.messages]
    settings = f"stop {list(rendered.stop)}, track {list(rendered.track)}, at most {rendered.max_new_tokens} tokens"
    return "".join(turns) + f"===== assistant begins\n{rendered.prefill}\n===== {settings}\n"


@pytest.mark.parametrize("name", CASES)
def test_a_prompt_is_word_for_word_as_written_down(name: str) -> None:
    text, path = golden(CASES[name]()), GOLDEN / f"{name}.txt"
    if os.environ.get(UPDATE) == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"no golden file; run with {UPDATE}=1"
    assert text == path.read_text(encoding="utf-8"), f"the prompt changed; if on purpose, run with {UPDATE}=1"


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


def test_every_format_has_a_golden_file() -> None:
    assert all(any(case.startswith(name) for case in CASES) for name in FORMATS)


@pytest.mark.parametrize("name", CASES)
def test_instructions_are_a_dozen_whole_lines_of_our_own(name: str) -> None:
    system = CASES[name]().messages[0]
    assert [part.trusted for part in system.parts] == [True]
    lines = system.parts[0].value.split("\n")
    assert len(lines) <= 12
    assert all(line == line.strip() and line for line in lines)
    assert "{" not in system.parts[0].value
    assert "@" not in system.parts[0].value


def test_instructions_are_the_same_for_every_sample_of_a_format() -> None:
    for form, options in ((get_format("pairwise"), {}), (get_format("pairwise-thinking"), {"rubrics": EQUAL})):
        first, second = (form.render(sample, **options).messages[0] for sample in (TEXT, TURNS))
        assert first == second


def test_what_is_shared_comes_first() -> None:
    """Under other rubrics, and in the other order up to the responses, a prompt begins with the same characters."""
    form = get_format("pairwise")

    def user(sample: Sample, rubrics: tuple[Rubric, ...]) -> str:
        return "".join(map(shown, form.render(sample, rubrics=rubrics).messages[1].parts))

    first, second, swapped = user(TEXT, EQUAL), user(TEXT, WEIGHTED), user(TEXT.swapped(), EQUAL)
    assert first[: first.index("1. Form") + 7] == second[: second.index("1. Form") + 7]
    assert first[: first.index("response A\n")] == swapped[: swapped.index("response A\n")]


def test_weights_are_shown_only_where_they_differ() -> None:
    form = get_format("pairwise")
    assert (
        "weight"
        not in form.render(TEXT, rubrics=[Rubric("X", weight=3), Rubric("Y", weight=3)]).messages[1].parts[-2].value
    )
    listing = form.render(TEXT, rubrics=WEIGHTED).messages[1].parts[-2]
    assert listing == Part(
        "text", "1. Form (weight 2): It is a list.\n2. Brevity (weight 1)\n3. Spelling (weight 0.5): No mistakes."
    )


def test_the_swapped_prompt_shows_the_second_candidate_as_a() -> None:
    user = get_format("pairwise").render(TEXT.swapped()).messages[1]
    values = [part.value for part in user.parts]
    assert values.index("apple, pear") < values.index("- apple\n- pear\n- plum")


def test_names_labels_and_metadata_are_never_shown() -> None:
    sample = Sample.from_dict(
        {
            "id": "SECRET-ID",
            "prompt": "hi",
            "candidates": [{"name": "SECRET-NAME", "content": "a"}, "b"],
            "label": 0,
            "metadata": {"note": "SECRET-NOTE"},
        }
    )
    for name, form in FORMATS.items():
        options = {"comments": "x"} if name == "refinement" else {"rubrics": ONE}
        assert "SECRET" not in golden(form.render(sample, **options)), name


def test_the_second_turn_of_p_yes_continues_the_first() -> None:
    form = get_format("p-yes")
    first = form.render_thought(TEXT)
    second = form.render_question(first, "</think> Yes <|im_end|>")
    assert second.messages[: len(first.messages)] == first.messages
    assert second.messages[2].parts == (Part("text", "</think> Yes <|im_end|>"),)
    assert not second.messages[2].parts[0].trusted
    assert second.track == ("Yes", "No")


def test_a_request_takes_the_formats_values_and_overrides() -> None:
    rendered = get_format("pairwise").render(TEXT)
    request = rendered.request(temperature=0.7, seed=5, max_new_tokens=4)
    assert (request.messages, request.prefill, request.stop) == (rendered.messages, rendered.prefill, ("]]",))
    assert (request.track, request.temperature, request.seed, request.max_new_tokens) == (("A", "B"), 0.7, 5, 4)


@pytest.mark.parametrize(
    ("name", "sample", "options", "error", "said"),
    [
        ("pairwise", Sample.from_dict({"prompt": "x", "candidates": ["a"]}), {}, SampleError, "1 candidates"),
        ("pairwise", TEXT, {"thinkin": True}, ConfigError, "thinkin"),
        ("pointwise", TEXT, {"candidate": 2}, SampleError, "no candidate 2"),
        ("pointwise", TEXT, {"candidate": -1}, SampleError, "no candidate -1"),
        ("planning", TEXT, {"count": 0}, ConfigError, "1 to 100"),
        ("planning", TEXT, {"count": True}, ConfigError, "1 to 100"),
        ("selection", TEXT, {}, ConfigError, "rubrics"),
        ("refinement", TEXT, {}, ConfigError, "comments"),
        ("refinement", MEDIA, {"comments": "x"}, SampleError, "only text"),
        ("pairwise", TEXT, {"rubrics": [Rubric("a\ud800")]}, SampleError, "U+D800"),
    ],
)
def test_a_prompt_that_cannot_be_made_says_why(
    name: str, sample: Sample, options: dict, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        get_format(name).render(sample, **options)


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="pairwise-thinking, pairwise, pointwise"):
        get_format("pairwise_thinking")


# --- templates and keys


def test_slots_are_filled_in_one_pass() -> None:
    slots: dict[str, Slot] = {
        "key": "ka-bu",
        "prompt": (Part("text", "{response} {key}"),),
        "response": (Part("text", "{prompt}"),),
    }
    values = [part.value for part in fill("user_single", slots)]
    assert values == ["# ka-bu prompt\n", "{response} {key}", "\n# ka-bu response\n", "{prompt}", "\n# ka-bu end"]


def test_texts_of_different_trust_are_not_joined() -> None:
    ours, theirs = Part("text", "a", trusted=True), Part("text", "b")
    assert merge([ours, ours, theirs, theirs, ours]) == (Part("text", "aa", trusted=True), theirs, theirs, ours)


def test_the_hash_changes_with_the_templates_used() -> None:
    hashes = {template_hash(*names) for names in (("pairwise",), ("pointwise",), ("pairwise", "user_pair"))}
    assert len(hashes) == 3
    assert all(re.fullmatch("[0-9a-f]{12}", one) for one in hashes)


def test_template_lines_are_the_lines_that_prompts_are_made_of() -> None:
    known = set(template_lines("pairwise_thinking", "pairwise"))
    for name in ("pairwise-thinking", "pairwise"):
        for rubrics in ((), WEIGHTED):
            for allow_tie in (False, True):
                system = get_format(name).render(TEXT, rubrics=rubrics, allow_tie=allow_tie).messages[0]
                assert set(system.parts[0].value.split("\n")) <= known


def test_a_salt_makes_the_key_another_one() -> None:
    assert make_key(TEXT) == make_key(TEXT) != make_key(TEXT, salt="a") != make_key(TEXT, salt="b")


def test_the_key_is_the_same_in_both_orders_and_under_any_rubrics() -> None:
    form = get_format("pairwise")
    keys = {form.render(sample, rubrics=rubrics).nonce for sample in (TEXT, TEXT.swapped()) for rubrics in ((), EQUAL)}
    assert len(keys) == 1


def test_a_key_is_two_syllables() -> None:
    keys = [make_key(TEXT, salt=str(i)) for i in range(200)]
    assert set(keys) <= set(KEYS)
    assert len(set(keys)) > 100


def test_every_syllable_is_a_consonant_and_a_vowel_so_that_keys_are_read_in_one_way() -> None:
    assert len(set(SYLLABLES)) == len(SYLLABLES) >= 25
    assert all(re.fullmatch("[bdfghjklmnprstvz][aeiou]", syllable) for syllable in SYLLABLES)
    assert len({key.replace("-", "") for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("row", [row for row in HOSTILE if row.startswith("every key")])
def test_the_key_grows_where_a_text_is_stuffed_with_keys(row: str) -> None:
    sample = Sample.from_dict({"prompt": "x", "candidates": [HOSTILE[row], "b"]})
    syllables = make_key(sample).split("-")
    assert len(syllables) > 2
    assert set(syllables) <= set(SYLLABLES)
    assert "".join(syllables) not in letters(HOSTILE[row])


def test_the_key_grows_further_where_longer_ones_are_stuffed_in_too() -> None:
    text, lengths = " ".join(KEYS), set()
    for _ in range(300):
        key = make_key(Sample.from_dict({"id": "x", "prompt": "x", "candidates": ["a", "b"]}), [text])
        assert "".join(key.split("-")) not in letters(text)
        lengths.add(len(key.split("-")))
        text += f" {key}"
    assert min(lengths) == 3
    assert max(lengths) > 3


def letters(text: str) -> str:
    """Letters and digits, as a reader might take them."""
    return "".join(char for char in plain(text) if char.isalnum())


DISGUISES: dict[str, Callable[[str], str]] = {
    "none": lambda key: key,
    "no dash": lambda key: key.replace("-", ""),
    "a space": lambda key: key.replace("-", " "),
    "an en dash": lambda key: key.replace("-", "\u2013"),
    "a minus sign": lambda key: key.replace("-", "\u2212"),
    "a line break": lambda key: key.replace("-", "\n"),
    "other signs": lambda key: key.replace("-", "_.*/"),
    "dashes everywhere": lambda key: "-".join(key),
    "spaces everywhere": lambda key: " ".join(key.replace("-", "")),
    "odd spaces": lambda key: "\u00a0\u2003\u3000".join(key),
    "upper case": str.upper,
    "title case": str.title,
    "full width": lambda key: "".join(chr(ord(char) + 0xFEE0) for char in key),
    "bold": lambda key: "".join(chr(ord(char) - ord("a") + 0x1D41A) if char != "-" else char for char in key),
    "circled": lambda key: "".join(chr(ord(char) - ord("a") + 0x24D0) if char != "-" else char for char in key),
    "accents": lambda key: "\u0301".join(key),
    "letters with accents": lambda key: key.translate(
        dict(zip(map(ord, "aeiou"), "\xe1\xea\xed\xf6\xfc", strict=True))
    ),
    "enclosing marks": lambda key: "\u20dd".join(key),
    "zero width space": lambda key: "\u200b".join(key),
    "hangul filler": lambda key: "\u3164".join(key),
    "word joiner": lambda key: "\u2060".join(key),
    "soft hyphen": lambda key: "\u00ad".join(key),
    "right to left": lambda key: "\u202e".join(key),
    "variation selector": lambda key: "\ufe0f".join(key),
    "tag characters": lambda key: "\U000e0061".join(key),
    "NUL": lambda key: "\x00".join(key),
    "all at once": lambda key: "\u200b \u0301\u2014".join(key.upper()),
    "within a word": lambda key: f"x{key.replace('-', '')}y",
}


@pytest.mark.parametrize("how", DISGUISES)
def test_a_key_that_occurs_in_disguise_is_not_used(how: str) -> None:
    """The comments hold the key that would have been taken: another one is."""
    key = make_key(TEXT)
    assert make_key(TEXT, [f"so {DISGUISES[how](key)} it is"]) != key
    assert make_key(TEXT, ["so it is"]) == key


def test_a_key_that_occurs_across_the_parts_of_a_turn_is_not_used() -> None:
    first, second = make_key(TEXT).split("-")
    content = [{"type": "text", "text": f"x{first}"}, {"type": "text", "text": f"{second}x"}]
    for _ in range(50):
        sample = Sample.from_dict({"id": "x", "prompt": content, "candidates": ["a", "b"]})
        key = make_key(sample)
        assert "".join(key.split("-")) not in letters("".join(part["text"] for part in content))
        first, second = key.split("-")
        content += [{"type": "text", "text": first}, {"type": "text", "text": second}]


SPOKEN = st.lists(st.sampled_from([*SYLLABLES, " ", "-", "\u200b", "X"]), max_size=200).map("".join)


@given(st.text() | SPOKEN, st.text() | SPOKEN, st.text() | SPOKEN)
def test_the_key_occurs_in_no_text(prompt: str, first: str, second: str) -> None:
    sample = Sample.from_dict({"id": "x", "prompt": prompt, "candidates": [first, second]})
    rendered = get_format("pairwise").render(sample, rubrics=[Rubric("r", second)])
    joined = rendered.nonce.replace("-", "")
    for text in (prompt, first, second):
        normal = unicodedata.normalize("NFKC", text).casefold()
        assert rendered.nonce not in text.casefold()
        assert rendered.nonce not in normal
        assert joined not in "".join(char for char in normal if char.isalnum())


@given(
    st.text(),
    st.text(),
    st.sampled_from(["A", "B", "tie"]),
    st.sampled_from(["pairwise", "pairwise-thinking"]),
    st.booleans(),
)
def test_a_well_formed_answer_comes_back(first: str, second: str, letter: str, name: str, given_rubrics: bool) -> None:
    rubrics = WEIGHTED if given_rubrics else ()
    form = get_format(name)
    sample = Sample.from_dict({"id": "x", "prompt": "q", "candidates": [first, second]})
    rendered = form.render(sample, rubrics=rubrics, allow_tie=True)
    if rendered.thinking:
        blocks = "".join(
            f"<criteria {i}>{rubric.name}. {rubric.text}<Judge A>good</Judge A><Judge B>bad</Judge B>A</criteria {i}>"
            for i, rubric in enumerate(rubrics, start=1)
        )
        completion = f"{blocks}</think>\nVerdict {rendered.nonce}: [[{letter}]]"
    else:
        completion = f"{letter}]]"
    text = rendered.prefill + completion
    verdict = form.parse(rendered, text, "stop")
    assert isinstance(verdict, PairVerdict)
    assert verdict.letter == letter
    assert verdict.span is not None
    assert text[slice(*verdict.span)] == letter
    if rendered.thinking:
        assert [one.rubric for one in verdict.criteria] == list(rubrics)
        assert all((one.analysis_a, one.analysis_b, one.verdict) == ("good", "bad", "A") for one in verdict.criteria)


@given(st.text(), st.floats(0, 10).map(lambda x: round(x, 3)), st.lists(st.integers(0, 10), min_size=3, max_size=3))
def test_well_formed_scores_come_back(response: str, total: float, scores: list[int]) -> None:
    form = get_format("pointwise")
    sample = Sample.from_dict({"id": "x", "prompt": "q", "candidates": [response]})
    rendered = form.render(sample, rubrics=WEIGHTED, thinking=False)
    lines = [f"Score {rendered.nonce} {i}: [[{score}]]" for i, score in enumerate(scores, start=1)]
    parsed = form.parse(rendered, "\n".join([*lines, f"Total {rendered.nonce}: [[{total}]]"]), "stop")
    assert parsed.total == total
    assert parsed.scores == tuple(zip(WEIGHTED, map(float, scores), strict=True))
