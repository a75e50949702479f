"""PaTaRM's training: rewards and advantages of a pair end to end, the format reward, primary rubrics, both modes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from letter_task import logged, trainable_of

from omnirm.backends.hf import HFBackend, TokenCompletion
from omnirm.errors import ConfigError, SampleError
from omnirm.sample import Sample
from omnirm.training.groups import make_trainer
from omnirm.training.par import Comparing, PARSettings, Scoring, labelled, rubrics_of, tags_in_order, train_par
from omnirm.training.rollouts import Rollout
from omnirm.training.rows import GRPORow
from omnirm.types import Completion, Request

SETTINGS = PARSettings(
    learning_rate=1e-3, batch_size=4, accumulation=1, generations=2, minibatches=1, max_new_tokens=400, orders="AB",
    schedule="constant", warmup=0.0, save_steps=1000, workers=0, sampling="sequential",
)  # fmt: skip
PAIR = Sample.from_dict({"id": "one", "prompt": "a ball", "candidates": ["zebra", "quokka"], "label": 1})


def key_of(request: Request) -> str:
    """The key in the prompt's section marks."""
    text = "".join(p.value for p in request.messages[1].parts if p.type == "text")
    return text.split()[1]


def scored(key: str, score: str, rubrics: str = "<rubrics>1. Colour: x</rubrics>") -> str:
    return f"so</think>{rubrics}<evaluation>good</evaluation>\nScore {key} 1: [[{score}]]\nTotal {key}: [[{score}]]"


def answering(
    monkeypatch: pytest.MonkeyPatch, tiny: Any, answer: Callable[[Request, int], str]
) -> list[Sequence[Request]]:
    tokenizer, asked = tiny.processor.tokenizer, []

    def generate(_: Any, requests: Sequence[Request]) -> list[TokenCompletion]:
        asked.append(requests)
        texts = [answer(request, place) for place, request in enumerate(requests)]
        ids = [(*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id) for text in texts]
        return [
            TokenCompletion(text, "stop", token_ids=one, chosen=(True,) * len(one))
            for text, one in zip(texts, ids, strict=True)
        ]

    monkeypatch.setattr(HFBackend, "generate", generate)
    return asked


def standardised(rewards: Sequence[float]) -> list[float]:
    """(R - mean) / std with n - 1, by hand."""
    apart = [reward - sum(rewards) / len(rewards) for reward in rewards]
    std = math.sqrt(sum(x * x for x in apart) / (len(rewards) - 1))
    return [x / std if std else 0.0 for x in apart]


def batch_of(tiny: Any, task: Any, settings: PARSettings, output: Path, count: int) -> tuple[Any, dict[str, Any]]:
    trainer = make_trainer(trainable_of(tiny), task, settings, output, max_tokens=5000)
    return trainer, trainer._generate_and_score_completions([{"prompt": "0"} for _ in range(count)])


@pytest.mark.parametrize(
    ("changes", "chosen", "rejected"),
    [
        # chosen 8, 5, 3 (mean 16/3), rejected 4, 6, 2 (mean 4): 4 and 1 over, 1 under; 4/3 under, 2/3 over, 10/3 under
        ({}, [1.4, 1.2, 0], [1.2, 0, 1.4]),
        ({"reward": "constant"}, [1.3, 1.3, 0], [1.3, 0, 1.3]),
        ({"reward": "binary"}, [1, 1, 0], [1, 0, 1]),
    ],
)
def test_a_worked_pair_has_its_advantages_in_the_trainers_batch(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Any, chosen: Any, rejected: Any
) -> None:
    tiny, settings = tiny_of("qwen2_5_omni"), replace(SETTINGS, generations=3, batch_size=6, **changes)
    asked = answering(monkeypatch, tiny, lambda r, n: scored(key_of(r), "853462"[n]))
    trainer, batch = batch_of(tiny, Scoring([PAIR], settings), settings, tmp_path, 6)
    shown = ["zebra" if "zebra" in str(r.messages) else "quokka" for r in asked[0]]
    assert shown == ["quokka"] * 3 + ["zebra"] * 3, "the better response's rollouts come first"
    assert batch["advantages"].tolist() == pytest.approx(standardised(chosen) + standardised(rejected), abs=1e-6)
    metrics = {name: values[0] for name, values in trainer._metrics["train"].items()}
    assert metrics["reward"] == pytest.approx(sum(chosen + rejected) / 6)
    assert metrics["score_chosen"] == pytest.approx(16 / 3)
    assert (metrics["score_rejected"], metrics["correct"], metrics["coverage"]) == (4, 1, 1)
    assert len({r.seed for r in asked[0]}) == 6


def test_the_format_reward_is_added_and_stands_alone_where_there_is_no_score(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen: 9 in order, 9 with its tags the wrong way round, 11, nothing at all. Rejected: 1 four times."""
    tiny, settings = tiny_of("qwen2_5_omni"), replace(SETTINGS, generations=4, batch_size=8)

    def answer(request: Request, n: int) -> str:
        key = key_of(request)
        swapped = "<evaluation>good</evaluation><rubrics>1. x</rubrics>"
        wrong = scored(key, "9").replace("<rubrics>1. Colour: x</rubrics><evaluation>good</evaluation>", swapped)
        return (scored(key, "9"), wrong, scored(key, "11"), "red")[n] if n < 4 else scored(key, "1")

    answering(monkeypatch, tiny, answer)
    trainer, batch = batch_of(tiny, Scoring([PAIR], settings), settings, tmp_path, 8)
    rewards = [1.4, 1.4 - 1.5, -1.0, -1.5]
    assert batch["advantages"].tolist() == pytest.approx(standardised(rewards) + [0] * 4, abs=1e-6)
    assert trainer._metrics["train"]["degenerate"] == [0.5]
    assert trainer._metrics["train"]["coverage"] == [0.75]


@pytest.mark.parametrize(("unread", "expected"), [("none", [0, 0, 0, 0]), ("wrong", [1, -1, 0, 0])])
def test_the_binary_baseline_has_no_format_reward(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unread: str, expected: Any
) -> None:
    tiny, settings = tiny_of("qwen2_5_omni"), replace(SETTINGS, reward="binary", unread=unread)
    answering(monkeypatch, tiny, lambda r, n: "red" if n == 1 else scored(key_of(r), "9223"[n]))
    _, batch = batch_of(tiny, Scoring([PAIR], settings), settings, tmp_path, 4)
    assert batch["advantages"].tolist() == pytest.approx([x * math.sqrt(0.5) for x in expected], abs=1e-6)


def test_groups_keep_their_halves_wherever_a_process_begins(tiny_of: Any, tmp_path: Path) -> None:
    """With two processes the first has the chosen rollouts of a pair, the second the rejected ones."""
    from omnirm.training.rollouts import Rollouts, Sampling

    tiny, seen = tiny_of("qwen2_5_omni"), []
    trainable = trainable_of(tiny)
    trainer = make_trainer(trainable, Scoring([PAIR], SETTINGS), SETTINGS, tmp_path, max_tokens=5000)
    rollouts = Rollouts(trainable, Scoring([PAIR], SETTINGS), Sampling(), 5000)
    for process in (0, 1):
        places = [(0, (process * 2 + i) % 4) for i in range(2)]
        with rollouts._generating(trainer) as backend:
            seen.append([one.variant for one in rollouts._asked(places, 4, backend)[0]])
    assert seen == [[0, 0], [1, 1]]


def test_pairwise_mode_has_rule_and_format_reward(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The label is B. Right in order; wrong in order; right with no block; nothing: 1, 0, 1 - 1.5, -1.5."""
    tiny = tiny_of("qwen2_5_omni")
    block = "<criteria 1>Colour. x.<Judge A>one</Judge A><Judge B>two</Judge B>B</criteria 1>"

    def answer(request: Request, n: int) -> str:
        assert request.forced is not None
        line = request.forced[1]
        return (f"{block}</think>{line}B]]", f"{block}</think>{line}A]]", f"so</think>{line}B]]", "red")[n]

    answering(monkeypatch, tiny, answer)
    for reward, rewards in (("graded", [1, 0, -0.5, -1.5]), ("binary", [1, 0, 1, 0])):
        settings = replace(SETTINGS, mode="pairwise", generations=4, reward=reward, unread="wrong")
        _, batch = batch_of(tiny, Comparing([PAIR], settings), settings, tmp_path, 4)
        assert batch["advantages"].tolist() == pytest.approx(standardised(rewards), abs=1e-6)


def test_tags_of_both_formats() -> None:
    pointwise = Scoring([PAIR], SETTINGS).render(0, 0)
    chat = replace(PAIR, metadata={"task": "chat"})
    given, more = (Scoring([chat], replace(SETTINGS, generated=generated)).render(0, 0) for generated in (False, True))
    pairwise = Comparing([PAIR], SETTINGS).render(0, 0)
    good = "so</think><rubrics>r</rubrics><evaluation>e</evaluation>"
    one = "<criteria 1>x<Judge A>y</Judge A><Judge B>z</Judge B>A</criteria 1>"
    for rendered, text, expected in (
        (pointwise, good, True), (pointwise, good.replace("</rubrics>", ""), False),
        (pointwise, good + "</think>", False),
        (pointwise, "so</think><evaluation>e</evaluation><rubrics>r</rubrics>", False),
        (pointwise, "so</think><evaluation>e</evaluation>", False),
        (given, "so</think><evaluation>e</evaluation>", True),
        (given, good, False), (more, good, True), (more, "so</think><evaluation>e</evaluation>", False),
        (pointwise, "<evaluation>e</evaluation>", False),
        (pairwise, f"{one}</think>", True), (pairwise, f"{one}{one.replace('criteria 1', 'criteria 2')}</think>", True),
        (pairwise, "</think>", False), (pairwise, f"</think>{one}", False),
        (pairwise, f"{one.replace('</criteria 1>', '</criteria 2>')}</think>", False),
        (pairwise, f"{one.replace('Judge A', 'Judge B')}</think>", False),
    ):  # fmt: skip
        rollout = Rollout(0, 0, 0, rendered, Any, Completion(text, "stop"))  # type: ignore[arg-type]
        assert tags_in_order(rollout) == expected, text


def test_the_primary_rubric_comes_first_where_the_sample_names_a_task() -> None:
    named = replace(PAIR, metadata={"task": "math"})
    (rubric,) = rubrics_of(named, True)
    assert (rubric.source, rubric.weight) == ("primary", 2.0)
    assert rubrics_of(named, False) == rubrics_of(PAIR, True) == ()
    assert rubrics_of(replace(PAIR, metadata={"task": "no such"}), True) == ()
    for generated in (True, False):
        settings = replace(SETTINGS, generated=generated)
        for task in (Scoring([named], settings), Comparing([named], settings)):
            rendered = task.render(0, 0)
            assert rubric.text[:30] in str(rendered.messages)
            assert rendered.own == generated, "and one to three of the judge's own beside it"
            assert ("more of your own" in rendered.messages[0].parts[0].value) == generated
    assert not Scoring([PAIR], SETTINGS).render(0, 0).own, "without a primary one all are its own anyway"


def test_a_run_trains(tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny_of("qwen2_5_omni")
    answering(monkeypatch, tiny, lambda r, n: scored(key_of(r), "8351"[n % 4]))
    trainable = trainable_of(tiny, rank=4)
    before = [weight.clone() for weight in trainable.model.parameters()]
    rows = [replace(PAIR, id=f"s{i}") for i in range(2)]
    trainer = train_par(trainable, rows, SETTINGS, tmp_path, max_tokens=5000)
    assert trainer.state.global_step == 2
    assert min(logged(trainer, "grad_norm")) > 0
    assert any(not (a == b).all() for a, b in zip(before, trainable.model.parameters(), strict=True))


def test_wrong_rows_and_settings_are_errors() -> None:
    for row, message in (
        (replace(PAIR, label=None), "sample one: label None"), (replace(PAIR, label="tie"), "label 'tie'"),
        (GRPORow("one", PAIR.to_json(), "[]", "[]", "tie"), "label None"),
    ):  # fmt: skip
        with pytest.raises(SampleError, match=message):
            labelled(row)
    assert labelled(GRPORow("one", PAIR.to_json(), "[]", "[]", "A")).label == 0
    for changes, message in (
        ({"mode": "x"}, "mode 'x'"),
        ({"reward": "x"}, "reward 'x'"),
        ({"orders": "x"}, "orders 'x'"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(SETTINGS, **changes)
