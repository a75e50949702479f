"""GRPO of judges: rewards and advantages end to end, TRL's own trainer beside ours, media, adapters, resuming."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from letter_task import SETTINGS as LETTERS
from letter_task import Letters, logged, trainable_of

from omnirm.backends.hf import HFBackend, TokenCompletion
from omnirm.errors import ConfigError, SampleError
from omnirm.rubrics.meta import Meta
from omnirm.sample import Sample
from omnirm.training.groups import make_trainer, train_groups
from omnirm.training.grpo import GRPOSettings, Selecting, read_row, train_grpo
from omnirm.training.rows import GRPORow
from omnirm.types import Request

SETTINGS = GRPOSettings(
    learning_rate=1e-3, batch_size=4, accumulation=1, generations=4, minibatches=1, max_new_tokens=400, orders="AB",
    schedule="constant", warmup=0.0, save_steps=1000, workers=0, sampling="sequential",
)  # fmt: skip
RUBRICS = [{"name": "Colour", "text": "as wanted"}, {"name": "Size", "text": "as wanted"}]
#: s1, s2, t1, t2 under each rubric. Consistency of a verdict A and B: 2 and -2 under Colour, -3 and 1 under Size.
SCORES = [[1.0, 0.0, 4.0, 2.0], [1.0, 0.0, 2.0, 5.0]]


def row(label: str = "A", scores: Any = SCORES, rubrics: Any = RUBRICS, sample: Sample | None = None) -> GRPORow:
    pair = sample or Sample.from_dict({"id": "one", "prompt": "a red ball", "candidates": ["red", "blue"]})
    return GRPORow(pair.id, pair.to_json(), json.dumps(rubrics), json.dumps(scores), label)


def judged(request: Request, number: int, letter: str, name: str = "") -> str:
    """An answer in the format, with the request's key."""
    assert request.forced is not None
    block = (
        f"<criteria {number}>{name or ('Colour', 'Size')[number - 1]}. x.<Judge A>one</Judge A><Judge B>two</Judge B>"
    )
    return f"{block}{letter}</criteria {number}></think>{request.forced[1]}{letter}]]"


def answering(monkeypatch: pytest.MonkeyPatch, tiny: Any, answer: Callable[[Request, int], str]) -> list[Request]:
    """Has the backend give fixed answers, by request and place in the call. Gives back what was asked."""
    tokenizer, asked = tiny.processor.tokenizer, []

    def generate(_: Any, requests: Sequence[Request]) -> list[TokenCompletion]:
        found = []
        for place, request in enumerate(requests):
            text = answer(request, place)
            ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
            chosen = (*(place % 3 > 0 for place in range(len(ids))), True)
            found.append(TokenCompletion(text, "stop", token_ids=(*ids, tokenizer.eos_token_id), chosen=chosen))
        asked.extend(requests)
        return found

    monkeypatch.setattr(HFBackend, "generate", generate)
    return asked


def batch_of(trainer: Any, count: int, row: int = 0) -> dict[str, Any]:
    """What TRL makes of a group's rollouts."""
    return trainer._generate_and_score_completions([{"prompt": str(row)} for _ in range(count)])


# Rewards and advantages


FOUR = [(1, "A"), (2, "A"), (1, "B"), (2, "B")]


@pytest.mark.parametrize(
    ("changes", "label", "rewards", "orders"),
    [
        # s = 2, -3, -2, 1, so m = 1, 0, 1/5, 4/5; beta = 2/4; R = beta (m + 1) for the right ones, beta m else
        ({}, "A", [0.5 * 2, 0.5 * 1, 0.5 * 0.2, 0.5 * 0.8], "AB"),
        ({}, "A", [0.5 * 2, 0.5 * 1, 0.5 * 0.2, 0.5 * 0.8], "both"),
        ({}, "B", [0.5 * 1, 0.5 * 0, 0.5 * 1.2, 0.5 * 1.8], "both"),
        ({"beta": 3.0}, "A", [6.0, 3.0, 0.6, 2.4], "AB"),
        ({"reward": "rule"}, "A", [1.0, 1.0, 0.0, 0.0], "AB"),
        # relative: the worse one's t - s: A 2 and 5, B 3 and 1, so s = 2, 5, 3, 1 and m = 1/4, 1, 1/2, 0
        ({"meta_reward": "relative"}, "A", [0.5 * 1.25, 0.5 * 2, 0.25, 0.0], "both"),
        # direct: 6, 7, 6, 7
        ({"meta_reward": "direct"}, "A", [0.5, 1.0, 0.0, 0.5], "AB"),
    ],
)  # fmt: skip
def test_a_worked_group_has_its_advantages_in_the_trainers_batch(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Any, label: str, rewards: Any, orders: str
) -> None:
    tiny, turned = tiny_of("qwen2_5_omni"), orders == "both"
    settings = replace(SETTINGS, **changes, orders=orders)
    answering(
        monkeypatch,
        tiny,
        lambda r, n: judged(r, FOUR[n][0], {"A": "B", "B": "A"}[FOUR[n][1]] if turned else FOUR[n][1]),
    )
    trainer = make_trainer(trainable_of(tiny), Selecting([row(label)], settings), settings, tmp_path, max_tokens=5000)
    batch = batch_of(trainer, 4, row=1 if turned else 0)  # row 1 shows the pair the other way round
    deviation = [reward - sum(rewards) / 4 for reward in rewards]
    std = math.sqrt(sum(x * x for x in deviation) / 3)
    assert batch["advantages"].tolist() == pytest.approx([x / std for x in deviation], abs=1e-6)
    metrics = {name: values[0] for name, values in trainer._metrics["train"].items()}
    assert metrics["reward"] == pytest.approx(sum(rewards) / 4)
    assert (metrics["correct"], metrics["coverage"], metrics["degenerate"]) == (0.5, 1.0, 0.0)
    assert metrics["selected_place"] == 1.5


def test_the_rank_of_the_chosen_rubric_is_by_its_meta_reward_with_the_right_verdict(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With A right Colour is best (2 against -3), with B right Size (1 against -2)."""
    assert read_row(row("A"), "consistency").ranks.tolist() == [0, 1]
    assert read_row(row("B"), "consistency").ranks.tolist() == [1, 0]
    assert np.isnan(read_row(row("A", [None, [1, 0, 2, 5]]), "consistency").ranks[0])
    tiny = tiny_of("qwen2_5_omni")
    answering(monkeypatch, tiny, lambda r, n: judged(r, 1, "A" if n else "B"))
    trainer = make_trainer(trainable_of(tiny), Selecting([row("B")], SETTINGS), SETTINGS, tmp_path, max_tokens=5000)
    batch_of(trainer, 4)
    assert trainer._metrics["train"]["selected_rank"] == [2.0]


@pytest.mark.parametrize(
    ("unread", "expected"),
    [("none", [1.0, -1.0, 0.0, 0.0]), ("wrong", [2, 0.5, -1.25, -1.25])],
)
def test_what_cannot_be_read_or_has_no_scores_has_no_advantage(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unread: str, expected: Any
) -> None:
    """Two blocks, and no block of the list: none of them is read. The others: beta = 1, m = 1 and 0, R = 2 and 1.

    As wrong ones: beta = 1/2, R = 1, 0.5, 0, 0, mean 0.375.
    """
    tiny, settings = tiny_of("qwen2_5_omni"), replace(SETTINGS, unread=unread)

    def answer(request: Request, n: int) -> str:
        if n < 2:
            return judged(request, n + 1, "A")
        twice = judged(request, 1, "A").replace("</think>", "<criteria 2>Size. x.A</criteria 2></think>")
        return twice if n == 2 else judged(request, 7, "A", "Smell")

    answering(monkeypatch, tiny, answer)
    trainer = make_trainer(trainable_of(tiny), Selecting([row()], settings), settings, tmp_path, max_tokens=5000)
    found = batch_of(trainer, 4)["advantages"].tolist()
    if unread == "none":
        assert found == pytest.approx([math.sqrt(0.5), -math.sqrt(0.5), 0, 0])
    else:
        rest = [0.625, 0.125, -0.375, -0.375]
        assert found == pytest.approx([x / math.sqrt(sum(y * y for y in rest) / 3) for x in rest])
    assert trainer._metrics["train"]["coverage"] == [0.5]


def test_meta_rewards_on_line_come_from_the_rollouts_own_comments(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omnirm.rubrics.refine import Revision
    from omnirm.types import Part

    class Refiner:
        name, modalities = "appends the comments", frozenset({"text"})

        def refine(self, tasks: Any) -> Any:
            return [Revision((Part("text", f"{t.response[0].value} {t.comments}"),), True) for t in tasks]

    class Scorer:
        name, revision, modalities = "length", "", frozenset({"text"})

        def score(self, items: Any) -> Any:
            return [float(len(one.response[0].value)) for one in items]

    tiny = tiny_of("qwen2_5_omni")
    answering(
        monkeypatch, tiny, lambda r, n: judged(r, 1, "A").replace("two", "t" * (n + 1)) if n < 3 else judged(r, 1, "B")
    )
    task = Selecting([row(scores=None)], SETTINGS, Meta(Scorer(), Refiner()))
    trainer = make_trainer(trainable_of(tiny), task, SETTINGS, tmp_path, max_tokens=5000)
    batch_of(trainer, 4)
    read = task.read(trainer.rollout_func.latest)
    # "red" 3, "blue" 4; refined: "red Colour: one" 15, "blue Colour: " 13 + length of the comment on B
    # A: t1 > t2 gives t2 - s2; t1 = t2 gives 0; t1 < t2 gives t1 - t2. B with "two": t1 < t2 (16) gives t1 - s1
    assert read[:, 1].tolist() == [14 - 4, 0, 15 - 16, 15 - 3]
    assert read[:, 0].tolist() == [1, 1, 1, 0]


# TRL's own trainer


def test_a_step_is_that_of_trls_own_trainer_on_the_same_rollouts(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text, rule reward, two minibatches a sampling: losses and gradients are those of a plain GRPOTrainer, which
    adds 1e-4 to the standard deviation."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from omnirm.training.rollouts import Rollouts

    tiny = tiny_of("qwen3_vl")
    settings = replace(SETTINGS, reward="rule", minibatches=2, save_steps=1000)
    rows = [row(sample=Sample.from_dict({"id": f"s{i}", "prompt": f"{i} balls", "candidates": ["red", "blue"]}))
            for i in range(4)]  # fmt: skip
    answering(monkeypatch, tiny, lambda r, n: judged(r, 1 + n % 2, "A" if n % 4 in (0, 3) else "B"))
    ours = train_grpo(trainable_of(tiny), rows, settings, tmp_path / "ours", max_tokens=5000)
    trainable = trainable_of(tiny)
    task = Selecting(rows, settings)

    def right(completions: list[str], **_: Any) -> list[float]:
        return [float("[[A]]" in text) for text in completions]

    stock = GRPOTrainer(
        model=trainable.model,
        reward_funcs=[right],
        args=GRPOConfig(
            output_dir=str(tmp_path / "stock"), learning_rate=1e-3, per_device_train_batch_size=4, num_train_epochs=1.0,
            steps_per_generation=2, num_generations=4, max_completion_length=400, lr_scheduler_type="constant",
            weight_decay=0.0, logging_steps=1, save_strategy="no", shuffle_dataset=False, top_p=0.9, seed=0,
            gradient_checkpointing=False, report_to="none", bf16=False, beta=0.0, disable_tqdm=True, loss_type="dapo",
        ),
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(4)]}),
        processing_class=tiny.processor.tokenizer,
        rollout_func=Rollouts(trainable, task, settings.rollouts, 5000),
    )  # fmt: skip
    stock.train()
    assert len(logged(ours, "loss")) == len(logged(stock, "loss")) == 4
    assert logged(ours, "loss") == pytest.approx(logged(stock, "loss"), rel=2e-3, abs=1e-5)
    assert logged(ours, "grad_norm") == pytest.approx(logged(stock, "grad_norm"), rel=2e-3)
    assert max(logged(ours, "grad_norm")) > 0.5
    assert logged(ours, "reward") == logged(stock, "reward") == [0.5] * 2
    assert logged(ours, "entropy") == pytest.approx(logged(stock, "entropy"), rel=1e-4)


# What gets a gradient


def test_forced_tokens_and_rollouts_without_a_reward_carry_no_gradient(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of the trainer's loss is that of -sum(A_i log p_it) / N over chosen tokens, by hand."""
    settings = replace(LETTERS, loss_type="dapo", batch_size=4)
    answering(monkeypatch, tiny, lambda r, n: ("A red", "B blue round", "A", "B small red red")[n])
    task = Letters(1, unread=(1,))
    trainable = trainable_of(tiny)
    trainer = make_trainer(trainable, task, settings, tmp_path, max_tokens=200)
    trainer.aux_loss_enabled = False
    trainer.current_gradient_accumulation_steps = 1
    batch = batch_of(trainer, 4)
    advantage = [1 / math.sqrt(3), 0.0, 1 / math.sqrt(3), -2 / math.sqrt(3)]  # of 1, -, 1, 0
    assert batch["advantages"].tolist() == pytest.approx(advantage)
    model = trainer.model
    trainer._compute_loss(model, batch).backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    rollouts, total, count = trainer.rollout_func.latest, torch.zeros(()), 0
    for weight, one in zip(advantage, rollouts, strict=True):
        start = tiny.encoder([one.conversation])["input_ids"]
        ids = torch.cat([start, torch.tensor([one.completion.token_ids])], 1)
        logps = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.log_softmax(-1)[0]
        for place, (token, chosen) in enumerate(zip(one.completion.token_ids, one.completion.chosen, strict=True)):
            total = total - weight * logps[start.shape[1] + place - 1, token] * chosen
            count += chosen
    assert 0 < count < sum(len(one.completion.token_ids) for one in rollouts)
    (total / count).backward()
    checked = 0
    for name, weight in model.named_parameters():
        if weight.grad is not None and weight.grad.abs().max() > 1e-6:
            assert torch.allclose(found[name], weight.grad, rtol=2e-3, atol=1e-5), name
            checked += 1
    assert checked > 10


# Media


def media_rows(files: Any, hears: bool) -> list[GRPORow]:
    """Pairs with images, a video without its sound, audio where the model hears, and text."""

    def content(kind: str, path: Any) -> Any:
        return [{"type": kind, kind: str(path)}]

    found = [
        {"prompt": "a red ball", "candidates": [content("image", files.images[0]), content("image", files.images[1])]},
        {"prompt": content("video", files.videos[0]), "candidates": ["red", "blue"]},
        {"prompt": "a red ball", "candidates": ["red", "blue red"]},
    ]
    if hears:
        found.append({"prompt": content("audio", files.audios[0]), "candidates": ["high", "low"]})
        loud = [{"type": "video", "video": str(files.videos[1]), "use_audio_in_video": True}]
        found.append({"prompt": loud, "candidates": ["high", "low"]})
    return [row(sample=Sample.from_dict({"id": f"m{i}", **one})) for i, one in enumerate(found)]


def test_log_probabilities_of_media_rollouts_are_those_of_the_model_alone(
    tiny: Any, tmp_path: Path, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rollout by itself, in the batch of all, and in the shuffled minibatches."""
    rows = media_rows(files, tiny.hears)
    settings = replace(SETTINGS, generations=2, minibatches=len(rows), batch_size=2, save_steps=len(rows) * 100)
    answering(monkeypatch, tiny, lambda r, n: judged(r, 1 + n % 2, "AB"[n % 2]))
    trainer = make_trainer(trainable_of(tiny), Selecting(rows, settings), settings, tmp_path, max_tokens=5000)
    trainer.model.train()
    prompts = [{"prompt": str(i // 2)} for i in range(2 * len(rows))]
    whole = trainer._generate_and_score_completions(prompts)
    rollouts, alone = trainer.rollout_func.latest, []
    for one in rollouts:
        inputs = tiny.encoder([one.conversation])
        start, answer = inputs["input_ids"].shape[1], torch.tensor([one.completion.token_ids])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in inputs:
            kinds = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = torch.nn.functional.pad(kinds, (0, answer.shape[1]))
        with torch.no_grad():
            logits = trainer.model(**inputs, use_cache=False).logits[0, start - 1 : -1]
        alone.append(logits.log_softmax(-1).gather(1, answer.T)[:, 0])
    assert {type(m).__name__ for one in rollouts for m in one.conversation.media} >= {"Image", "Video"}
    for found, expected in zip(whole["old_per_token_logps"], alone, strict=True):
        assert torch.allclose(found[: len(expected)], expected, atol=1e-4)
    trainer._step = 0
    seen = set()
    for _ in range(len(rows)):
        part = trainer._prepare_inputs(prompts)
        numbers = part["rollout"].tolist()
        trainer.rows = [rollouts[i] for i in numbers]
        ids = torch.cat([part["prompt_ids"], part["completion_ids"]], 1)
        mask = torch.cat([part["prompt_mask"], part["completion_mask"]], 1)
        with torch.no_grad():
            logps, _, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model, ids, mask, part["completion_ids"].shape[1]
            )
        for found, number in zip(logps, numbers, strict=True):
            assert torch.allclose(found[: len(alone[number])], alone[number], atol=1e-4)
        seen.update(numbers)
        trainer._step += 1
    assert seen == set(range(2 * len(rows)))


@pytest.mark.slow
def test_a_run_over_media_trains_every_part_of_the_model(
    tiny: Any, tmp_path: Path, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = media_rows(files, tiny.hears)
    settings = replace(SETTINGS, generations=2, batch_size=2, accumulation=len(rows), max_steps=1)
    answering(monkeypatch, tiny, lambda r, n: judged(r, 1 + n % 2, "AB"[n % 2]))
    trainable = trainable_of(tiny)
    before = {name: weight.clone() for name, weight in trainable.model.named_parameters()}
    trainer = train_grpo(trainable, rows, settings, tmp_path, max_tokens=5000)
    assert trainer.state.global_step == 1
    moved = [name for name, weight in trainable.model.named_parameters() if not torch.equal(weight, before[name])]
    for part in ("visual", "audio_tower", "layers"):
        if any(part in name for name in before):
            assert any(part in name for name in moved), part


# Runs


def test_a_reward_for_a_letter_makes_it_said_more_often(tiny_of: Any, tmp_path: Path) -> None:
    settings = replace(LETTERS, epochs=8.0, max_new_tokens=2)
    trainer = train_groups(trainable_of(tiny_of("qwen2_5_omni")), Letters(8), settings, tmp_path, max_tokens=200)
    rewards = logged(trainer, "reward")
    assert len(rewards) == 32
    assert sum(rewards[:4]) / 4 < 0.8
    assert sum(rewards[-8:]) / 8 > 0.9


@pytest.mark.parametrize("kl", [0.0, pytest.param(0.1, marks=pytest.mark.slow)])
def test_adapters_are_trained_alone(tiny_of: Any, tmp_path: Path, kl: float) -> None:
    trainable = trainable_of(tiny_of("qwen2_5_omni"), rank=4)
    before = {name: weight.clone() for name, weight in trainable.model.named_parameters()}
    settings = replace(LETTERS, epochs=2.0, kl=kl, minibatches=2)
    trainer = train_groups(trainable, Letters(8), settings, tmp_path, max_tokens=200)
    moved = {
        n for n, weight in trainable.model.named_parameters() if n in before and not torch.equal(weight, before[n])
    }
    assert moved
    assert all("lora_" in name for name in moved)
    assert any("lora_B" in name for name in moved)
    assert ("kl" in trainer.state.log_history[-2]) == (kl > 0)


class StopAt:
    """Stops training after a step."""

    def __new__(cls, step: int) -> Any:
        from transformers import TrainerCallback

        class Stop(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                control.should_training_stop = state.global_step >= step

        return Stop()


@pytest.mark.parametrize(
    ("stop", "rank"), [pytest.param(3, 0, marks=pytest.mark.slow), (7, 0), pytest.param(7, 4, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    tiny_of: Any, tmp_path: Path, stop: int, rank: int
) -> None:
    """Two samplings an epoch, two minibatches each, two epochs in another order each."""
    tiny, results = tiny_of("qwen2_5_omni"), []
    settings = replace(LETTERS, epochs=2.0, minibatches=2, save_steps=2, batch_size=8, sampling="random", top_p=0.9)
    for name, stops in (("straight", ()), ("broken", (stop,)), ("broken", ())):
        task = Letters(8)
        resumed = name == "broken" and not stops
        torch.manual_seed(5 if resumed else 0)  # whatever it starts from, the checkpoint counts
        trainable = trainable_of(tiny, rank, seed=1 if resumed and not rank else 0)
        callbacks = [StopAt(step) for step in stops]
        trainer = train_groups(trainable, task, settings, tmp_path / name, max_tokens=200, callbacks=callbacks)
        results.append((trainer, task.seen))
        if name == "broken" and stops:
            assert trainer.state.global_step == stop
    (straight, said), _, (again, later) = results
    assert straight.state.global_step == again.state.global_step == 8
    assert later == said[-len(later) :], "the rollouts after the checkpoint"
    assert 0 < len(later) < len(said)
    for name in ("loss", "reward", "grad_norm", "entropy"):
        assert logged(again, name) == pytest.approx(logged(straight, name), rel=1e-3, abs=1e-6), name


@pytest.mark.slow
def test_gradient_checkpointing_and_accumulation_change_no_gradient(tiny_of: Any, tmp_path: Path) -> None:
    tiny, norms = tiny_of("qwen2_5_omni"), []
    for changes in ({}, {"gradient_checkpointing": True}, {"batch_size": 4, "accumulation": 2}):
        settings = replace(LETTERS, max_steps=1, **changes)
        trainer = train_groups(trainable_of(tiny), Letters(8), settings, tmp_path / str(changes), max_tokens=200)
        norms += logged(trainer, "grad_norm")
    assert norms[1:] == pytest.approx(norms[:1] * 2, rel=1e-4)
    assert norms[0] > 0.1


# Checks


class Same(Letters):
    def read(self, rollouts: Any) -> Any:
        return np.ones((len(rollouts), 1))


def test_training_on_nothing_is_warned_about_once_and_ends_where_asked(
    tiny_of: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = tiny_of("qwen2_5_omni")
    settings = replace(LETTERS, max_steps=3)
    train_groups(trainable_of(tiny), Same(8), settings, tmp_path / "a", max_tokens=200)
    said = [one for one in caplog.records if "equal rewards" in one.getMessage()]
    assert len(said) == 1
    with pytest.raises(ConfigError, match=r"the first 4 groups have equal rewards or none.*correct 1\)"):
        train_groups(trainable_of(tiny), Same(8), replace(settings, patience=3), tmp_path / "b", max_tokens=200)
    train_groups(trainable_of(tiny), Letters(8), replace(settings, patience=3), tmp_path / "c", max_tokens=200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generations": 1}, "generations = 1"), ({"clip": 0.0}, "clip = 0"), ({"loss_type": "ppo"}, "loss_type 'ppo'"),
        ({"unread": "b"}, "unread 'b'"), ({"sampling": "group_by_length"}, "lengths of rollouts"),
        ({"save_steps": 5, "minibatches": 2}, "multiple of minibatches x iterations = 2"),
        ({"reward": "rank"}, "reward 'rank'"), ({"meta_reward": "x"}, "meta_reward 'x'"), ({"beta": -1.0}, "beta = -1"),
        ({"orders": "BA"}, "orders 'BA'"), ({"temperature": 0.0}, "temperature 0.0"),
        ({"batch_size": 0}, "batch_size = 0"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_errors(changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **changes)


def test_what_cannot_be_trained_is_an_error_before_anything_is(tiny_of: Any, tmp_path: Path) -> None:
    trainable = trainable_of(tiny_of("qwen2_5_omni"))
    with pytest.raises(ConfigError, match=r"kl = 0\.1: the reference"):
        make_trainer(trainable, Letters(8), replace(LETTERS, kl=0.1), tmp_path, max_tokens=200)
    with pytest.raises(ConfigError, match="1 prompts, and one sampling takes 2"):
        make_trainer(trainable, Letters(1), LETTERS, tmp_path, max_tokens=200)
    with pytest.raises(ConfigError, match="no row holds scores"):
        Selecting([row(scores=[None, None])], SETTINGS)
    assert Selecting([row(scores=[None, None])], replace(SETTINGS, reward="rule"))
    for wrong, message in (
        (row("tie"), "label 'tie'"), (row(scores=[[1, 2, 3, 4]]), "2 rubrics and 1 rows of scores"),
        (row(scores=[[1, 2], [3, 4]]), "2 scores of a rubric"),
        (replace(row(), rubrics="[{]"), "not of the documented"),
    ):  # fmt: skip
        with pytest.raises(SampleError, match=message):
            Selecting([wrong], SETTINGS)


def test_orders_make_prompts(tiny_of: Any) -> None:
    rows = [
        row(sample=Sample.from_dict({"id": f"s{i}", "prompt": "x", "candidates": ["zebra", "quokka"]}))
        for i in range(40)
    ]
    tasks = {name: Selecting(rows, replace(SETTINGS, orders=name)) for name in ("AB", "both", "random")}
    assert [len(task) for task in tasks.values()] == [40, 80, 40]
    turned = {order for _, order in tasks["random"].asked}
    assert turned == {"AB", "BA"}
    assert Selecting(rows, replace(SETTINGS, orders="random")).asked == tasks["random"].asked
    assert Selecting(rows, replace(SETTINGS, orders="random", seed=1)).asked != tasks["random"].asked
    shown = [
        "".join(p.value for m in tasks["both"].render(i, 0).messages for p in m.parts if p.type == "text")
        for i in (0, 1)
    ]
    assert [text.index("zebra") < text.index("quokka") for text in shown] == [True, False]
    assert all("Choose the one" in text for text in shown)
