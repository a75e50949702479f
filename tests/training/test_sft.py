"""Supervised fine-tuning really trains, with the loss that it says, for every family, and goes on where it stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import Files

from omnirm.backends.hf_inputs import IGNORE, Conversation
from omnirm.errors import ConfigError, SampleError
from omnirm.nano.instructions import instruction
from omnirm.training.models import Trainable
from omnirm.training.rows import SFTRow, Shown, read_rows, write_rows
from omnirm.training.sft import SFTSettings, conversations, token_weights, train_sft, train_sft_rows
from omnirm.types import Message, Part

SETTINGS = SFTSettings(
    learning_rate=1e-3, batch_size=2, accumulation=1, warmup=0.0, schedule="constant", sampling="sequential",
    log_steps=1, save_steps=1000, workers=0,
)  # fmt: skip


def conversation(seed: int, media: float = 0.0) -> Conversation:
    row = instruction(seed, media=media)
    return Conversation(row.messages, (), row.prefill, row.completion, learn_history=True)


def in_words(seed: int) -> Conversation:
    return conversation(seed)


def shown(seed: int) -> Conversation:
    return conversation(seed, 1.0)


def seeds_of(kinds: Sequence[str], each: int) -> list[int]:
    """Seeds of instructions with media of one kind only, one kind after the other, over and over."""
    found: dict[str, list[int]] = {kind: [] for kind in kinds}
    seed = 0
    while any(len(seeds) < each for seeds in found.values()):
        types = {p.type for m in instruction(seed, media=1.0).messages for p in m.parts} - {"text"}
        if len(types) == 1 and (kind := next(iter(types))) in found and len(found[kind]) < each:
            found[kind].append(seed)
        seed += 1
    return [seeds[i] for i in range(each) for seeds in found.values()]


def train(
    tiny: Any, model: Any, rows: Sequence[int], output: Path, build: Any = in_words, callbacks: Any = (), **changes: Any
) -> Any:
    settings = replace(SETTINGS, **changes)
    collator = tiny.collator(build)
    return train_sft(model, tiny.processor.tokenizer, rows, None, collator, settings, output, callbacks=callbacks)


def losses(trainer: Any) -> list[float]:
    """The loss of every step, from the trainer's log."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def taught_tokens(model: Any, batch: dict[str, Any]) -> list[list[float]]:
    """The cross-entropy of every taught token of every row, by hand."""
    with torch.no_grad():
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}, use_cache=False).logits.double()
    return [
        [
            -float(row[position - 1].log_softmax(-1)[labels[position]])
            for position in range(1, len(labels))
            if labels[position] != IGNORE
        ]
        for row, labels in zip(logits, batch["labels"], strict=True)
    ]


def cross_entropy(model: Any, batches: Sequence[dict[str, Any]]) -> float:
    """Mean over all taught tokens of the batches."""
    found = [loss for batch in batches for row in taught_tokens(model, batch) for loss in row]
    return sum(found) / len(found)


def balance(model: Any, batches: Sequence[dict[str, Any]]) -> float:
    """What experts pay for being used unevenly, 0.001 of it, mean over batches; 0 for a model without experts."""
    if "MoeThinker" not in type(model).__name__:
        return 0.0
    with torch.no_grad():
        found = [model(**batch, use_cache=False, output_router_logits=True).aux_loss for batch in batches]
    return 0.001 * float(sum(found)) / len(found)


def test_two_steps_change_every_part_of_a_model_on_all_its_modalities(tiny: Any, tmp_path: Path) -> None:
    kinds = ("image", "video", "audio") if tiny.hears else ("image", "video")
    rows = seeds_of(kinds, 2)
    model = tiny.model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trainer = train(tiny, model, rows, tmp_path, shown, batch_size=len(kinds))
    assert trainer.state.global_step == 2
    assert len(losses(trainer)) == 2
    assert all(math.isfinite(loss) and loss > 0 for loss in losses(trainer))
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    for part in ("visual", "audio_tower", "layers", "embed_tokens"):
        if any(part in name for name in before):
            assert any(part in name for name in moved), f"nothing learned in {part}"
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


@pytest.mark.parametrize("media", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loss_is_the_mean_over_all_taught_tokens_of_a_step(
    tiny: Any, tmp_path: Path, accumulation: int, media: bool
) -> None:
    build = shown if media else in_words
    rows = seeds_of(("image",), 4) if media else [3, 4, 8, 9]
    model = tiny.model()
    collator = tiny.collator(build)
    batches = [collator(rows[:2]), collator(rows[2:])]
    taught = [int((batch["labels"] != IGNORE).sum()) for batch in batches]
    assert taught[0] != taught[1], "a mean of means would differ"
    trainer = train(tiny, model, rows, tmp_path, build, learning_rate=0.0, accumulation=accumulation)
    steps = [batches] if accumulation == 2 else [[batch] for batch in batches]
    expected = [cross_entropy(model, step) + balance(model, step) for step in steps]
    assert losses(trainer) == pytest.approx(expected, rel=1e-5)


def test_the_models_own_loss_and_the_fused_head_of_the_trainer_agree(tiny_of: Any, tmp_path: Path) -> None:
    """The families differ in which of the two they train with."""
    tiny = tiny_of("qwen3_vl")
    model = tiny.model()
    batch = tiny.collator(in_words)([3, 4])
    trainer = train(tiny, model, [3, 4], tmp_path, learning_rate=0.0)
    with torch.no_grad():
        fused = model(**batch, fused_lm_head=True, use_cache=False)
        own = model(**batch, use_cache=False).loss
    assert float(-fused.log_probs.sum() / fused.label_mask.sum()) == pytest.approx(float(own), rel=1e-5)
    assert losses(trainer)[0] == pytest.approx(float(own), rel=1e-5)


def test_gradients_of_accumulated_batches_are_those_of_one_large_batch(tiny_of: Any, tmp_path: Path) -> None:
    tiny, weights = tiny_of("qwen2_5_omni"), []
    for name, batch_size, accumulation in (("large", 4, 1), ("parts", 1, 4)):
        model = tiny.model()
        train(tiny, model, [3, 4, 8, 9], tmp_path / name, batch_size=batch_size, accumulation=accumulation)
        weights.append(torch.cat([w.detach().flatten() for w in model.parameters()]))
    start = torch.cat([w.detach().flatten() for w in tiny.model().parameters()])
    assert (weights[0] - start).norm() > 0.01
    assert (weights[0] - weights[1]).norm() < 0.05 * (weights[0] - start).norm()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_batch_is_memorised(tiny_of: Any, tmp_path: Path, optimizer: str) -> None:
    tiny = tiny_of("qwen2_5_omni")
    rows = seeds_of(("image", "audio"), 1) * 20
    found = losses(train(tiny, tiny.model(), rows, tmp_path, shown, optimizer=optimizer, learning_rate=3e-3))
    assert len(found) == 20
    assert found[-1] < found[0] / 2
    assert max(found[10:]) < min(found[:5])


class StopAt:
    """Stops training after a step, as a user who presses Ctrl-C or a job that ends."""

    def __new__(cls, step: int) -> Any:
        from transformers import TrainerCallback

        class Stop(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                control.should_training_stop = state.global_step >= step

        return Stop()


@pytest.mark.parametrize(("optimizer", "sampling"), [("adamw", "random"), ("muon", "sequential")])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    tiny_of: Any, tmp_path: Path, optimizer: str, sampling: str
) -> None:
    tiny, rows = tiny_of("qwen2_5_omni"), list(range(16))
    how: dict[str, Any] = {"optimizer": optimizer, "sampling": sampling, "schedule": "cosine", "save_steps": 2}
    whole = tiny.model()
    straight = losses(train(tiny, whole, rows, tmp_path / "straight", **how))
    assert len(straight) == 8
    first = train(tiny, tiny.model(), rows, tmp_path / "broken", callbacks=[StopAt(5)], **how)
    assert first.state.global_step == 5
    assert losses(first) == pytest.approx(straight[:5], rel=1e-5)
    again = tiny.model(seed=1)  # whatever it starts from, the checkpoint counts
    second = train(tiny, again, rows, tmp_path / "broken", **how)
    assert second.state.global_step == 8
    assert losses(second) == pytest.approx(straight, rel=1e-4), "from step 4 on, which was saved, not from 5"
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_finished_run_given_again_trains_no_further(tiny_of: Any, tmp_path: Path) -> None:
    tiny = tiny_of("qwen3_vl")
    model = tiny.model()
    train(tiny, model, [1, 2], tmp_path, save_steps=1)
    again = tiny.model()
    trainer = train(tiny, again, [1, 2], tmp_path, save_steps=1)
    assert trainer.state.global_step == 1
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    fresh = tiny.model()
    settings = SETTINGS
    found = train_sft(
        fresh, tiny.processor.tokenizer, [1, 2], None, tiny.collator(in_words), settings, tmp_path, resume=False
    )
    assert len(losses(found)) == 1, "unless it shall start anew"


def test_gradient_checkpointing_changes_no_loss(tiny: Any, tmp_path: Path) -> None:
    rows = seeds_of(("image",), 4)
    found = [
        losses(train(tiny, tiny.model(), rows, tmp_path / str(on), shown, gradient_checkpointing=on))
        for on in (False, True)
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_rows_of_like_length_share_a_batch(tiny_of: Any, tmp_path: Path) -> None:
    tiny, seen = tiny_of("qwen2_5_omni"), []
    rows = list(range(32))
    plain = tiny.collator(in_words)
    lengths = [plain([row])["input_ids"].shape[1] for row in rows]

    def noted(seed: int) -> Conversation:
        seen.append(seed)
        return in_words(seed)

    settings = replace(SETTINGS, sampling="group_by_length", learning_rate=0.0)
    train_sft(tiny.model(), tiny.processor.tokenizer, rows, lengths, tiny.collator(noted), settings, tmp_path)
    assert sorted(seen) == rows
    gaps = [abs(lengths[a] - lengths[b]) for a, b in zip(seen[::2], seen[1::2], strict=True)]
    apart = [abs(lengths[a] - lengths[b]) for a, b in zip(rows[::2], rows[1::2], strict=True)]
    assert sum(gaps) < sum(apart) / 2


def test_rows_are_collated_in_a_worker_process_too(tiny_of: Any, tmp_path: Path) -> None:
    tiny = tiny_of("qwen2_5_omni")
    rows = seeds_of(("video", "audio"), 2)
    found = [
        losses(train(tiny, tiny.model(), rows, tmp_path / str(workers), shown, workers=workers)) for workers in (0, 1)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_an_unknown_optimizer_is_an_error_that_names_those_there_are(tiny_of: Any, tmp_path: Path) -> None:
    tiny = tiny_of("qwen2_5_omni")
    with pytest.raises(ConfigError, match="'adam': write adamw or muon"):
        train(tiny, tiny.model(), [1, 2], tmp_path, optimizer="adam")


# Rows that count alike


def logits_and_labels(costs: Sequence[Sequence[int | None]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of rows whose taught tokens cost so many times ln 2; what is not taught (None) is anything."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(costs), len(costs[0]) + 1, 3, generator=generator)
    labels = torch.full(logits.shape[:2], IGNORE)
    for row, found in enumerate(costs):
        for place, cost in enumerate(found):
            if cost is not None:
                rest = (1 - 2.0**-cost) / 2
                logits[row, place] = torch.tensor([rest, 2.0**-cost, rest]).log() + row  # a shift changes nothing
                labels[row, place + 1] = 1
    return logits, labels


LONG, SHORT, NONE = [1, None, 2, 3, 2], [None, None, None, None, 5], [None] * 5


def balanced_loss(logits: torch.Tensor, labels: torch.Tensor, amount: float) -> torch.Tensor:
    """What the trainer makes of the weights: their sum with the tokens' losses over the number of tokens."""
    taught = labels[:, 1:] != IGNORE
    found = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=IGNORE, reduction="none"
    )
    return (found * token_weights(taught, amount)).sum() / taught.sum().clamp(min=1)


@pytest.mark.parametrize(
    ("costs", "amount", "expected"),
    [
        ([LONG, SHORT], 0.0, 13 / 5),  # the mean over taught tokens
        ([LONG, SHORT], 1.0, (2 + 5) / 2),  # the mean of the rows' means
        ([LONG, SHORT], 0.5, (8 / 2 + 5) / (4 / 2 + 1)),  # a token of four weighs a half
        ([SHORT, LONG], 0.5, 3.0),
        ([LONG], 0.0, 2.0), ([LONG], 0.5, 2.0), ([LONG], 1.0, 2.0),
        ([LONG, SHORT, SHORT], 0.0, 18 / 6), ([LONG, SHORT, SHORT], 1.0, 12 / 3), ([LONG, SHORT, SHORT], 0.5, 14 / 4),
        ([NONE, LONG, NONE, SHORT], 0.0, 2.6), ([NONE, LONG, NONE, SHORT], 1.0, 3.5),
        ([NONE, LONG, NONE, SHORT], 0.5, 3.0), ([NONE, NONE], 0.0, 0.0), ([NONE, NONE], 1.0, 0.0),
    ],
)  # fmt: skip
def test_balance_weighs_tokens_by_those_of_their_row(costs: Any, amount: float, expected: float) -> None:
    logits, labels = logits_and_labels(costs)
    logits.requires_grad_()
    loss = balanced_loss(logits, labels, amount)
    assert loss.item() == pytest.approx(expected * math.log(2), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.any(-1)[:, :-1], labels[:, 1:] != IGNORE), "what is not taught pulls at nothing"
    assert not logits.grad[:, -1].any()


def test_a_label_of_the_first_token_has_no_logits_and_does_not_count() -> None:
    logits, labels = logits_and_labels([LONG, SHORT])
    labels[:, 0] = 1
    assert float(balanced_loss(logits, labels, 0.5)) == pytest.approx(3 * math.log(2), rel=1e-5)


def long_and_short(seed: int) -> Conversation:
    """Odd seeds are taught their last answer only."""
    return replace(in_words(seed), learn_history=seed % 2 == 0)


def balanced(rows: Sequence[Sequence[float]], amount: float) -> float:
    """By hand."""
    weighted = [(loss, len(row) ** -amount) for row in rows for loss in row]
    return sum(loss * weight for loss, weight in weighted) / sum(weight for _, weight in weighted)


@pytest.mark.parametrize("amount", [0.5, 1.0])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_trainer_balances_rows_and_weighs_the_batches_of_a_step_by_their_taught_tokens(
    tiny: Any, tmp_path: Path, accumulation: int, amount: float
) -> None:
    rows = [3, 4, 9, 11]
    model, collator = tiny.model(), tiny.collator(long_and_short)
    model.get_input_embeddings().weight.data *= 10  # so that tokens differ in their loss
    batches = [collator(rows[:2]), collator(rows[2:])]
    found = [taught_tokens(model, batch) for batch in batches]
    expected, (first, second) = [balanced(batch, amount) for batch in found], [sum(map(len, batch)) for batch in found]
    assert expected[0] != pytest.approx(balanced(found[0], 0.0), rel=2e-4)
    if accumulation == 2:
        mean = sum(expected) / 2
        expected = [(expected[0] * first + expected[1] * second) / (first + second)]
        assert expected[0] != pytest.approx(mean, rel=2e-4)
    steps = [batches] if accumulation == 2 else [[batch] for batch in batches]
    expected = [loss + balance(model, step) for loss, step in zip(expected, steps, strict=True)]
    how: dict[str, Any] = {"learning_rate": 0.0, "accumulation": accumulation, "balance": amount}
    assert losses(train(tiny, model, rows, tmp_path, long_and_short, **how)) == pytest.approx(expected, rel=1e-5)


# Rows that are stored


def stored(files: Files) -> list[SFTRow]:
    def row(name: str, completion: str, *parts: Part, prefill: str = "") -> SFTRow:
        return SFTRow(name, "judgment", False, Shown((Message("user", parts),), prefill), completion)

    image, audio = Part("image", str(files.images[0])), Part("audio", str(files.audios[0]))
    return [
        row("seen", "two red circles", image, Part("text", "<|im_end|>what is it?")),
        row("heard", "A", audio, prefill="Verdict: "),
        row("read", "<think>it says <|im_end|></think>B", Part("text", "which?")),
    ]


@pytest.mark.parametrize("lora", [False, True])
def test_stored_rows_teach_their_completions_with_adapters_too(
    tiny_of: Any, files: Files, tmp_path: Path, lora: bool
) -> None:
    from peft import LoraConfig, get_peft_model

    tiny, rows = tiny_of("qwen2_5_omni"), stored(files)
    write_rows(tmp_path / "rows.parquet", rows, SFTRow)
    model = tiny.model()
    expected = cross_entropy(model, [tiny.collator(conversations(rows))([0, 1, 2])])
    if lora:
        names = [n for n, _ in model.named_modules() if n.endswith("q_proj") and "layers" in n and "audio" not in n]
        model = get_peft_model(model, LoraConfig(r=4, target_modules=names, task_type="CAUSAL_LM"))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    one = Trainable(model, tiny.processor, tiny.settings, "")
    settings = replace(SETTINGS, batch_size=3, epochs=3.0, sampling="group_by_length", learning_rate=1e-2)
    trainer = train_sft_rows(one, read_rows(tmp_path / "rows.parquet", SFTRow), settings, tmp_path / "run")
    found = losses(trainer)
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert found[2] < found[0] - (0.0005 if lora else 0.005)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved
    assert not lora or all("lora_" in name for name in moved)


@pytest.mark.parametrize(
    ("completion", "message"),
    [
        (" ", r"row 1 \(judgment of sample 'bad'\) has a blank answer"),
        ("no " * 700, r"'bad'\) has \d{3,} tokens, over"),
    ],
)
def test_a_stored_row_that_cannot_be_learned_is_named_before_anything_is_trained(
    tiny_of: Any, files: Files, tmp_path: Path, completion: str, message: str
) -> None:
    tiny, rows = tiny_of("qwen2_5_omni"), stored(files)
    rows.insert(1, replace(rows[2], sample_id="bad", completion=completion))
    one = Trainable(tiny.model(), tiny.processor, tiny.settings, "")
    with pytest.raises(SampleError, match=message):
        train_sft_rows(one, rows, SETTINGS, tmp_path / "run", max_tokens=600)
    assert not (tmp_path / "run").exists()
