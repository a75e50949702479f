"""The prompts that make rubrics from a preference and from a coarse rubric, word for word, and their answers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from omnirm.errors import ConfigError, SampleError
from omnirm.parsing.planning import RubricPlan
from omnirm.prompts.rendered import Rendered
from omnirm.prompts.rubric_making import Contrast, Decomposition
from omnirm.sample import Sample
from omnirm.types import ParseFailure, Part, Rubric

GOLDEN = Path(__file__).parent.parent / "golden" / "rubrics"
FORM = Rubric("Form", "It is a list of three fruits.", 2.0)
TEXT = Sample.from_dict(
    {"id": "text", "prompt": "Name three fruits.", "candidates": ["apple, pear", "- apple\n- pear\n- plum"], "label": 1}
)
MEDIA = Sample.from_dict(
    {
        "id": "media",
        "prompt": [{"role": "system", "content": "Paint."}, {"role": "user", "content": "A red ball."}],
        "candidates": [[{"type": "image", "image": "a.png"}], [{"type": "image", "image": "b.png"}, "There."]],
        "label": 0,
    }
)
CASES = {
    "contrast": lambda: Contrast().render(TEXT, count=3),
    "contrast-media": lambda: Contrast().render(MEDIA),
    "decompose": lambda: Decomposition().render(TEXT, rubric=FORM),
    "decompose-media": lambda: Decomposition().render(MEDIA, rubric=Rubric("Redness"), count=2),
}


def written(rendered: Rendered) -> str:
    """A prompt as a file: what is not ours stands between double angle brackets."""

    def shown(part: Part) -> str:
        if part.type != "text":
            return f"<{part.type} {part.value}>"
        return part.value if part.trusted else f"⟪{part.value}⟫"

    turns = [f"===== {turn.role}\n{''.join(map(shown, turn.parts))}\n" for turn in rendered.messages]
    return "".join(turns) + f"===== assistant begins\n{rendered.prefill}\n===== {rendered.max_new_tokens} tokens\n"


@pytest.mark.parametrize("name", CASES)
def test_a_prompt_is_word_for_word_as_written_down(name: str) -> None:
    text, path = written(CASES[name]()), GOLDEN / f"{name}.txt"
    if os.environ.get("OMNIRM_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "changed; if on purpose, run with OMNIRM_UPDATE_GOLDEN=1"


@pytest.mark.parametrize("name", CASES)
def test_instructions_are_a_dozen_whole_lines_of_our_own(name: str) -> None:
    (system,) = CASES[name]().messages[0].parts
    lines = system.value.split("\n")
    assert system.trusted
    assert len(lines) <= 12
    assert all(line == line.strip() and line for line in lines)
    assert not set("{}@") & set(system.value)


def test_the_better_response_is_marked_and_stays_in_its_place() -> None:
    for sample, order in ((TEXT, ["rejected", "preferred"]), (TEXT.swapped(), ["preferred", "rejected"])):
        user = written(Contrast().render(sample))
        assert re.findall(r"^# \S+ (preferred|rejected) response$", user, re.MULTILINE) == order
        assert re.search(r"preferred response\n⟪- apple", user)


def test_prompts_that_split_rubrics_of_one_sample_begin_alike() -> None:
    first, second = (written(Decomposition().render(TEXT, rubric=one)) for one in (FORM, Rubric("Truth")))
    shared = first[: first.index("Form: ")]
    assert shared.endswith("rubrics\n⟪1. ")
    assert second.startswith(shared)


def test_weights_are_not_shown() -> None:
    assert "weight" not in written(Decomposition().render(TEXT, rubric=FORM))


@pytest.mark.parametrize("form", [Contrast(), Decomposition()])
def test_an_answer_comes_back(form: Contrast | Decomposition) -> None:
    rendered = form.render(TEXT, count=2, **({"rubric": FORM} if form.name == "decompose" else {}))
    text = f"{rendered.prefill} Form: It is a list of three fruits.\n2. Number (rule): three\n# {rendered.nonce} end"
    form_, number = Rubric("Form", FORM.text, source="generated"), Rubric("Number (rule)", "three", source="generated")
    assert form.parse(rendered, text, "stop") == RubricPlan((form_, number), 2)
    cut = form.parse(rendered, text, "length")
    assert isinstance(cut, ParseFailure)
    assert cut.reason == "truncated"


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Contrast().render(TEXT, count=0), ConfigError, "1 to 100"),
        (lambda: Contrast().render(TEXT, counts=3), ConfigError, "counts"),
        (lambda: Contrast().render(Sample.from_dict({"prompt": "x", "candidates": ["a", "b"]})), SampleError, "None"),
        (
            lambda: Contrast().render(Sample.from_dict({"prompt": "x", "candidates": ["a", "b"], "label": "tie"})),
            SampleError,
            "'tie'",
        ),
        (
            lambda: Contrast().render(Sample.from_dict({"prompt": "x", "candidates": ["a", "b", "c"], "label": 0})),
            SampleError,
            "3 candidates",
        ),
        (lambda: Decomposition().render(TEXT, rubric=FORM, count=101), ConfigError, "1 to 100"),
        (lambda: Decomposition().render(TEXT, rubric=FORM, rubrics=()), ConfigError, "rubrics"),
        (lambda: Decomposition().render(TEXT, rubric=Rubric("a\ud800")), SampleError, "U+D800"),
    ],
)
def test_a_prompt_that_cannot_be_made_says_why(make, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        make()
