"""From explored pairs to rows of training data: SFT, DPO and GRPO. Pure; asks no model and opens no file.

For `sets`. `docs/synthesis.md` says which row comes from what. Nothing is lost silently: whatever
does not become a row is a `Dropped` with its reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Literal

from omnirm.parsing.rubric_lines import normalised
from omnirm.prompts.rendered import Rendered
from omnirm.rubrics.trajectory import Trajectory
from omnirm.sample import dump_rubric
from omnirm.scoring.margins import MarginPair, Trajectories, eps_at, margin_pairs
from omnirm.scoring.meta_reward import vote_at
from omnirm.training.rows import DPORow, GRPORow, SFTRow, Shown
from omnirm.training.synthesis.answers import (
    Answer,
    combined_answer,
    judgment_answer,
    order_of,
    picking_answer,
    planning_answer,
    selection_answer,
)
from omnirm.training.synthesis.choices import Dropped, Dropper, Made, RowSettings, founded, listed, ranked, worth
from omnirm.training.synthesis.explorer import Explored
from omnirm.training.synthesis.filters import wide_enough, worth_exploring

COMBINED = 3  # rubrics in GRM-Omni's improved judgment


# -- SFT


def sft_rows(explored: Iterable[Explored], settings: RowSettings) -> Made[SFTRow]:
    """Rows to imitate: of DUAL RM the plan, the selection and the judgment of the best trajectory; of GRM-Omni the
    judgment where it was right at once."""
    rows: list[SFTRow] = []
    dropped: list[Dropped] = []
    for one in explored:
        drop = Dropper("sft", one.sample.id, dropped)
        if one.judgment.error and not one.judgment.trajectories and one.first is None:
            drop("", one.judgment.error)
        elif settings.sft_margin is not None and not wide_enough(one.margin, settings.sft_margin):
            drop("", f"pointwise margin not over {settings.sft_margin:g}", str(one.margin))
        elif settings.method == "dual-rm":
            rows += _dual_sft(one, settings, drop)
        else:
            rows += _grm_sft(one, settings, drop)
    return Made(tuple(rows), tuple(dropped))


def _dual_sft(one: Explored, settings: RowSettings, drop: Dropper) -> list[SFTRow]:
    found = ranked(one)
    candidates = [t for t in (found if settings.pick == "right" else found[:1]) if settings.good(t)]
    thinking, best, judged = settings.thinks(one.sample), None, None
    for best in candidates:
        judged = drop.read("judgment", judgment_answer(one.sample, best, thinking=thinking))
        if judged is not None:
            break
    if best is None or judged is None:
        why = "no judgment has a meta-reward" if not found else (
            "no right judgment reads back" if candidates else
            "the top judgment is not good" if settings.pick == "top" else
            "no right judgment follows from its criteria" if any(t.correct for t in found) else "no judgment is right"
        )  # fmt: skip
        drop("", why, one.judgment.error)
        return []
    reward = one.reward(best)
    rows = [_sft(one, "judgment", thinking, judged, reward)]
    if thinking:
        others = [t for t in worth(one, settings) if t.index != best.index]
        others.sort(key=lambda t: (not settings.good(t), -(one.reward(t) or 0.0)))
        plan = [one.judgment.planned[t.index] for t in (best, *others)]
        planned = drop.read("planning", planning_answer(one.sample, plan))
        shown = listed(one, settings.seed)
        place = [index for index, _ in shown].index(best.index)
        selected = drop.read("selection", selection_answer(one.sample, [rubric for _, rubric in shown], place))
        picked = None
        if len(shown) > 1:
            picked = drop.read("picking", picking_answer(one.sample, [rubric for _, rubric in shown], place, best))
        for step, answer in (("planning", planned), ("selection", selected), ("picking", picked)):
            if answer is not None:
                rows.append(_sft(one, step, step == "picking", answer, reward))
    return rows


def _grm_sft(one: Explored, settings: RowSettings, drop: Dropper) -> list[SFTRow]:
    if one.first is None or one.first.judgment.verdict is None:
        why = "no first judgment" if one.first is None else "the first judgment cannot be read"
        drop("", why, "; ".join(one.first.judgment.reasons) if one.first else one.judgment.error)
        return []
    if not one.first.correct:
        drop("", "the first judgment is wrong")
        return []
    if not settings.good(one.first):
        drop("", "the first judgment does not follow from its criteria")
        return []
    names = [normalised(criterion.rubric.name) for criterion in one.first.judgment.criteria]
    if len(set(names)) < len(names):
        drop("", "the first judgment repeats a criterion")
        return []
    thinking = settings.thinks(one.sample)
    answer = drop.read("judgment", judgment_answer(one.sample, one.first, thinking=thinking, free=True))
    return [] if answer is None else [_sft(one, "judgment", thinking, answer, None)]


# -- DPO


def dpo_rows(explored: Sequence[Explored], settings: RowSettings) -> Made[DPORow]:
    """A better and a worse answer to one prompt.

    DUAL RM: pairs of trajectories whose meta-rewards lie more than eps apart; `selection` rows prefer one rubric of the
    list over another, `judgment` rows one judgment under a rubric over another under the same, `picking` rows (rubric
    and judgment in one answer, as GRPO's rollouts) either. GRM-Omni: the improved
    judgment over the wrong one. Equal rows of a pair are made once.
    """
    rows: list[DPORow] = []
    dropped: list[Dropped] = []
    if settings.method == "grm-omni":
        for one in explored:
            rows += _improved(one, settings, Dropper("dpo", one.sample.id, dropped))
        return Made(tuple(rows), tuple(dropped))
    kept = []
    for one in explored:
        if not one.judgment.trajectories:
            Dropper("dpo", one.sample.id, dropped)("", one.judgment.error or "no trajectory")
        else:
            kept.append(one)
    by_rubric = [worth(one, settings) for one in kept]
    by_reading = [list(one.judgment.trajectories) for one in kept]
    over = settings.right_over_wrong
    planning = _pairs(kept, by_rubric, "planning", settings, over == "both")
    judging = _pairs(kept, by_reading, "judgment", settings, over != "none")
    for one, few, many, plans, judgments in zip(kept, by_rubric, by_reading, planning[1], judging[1], strict=True):
        drop = Dropper("dpo", one.sample.id, dropped)
        if not plans and not judgments:
            drop("", "no two trajectories lie further apart than eps")
        rows += _upto(settings.pair_limit, (_selection(one, few, pair, settings, drop) for pair in plans))
        rows += _upto(settings.pair_limit, (_judgments(one, many, pair, settings, drop) for pair in judgments))
        if settings.thinks(one.sample) and len(one.judgment.planned) > 1:
            asked = [(few, pair) for pair in plans] + [(many, pair) for pair in judgments]
            rows += _upto(settings.pair_limit, (_picking(one, found, pair, settings, drop) for found, pair in asked))
    return Made(tuple(rows), tuple(dropped), (("selection", planning[0]), ("judgment", judging[0])))


def _pairs(
    explored: Sequence[Explored],
    trajectories: Sequence[Sequence[Trajectory]],
    kind: Literal["planning", "judgment"],
    settings: RowSettings,
    right_over_wrong: bool,
) -> tuple[float | None, list[list[MarginPair]]]:
    columns = [
        Trajectories(tuple(one.reward(t) for t in ts), tuple(t.index for t in ts), tuple(t.correct for t in ts))
        for one, ts in zip(explored, trajectories, strict=True)
    ]
    eps: float | None = settings.eps
    if eps is None:
        quantile = 0.5 if settings.eps_quantile is None else settings.eps_quantile
        eps = eps_at(columns, quantile, kind, right_over_wrong=right_over_wrong)
    if eps is None:
        return None, [[] for _ in explored]
    return eps, [margin_pairs(one, kind, eps, right_over_wrong=right_over_wrong) for one in columns]


def _selection(
    one: Explored, found: Sequence[Trajectory], pair: MarginPair, settings: RowSettings, drop: Dropper
) -> DPORow | None:
    shown = listed(one, settings.seed)
    places, rubrics = [index for index, _ in shown], [rubric for _, rubric in shown]
    chosen, rejected = (
        drop.read("selection", selection_answer(one.sample, rubrics, places.index(found[k].index)))
        for k in (pair.chosen, pair.rejected)
    )
    return _dpo(
        one, "selection", False, chosen, rejected, one.reward(found[pair.chosen]), one.reward(found[pair.rejected])
    )


def _picking(
    one: Explored, found: Sequence[Trajectory], pair: MarginPair, settings: RowSettings, drop: Dropper
) -> DPORow | None:
    """Rubric and judgment in one answer: a whole trajectory over another one. The better one must be good."""
    better, worse = found[pair.chosen], found[pair.rejected]
    if not settings.good(better):
        return None
    shown = listed(one, settings.seed)
    places, rubrics = [index for index, _ in shown], [rubric for _, rubric in shown]
    order = order_of(better)
    chosen, rejected = (
        drop.read("picking", picking_answer(one.sample, rubrics, places.index(t.index), t, order))
        for t in (better, worse)
    )
    return _dpo(one, "picking", True, chosen, rejected, one.reward(better), one.reward(worse))


def _judgments(
    one: Explored, found: Sequence[Trajectory], pair: MarginPair, settings: RowSettings, drop: Dropper
) -> DPORow | None:
    thinking, better, worse = settings.thinks(one.sample), found[pair.chosen], found[pair.rejected]
    if settings.founded and not founded(better):
        drop("judgment", "the chosen one does not follow from its criteria")
        return None
    chosen = drop.read("judgment", judgment_answer(one.sample, better, thinking=thinking))
    if chosen is None:
        return None
    order = order_of(better)
    rejected = drop.read("judgment", judgment_answer(one.sample, worse, thinking=thinking, order=order))
    return _dpo(one, "judgment", thinking, chosen, rejected, one.reward(better), one.reward(worse))


def _improved(one: Explored, settings: RowSettings, drop: Dropper) -> list[DPORow]:
    """GRM-Omni: the three best judgments put together over the first, wrong one."""
    if one.first is None or one.first.correct is not False or one.first.judgment.verdict is None:
        drop("", "the first judgment is not wrong" if one.first else one.judgment.error or "no first judgment")
        return []
    best: list[Trajectory] = []
    for t in ranked(one):
        if settings.founded and not founded(t):
            continue
        if len(best) < COMBINED and all(t.index != other.index for other in best):
            best.append(t)
    if len(best) < COMBINED:
        drop("", f"fewer than {COMBINED} rubrics have a founded judgment with a meta-reward", one.judgment.error)
        return []
    verdict = vote_at([t.judgment.verdict for t in best], COMBINED)
    if verdict is None or verdict != one.label:
        drop("", "the improved judgment is not right either")
        return []
    thinking = settings.thinks(one.sample)
    chosen = drop.read("judgment", combined_answer(one.sample, best, verdict, thinking=thinking))
    rejected = drop.read("judgment", judgment_answer(one.sample, one.first, thinking=thinking, free=True))
    reward = math.fsum(one.reward(t) or 0.0 for t in best) / len(best)
    row = _dpo(one, "judgment", thinking, chosen, rejected, reward, None)
    return [] if row is None else [row]


# -- GRPO


def grpo_rows(explored: Iterable[Explored], settings: RowSettings) -> Made[GRPORow]:
    """One row a pair: its rubrics in a fixed order and what the DisRM says under each (the mean over readings)."""
    rows: list[GRPORow] = []
    dropped: list[Dropped] = []
    for one in explored:
        drop = Dropper("grpo", one.sample.id, dropped)
        shown = listed(one, settings.seed)
        scores = [_mean_scores([t.scores for t in one.judgment.trajectories if t.index == k]) for k, _ in shown]
        if one.judgment.error and not one.judgment.trajectories:
            drop("", one.judgment.error)
        elif not any(all(x is not None for x in row) for row in scores):
            drop("", "no rubric has all four scores", "; ".join(one.judgment.reasons))
        elif one.rollouts and not worth_exploring(_right(one), settings.least, settings.most):
            right = f"{sum(_right(one))} of {len(one.rollouts)} rollouts are right"
            drop("", f"right rollouts outside {settings.least} to {settings.most}", right)
        else:
            rubrics = json.dumps([dump_rubric(rubric) for _, rubric in shown], ensure_ascii=False)
            rows.append(GRPORow(one.sample.id, one.sample.to_json(), rubrics, json.dumps(scores), str(one.label)))
    return Made(tuple(rows), tuple(dropped))


def _right(one: Explored) -> list[bool]:
    return [verdict == one.label for verdict in one.rollouts]


def _mean_scores(readings: Sequence[Sequence[float | None]]) -> list[float | None]:
    """s1, s2, t1, t2: means over the readings that have all four; s alone where none has."""
    whole = [row for row in readings if all(x is not None for x in row)]
    if whole:
        return [math.fsum(x for x in column if x is not None) / len(whole) for column in zip(*whole, strict=True)]
    s = next((list(row[:2]) for row in readings if row[0] is not None and row[1] is not None), [None, None])
    return [*s, None, None]


# -- what they share


def _upto(limit: int | None, rows: Iterable[DPORow | None]) -> list[DPORow]:
    """The first different rows, at most `limit`; no more is made than is needed."""
    made: dict[tuple[str, str, str], DPORow] = {}
    for row in rows:
        if row is not None:
            made.setdefault((row.prompt.to_json(), row.chosen, row.rejected), row)
        if limit is not None and len(made) >= limit:
            break
    return list(made.values())


def _shown(rendered: Rendered) -> Shown:
    return Shown(rendered.messages, rendered.prefill)


def _sft(one: Explored, step: str, thinking: bool, answer: Answer, reward: float | None) -> SFTRow:
    return SFTRow(one.sample.id, step, thinking, _shown(answer.rendered), answer.completion, reward)


def _dpo(
    one: Explored, step: str, thinking: bool, chosen: Answer | None, rejected: Answer | None,
    reward: float | None, worse: float | None,
) -> DPORow | None:  # fmt: skip
    if chosen is None or rejected is None or chosen.completion == rejected.completion:
        return None
    prompt = _shown(chosen.rendered)
    return DPORow(one.sample.id, step, thinking, prompt, chosen.completion, rejected.completion, reward, worse)
