"""The examples of docs/rewards.md run as they are written there, with a tiny policy and a scripted judge."""

from __future__ import annotations

import asyncio
import copy
import re
from pathlib import Path
from typing import Any

import pytest

from omnirm.training.rewards import RuleReward
from omnirm.training.rewards import verl as rewards_verl

PAGE = Path(__file__).parents[2] / "docs" / "rewards.md"
JUDGE, POLICY = "Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def test_the_example_for_trl(tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = copy.deepcopy(tiny_of("qwen3_vl").processor.tokenizer)
    tokenizer._set_processor_class(None)  # a tokenizer that was once saved with its processor says so
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    policy = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, **sizes))
    policy.save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    monkeypatch.chdir(tmp_path)
    code = blocks("python")[0].replace(JUDGE, "scripted:always-a").replace(POLICY, "policy")
    code = code.replace(
        'GRPOConfig("out",', 'GRPOConfig("out", use_cpu=True, bf16=False, report_to="none", max_completion_length=4,'
    )
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    logs = [entry for entry in names["trainer"].state.log_history if "rewards/better/mean" in entry]
    assert names["trainer"].state.global_step == 2
    assert [entry["rewards/better/mean"] for entry in logs] == [0.5] * len(logs), "always A, in both orders"


def test_the_example_for_verl(monkeypatch: pytest.MonkeyPatch) -> None:
    (shell,) = blocks("shell")
    settings = dict(re.findall(r"\+?reward\.custom_reward_function\.(\S+?)=(\S+)", shell))
    assert settings.pop("path") == "pkg://" + rewards_verl.__name__
    kwargs = {key.removeprefix("reward_kwargs."): value for key, value in settings.items()}
    kwargs |= {"not_judged": float(kwargs["not_judged"])}
    assert kwargs.pop("model") == JUDGE
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)
    row = names["row"]
    found = asyncio.run(
        rewards_verl.compute_score(
            row["data_source"], "Apple", row["reward_model"]["ground_truth"], row["extra_info"],
            model="scripted:always-a", **kwargs,
        )
    )  # fmt: skip
    assert found == {"score": 0.5, "judged": 1.0, "reason": ""}
    (variable,) = re.findall(r"OMNIRM_REWARD='(.*?)'", PAGE.read_text(encoding="utf-8"))
    monkeypatch.setenv("OMNIRM_REWARD", variable.replace("nano", "scripted:always-a"))
    found = asyncio.run(rewards_verl.compute_score("x", "Apple", "An apple.", row["extra_info"], mode="reference"))
    assert found["score"] == 0.5


def test_the_example_of_a_policy_that_learns_to_judge() -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[2], names)
    points, pairs = names["data"].to_list(), names["pairs"]
    keys = [re.search(r"# (\S+) prompt", row["prompt"][1]["content"])[1] for row in points]  # type: ignore[index]
    answers = [f"<think></think>\nTotal {key}: [[{score}]]" for key in keys for score in (9, 7, 6, "x")]
    columns = {name: [row[name] for row in points for _ in range(4)] for name in points[0] if name != "prompt"}
    preference, form = [reward([""] * 8, answers, **columns) for reward in names["rewards"]]
    # both means are (9 + 7 + 6) / 3 = 7.33: 9 lies 1.67 above -> 1.2; of the rejected 7 and 6 lie 0.33 and 1.33 below
    assert preference == [1.2, 0.0, 0.0, None, 0.0, 1.2, 1.2, None]
    assert form == [0.0, 0.0, 0.0, -1.0] * 2
    assert [row["label"] for row in pairs] == ["A", "B"]
    key = re.search(r"# (\S+) prompt", pairs[0]["prompt"][1]["content"])[1]  # type: ignore[index]
    right = [f"<think></think>\nVerdict {key}: [[{letter}]]" for letter in "AB"]
    readings, labels = [row["reading"] for row in pairs], [row["label"] for row in pairs]
    assert RuleReward()(["", ""], right, reading=readings, label=labels) == [1.0, 1.0]
