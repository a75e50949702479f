"""The report: what people must find in it, and that nothing written by a model or a user is obeyed."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from omnirm.backends.scripted import ScriptedBackend, log_odds, prompt_text, say
from omnirm.errors import BackendError
from omnirm.judge import Judge
from omnirm.judgment import Judgment, PointJudgment
from omnirm.report import describe_medium, make_console, print_report
from omnirm.sample import Sample
from omnirm.shown import shortened, visible
from omnirm.types import Part, Rubric

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def printed(
    judgment: Judgment | PointJudgment, sample: Sample | None = None, *, terminal=False, width=100, **more
) -> str:
    file = io.StringIO()
    print_report(
        judgment,
        sample,
        console=make_console(file=file, force_terminal=terminal, width=width, legacy_windows=False, **more),
    )
    return file.getvalue()


def pair(a: str = "reply one", b: str = "reply two", **more) -> Sample:
    return Sample.from_dict({"id": "sum", "prompt": "What is 2 + 3?", "candidates": [a, b], **more})


def analysing(letter: str = "A", text_a: str = "It is right.", text_b: str = "It is wrong.", name: str = "Correctness"):
    def answer(request):
        key = re.search(r"# (\S+) prompt", prompt_text(request))[1]
        first = request.messages[1].parts
        shown_first = " ".join(str(p.value) for p in first).find("reply one") < " ".join(
            str(p.value) for p in first
        ).find("reply two")
        verdict = letter if shown_first else {"A": "B", "B": "A"}[letter]
        a, b = (text_a, text_b) if shown_first else (text_b, text_a)
        return (
            f"<criteria 1>{name}. Is it right?<Judge A>{a}</Judge A><Judge B>{b}</Judge B>{verdict}</criteria 1>"
            f"</think>\nVerdict {key}: [[{verdict}]]"
        )

    return answer


def test_everything_a_reader_needs_is_there():
    sample = pair(label=0, rubrics=[{"name": "Correctness", "text": "Is it right?", "weight": 2}])
    backend = ScriptedBackend(analysing(), name="some-model", revision="abcdef0123456789")
    text = printed(Judge(backend, seed=7).compare(sample), sample)
    for expected in (
        "What is 2 + 3?", "reply one", "reply two", "Correctness (weight 2)", "Is it right?", "It is right.",
        "It is wrong.", "-> A (2 of 2 readings)", "A is better", "1.00", "A shown first: A", "B shown first: A",
        "position-consistent", "2 of 2 could be read", "right", "some-model @ abcdef012345", "seed 7",
        "pairwise-thinking",
    ):  # fmt: skip
        assert expected in text, expected
    assert "toy" not in text


def test_nano_says_what_it_is_and_what_to_use_instead():
    text = " ".join(printed(Judge(ScriptedBackend(say("A"), name="nano")).compare(pair())).split())
    assert "toy" in text
    assert "Qwen/Qwen2.5-Omni-7B" in text
    assert "Qwen/Qwen3-VL-8B-Instruct" in text


def test_disagreeing_orders_and_what_decided_are_plain_to_see():
    text = printed(Judge(ScriptedBackend(say("A"))).compare(pair()), pair())
    assert "INCONSISTENT" in text
    assert "no log-probabilities to decide by" in text

    def odds(request, piece):
        return log_odds(0.9 if prompt_text(request).find("reply one") < prompt_text(request).find("reply two") else 0.6)

    text = printed(Judge(ScriptedBackend(say("A"), logprobs=odds)).compare(pair()))
    assert "the log-probabilities decided" in text
    assert "A is better" in text
    assert "margin +0.90 nats" in text  # (log 9 - log 1.5) / 2


def test_what_was_not_read_has_its_reason():
    broken = ScriptedBackend(lambda r: BackendError("media_error: cat.png: the file is empty"))
    text = printed(Judge(broken).compare(pair()), pair())
    assert "not judged" in text
    assert "media_error: cat.png: the file is empty" in text
    assert "0 of 2 could be read" in text
    three = Sample.from_dict({"id": "3", "prompt": "q", "candidates": ["a", "b", "c"]})
    assert "score()" in printed(Judge(broken).compare([three])[0], three)


def test_scores():
    def answer(request):
        key = re.search(r"# (\S+) prompt", prompt_text(request))[1]
        score = 9 if "reply one" in prompt_text(request) else 12
        return f"x</think>\n<rubrics>1. Truth: is it so</rubrics>\nScore {key} 1: [[{score}]]\nTotal {key}: [[{score}]]"

    sample = pair()
    text = printed(Judge(ScriptedBackend(answer)).score(sample), sample)
    assert "Score of A" in text
    assert "9.00" in text
    assert "Truth" in text
    assert "partly judged" in text
    assert "out_of_range" in text


HOSTILE = [
    "[red]markup[/red]", "[link=http://x]y[/link]", "[/]", "[bold", ":smile:", "\\[x]", "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07", "\x1b]8;;http://evil\x07click\x1b]8;;\x07", "back\x08\x08space", "carriage\rreturn", "bell\x07",
    "\x9b31m", "nul\x00", "\u202eright to left\u202c", "\u2066isolate\u2069", "zero\u200bwidth", "\ufeffmark",
    "soft\u00adhyphen", "\u2028line", "tag\U000e0041", "private\ue000", "filler\u3164", "\x85next", "del\x7f",
]  # fmt: skip
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ue000\u3164\U000e0000-\U000e007f]"
)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_shown_and_never_obeyed(hostile, terminal):
    sample = Sample.from_dict(
        {
            "id": hostile,
            "prompt": [
                {"role": "user", "content": hostile},
                {"role": "assistant", "content": hostile},
                {"role": "user", "content": [{"type": "image", "image": hostile.replace("\x00", "")}, hostile]},
            ],
            "candidates": [{"name": hostile, "content": hostile + "reply one"}, hostile + "reply two"],
            "rubrics": [{"name": hostile, "text": hostile}],
        }
    )  # fmt: skip
    backend = ScriptedBackend(analysing("A", hostile, hostile, name=hostile), name=hostile, revision=hostile)
    judge = Judge(backend)
    for judgment in (judge.compare(sample), judge.score(sample)):
        text = printed(judgment, sample, terminal=terminal)
        assert not OBEYED.search(ESCAPE.sub("", text).replace("\n", ""))
        if hostile.startswith(("[", ":", "\\")):
            assert hostile in text  # untouched


def test_visible():
    assert visible("a\x1b[0m\u202eb\tc\r\nd\re") == "a<U+001B>[0m<U+202E>b    c\nd<U+000D>e"
    assert visible("a\nb", newlines=False) == "a⏎b"
    assert visible("naïve 中文 😀 ünï") == "naïve 中文 😀 ünï"


def test_shortened():
    assert shortened("abc", 3) == "abc"
    assert shortened("abcdef", 3) == "abc … (3 more characters)"


def test_long_texts_are_cut_in_the_report_only():
    long = "word " * 2000
    judgment = Judge(ScriptedBackend(say("A"))).compare(pair(a=long))
    text = printed(judgment, pair(a=long))
    assert "more characters" in text
    assert len(text) < 6000


def test_no_colour_where_nobody_asked_for_one(monkeypatch):
    judgment = Judge(ScriptedBackend(say("A"))).compare(pair())
    assert "\x1b" not in printed(judgment, pair())
    assert "╭" not in printed(judgment, pair())
    coloured = printed(judgment, pair(), terminal=True, color_system="standard")
    assert "\x1b[36m" in coloured
    assert "╭" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", printed(judgment, pair(), terminal=True, color_system="standard"))


def test_a_terminal_that_knows_ascii_only():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    console = Console(file=file, width=80, markup=False)
    print_report(Judge(ScriptedBackend(say("A"))).compare(pair()), pair(), console=console)
    file.seek(0)
    assert "Confidence  0.50 ############------------" in file.read()


def test_narrow_terminals_stack_the_candidates():
    judgment = Judge(ScriptedBackend(say("A"))).compare(pair())
    wide, narrow = (printed(judgment, pair(), terminal=True, width=width) for width in (120, 60))
    assert any("reply one" in line and "reply two" in line for line in wide.splitlines())
    assert not any("reply one" in line and "reply two" in line for line in narrow.splitlines())


def test_media_by_name_kind_and_size(tmp_path):
    from PIL import Image

    clip = tmp_path / "clip one.mp4"
    clip.write_bytes(b"x" * 120_000)
    rows = {
        "[video] clip one.mp4, 120 KB, fps=2": Part("video", str(clip), {"fps": 2}),
        "[video] clip one.mp4, 120 KB": Part("video", clip.as_uri()),
        "[image] gone.png (no such file)": Part("image", str(tmp_path / "gone.png")),
        "[image] cat.jpg at example.org": Part("image", "https://user:secret@example.org/a/cat.jpg?token=1"),
        "[audio] data:audio/wav;base64, 3 bytes": Part("audio", "data:audio/wav;base64,AAAA"),
        "[audio] in memory, 10 bytes": Part("audio", b"x" * 10),
        "[image] Image in memory, 3x2": Part("image", Image.new("RGB", (3, 2))),
        "[video] 2 frames": Part("video", ("a.png", "b.png")),
    }
    assert {describe_medium(part): part for part in rows.values()} == rows


def test_rubrics_that_a_format_does_not_answer_are_still_listed():
    judgment = Judge(ScriptedBackend(say("A")), format="pairwise", rubrics=[Rubric("Warmth")]).compare(pair())
    text = printed(judgment)
    assert "Warmth" in text
    assert "verdict alone" in text
