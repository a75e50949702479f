"""`omnirm synth`: training data from labelled preference pairs, by DUAL RM's way or GRM-Omni's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnirm.app import scaling, service
from omnirm.app.cli.boundary import (
    ALL_JUDGED,
    NONE_JUDGED,
    SOME_NOT_JUDGED,
    errors_as_lines,
    log_to_stderr,
    say,
    show_line,
)
from omnirm.app.cli.judge import Function, PlannerChoice
from omnirm.errors import ConfigError, SampleError

if TYPE_CHECKING:
    from omnirm.rubrics.strategies import ScaledJudge
    from omnirm.sample import Sample
    from omnirm.training.synthesis.choices import RowSettings
    from omnirm.training.synthesis.explorer import Explored, Explorer
    from omnirm.training.synthesis.ngrams import Benchmarks

_FILES, _SETS = "Input", "Data sets"


class Method(StrEnum):
    """Choices of --method."""

    dual = "dual-rm"
    grm = "grm-omni"


class ThinkingOn(StrEnum):
    """Choices of --thinking-on."""

    text = "text"
    all = "all"
    none = "none"


class Pick(StrEnum):
    """Choices of --pick."""

    right = "right"
    top = "top"


class RightOverWrong(StrEnum):
    """Choices of --right-over-wrong."""

    judgment = "judgment"
    both = "both"
    none = "none"


class Orders(StrEnum):
    """Choices of --orders."""

    one = "1"
    two = "2"


def synth(
    pairs_file: Annotated[Path, typer.Argument(metavar="PAIRS", help="A .jsonl or .json file of labelled pairs.")],
    run: Annotated[Path, typer.Option(metavar="FOLDER", help="Calls and data sets go here; the same again resumes.")],
    method: Annotated[Method, typer.Option(help="dual-rm: K rubrics, the best trajectory. grm-omni: k, then n more.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="The judge: nano, a folder or a hub name.")] = "nano",
    disrm: Annotated[
        str, typer.Option(metavar="NAME", help="The reward model: nano, a folder, a hub name or a URL.")
    ] = "nano",
    refiner: Annotated[
        str, typer.Option(metavar="NAME", help="model (the judge's own), another model, or a URL.")
    ] = "model",
    rubrics: Annotated[int, typer.Option(min=2, max=100, help="dual-rm: K, rubrics to plan for a pair.")] = 10,
    first: Annotated[int, typer.Option(min=1, max=100, help="grm-omni: k, rubrics of the first judgment.")] = 3,
    more: Annotated[int, typer.Option(min=1, max=100, help="grm-omni: n, rubrics more where that was wrong.")] = 7,
    planner: Annotated[PlannerChoice, typer.Option(help="dual-rm: where rubrics come from.")] = PlannerChoice.generated,
    planner_temperature: Annotated[float, typer.Option(min=0, help="Of planning.")] = 0.0,
    samples_per_rubric: Annotated[int, typer.Option(min=1, help="Readings under each rubric, in each order.")] = 1,
    orders: Annotated[
        Orders | None, typer.Option(help="Show a pair in both orders or in one; default 2, with grm-omni 1.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Default 0 for one reading, 0.7 for several.")
    ] = None,
    top_p: Annotated[float, typer.Option(help="Nucleus of sampling, above 0 up to 1.")] = 1.0,
    meta_reward: Annotated[Function, typer.Option(help="What ranks trajectories.")] = Function.consistency,
    thinking_on: Annotated[
        ThinkingOn, typer.Option(help="Pairs that carry the thinking prompt; the others the verdict alone.")
    ] = ThinkingOn.text,
    pick: Annotated[
        Pick, typer.Option(help="SFT: the best right trajectory, or the top one where it is right.")
    ] = Pick.right,
    allow_unfounded: Annotated[
        bool, typer.Option("--allow-unfounded", help="Also learn verdicts that do not follow from their criteria.")
    ] = False,
    eps: Annotated[float | None, typer.Option(min=0, help="DPO: margin, on the reward model's scale.")] = None,
    eps_quantile: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="DPO: share of the margins to drop; 0.5 without --eps."),
    ] = None,
    right_over_wrong: Annotated[
        RightOverWrong, typer.Option(help="DPO: kinds of pairs whose chosen one must be right, the rejected one wrong.")
    ] = RightOverWrong.judgment,
    pair_limit: Annotated[int, typer.Option(min=0, help="DPO: pairs of a kind from one sample; 0 for all.")] = 4,
    rollouts: Annotated[
        int,
        typer.Option(min=0, help="GRPO: keep pairs right in 1/8 to 6/8 of so many judgments; 0 keeps all."),
    ] = 0,
    sft_margin: Annotated[
        float | None, typer.Option(help="SFT: keep pairs whose pointwise scores lie further apart; PaTaRM takes 2.")
    ] = None,
    check_against: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Drop rows that share text with this; may be repeated.")
    ] = None,
    ngram: Annotated[int, typer.Option(min=2, help="Words that count as shared text.")] = 13,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, ...")] = None,
    dtype: Annotated[str | None, typer.Option(metavar="NAME", help="float32, bfloat16, float16.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Requests answered at once.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Pairs between two lines of progress.")] = 32,
    verbose: Annotated[bool, typer.Option("--verbose", help="More log lines on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Training data from labelled pairs: sft.parquet, dpo.parquet and grpo.parquet with a card each.

    Every pair is judged under several rubrics, each response is refined by the judge's comments, and the reward model
    scores before and after; rows are made of what worked. Options of SFT, DPO, thinking and checks can be changed for
    the same folder without asking a model again. Exit codes are those of omnirm judge.
    """
    log_to_stderr(verbose)
    explored: list[Explored] = []
    bad: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(errors_as_lines(debug=debug, judged=lambda: any(_judged(one) for one in explored)))
        if not pairs_file.is_file():
            raise SampleError(f"{pairs_file}: no such file")
        grm = method is Method.grm
        if grm and orders is Orders.two:
            raise ConfigError(
                "grm-omni puts judgments together, so all must be shown in one order: leave --orders 2 out"
            )
        both = not grm if orders is None else orders is Orders.two
        rows = _row_settings(
            method=method.value, thinking_on=thinking_on.value, pick=pick.value, eps=eps, eps_quantile=eps_quantile,
            right_over_wrong=right_over_wrong.value, pair_limit=pair_limit or None, sft_margin=sft_margin, seed=seed,
            founded=not allow_unfounded,
        )  # fmt: skip
        benchmarks = _benchmarks(check_against or [], ngram)
        judging = service.JudgeOptions(
            format="pairwise-thinking", orders=2 if both else 1, samples=samples_per_rubric, temperature=temperature,
            top_p=top_p, seed=seed,
        )  # fmt: skip
        options = scaling.ScalingOptions(
            strategy="meta", rubrics=first + more if grm else rubrics, planner="extended" if grm else planner.value,
            planner_temperature=planner_temperature, disrm=disrm, refiner=refiner, function=meta_reward.value, run=run,
        )  # fmt: skip
        chosen = service.ModelOptions(name=model, device=device, dtype=dtype, batch_size=batch_size)
        synthesis: dict[str, Any] = {"method": method.value} | ({"first": first, "more": more} if grm else {})
        scaled, folder = scaling.make_scaled_judge(chosen, judging, options, about={"synthesis": synthesis})
        assert folder is not None
        stack.enter_context(folder)
        explorer = _explorer(scaled, method, first, more, planner_temperature, rollouts, sft_margin is not None)

        from omnirm.training.synthesis.sets import explore, make_sets, write_sets

        for one in explore(explorer, _samples(pairs_file, bad), folder, at_once=at_once):
            explored.append(one)
            if len(explored) % at_once == 0:
                say(f"{len(explored)} pairs")
        if not explored and not bad:
            raise SampleError(f"{pairs_file}: no samples")
        sets = make_sets(explored, rows, benchmarks)
        about: dict[str, dict[str, Any]] = {
            "Models": _models(explorer),
            "Settings": {
                **synthesis, "rubrics": options.rubrics, "planner": explorer.planned_by,
                "planner temperature": planner_temperature, "orders": 2 if both else 1,
                "samples per rubric": samples_per_rubric, "temperature": scaled.judge.decoding.temperature,
                "top-p": top_p, "meta-reward": meta_reward.value, "seed": seed, "thinking on": thinking_on.value,
                "pick": pick.value, "founded judgments only": not allow_unfounded,
                "eps": "by quantile" if eps is None else eps,
                "eps quantile": "-" if eps is not None else 0.5 if eps_quantile is None else eps_quantile,
                "right over wrong": right_over_wrong.value, "pair limit": pair_limit or "none", "rollouts": rollouts,
                "SFT margin": "none" if sft_margin is None else sft_margin,
                "checked against": ", ".join(map(str, check_against or [])) or "nothing", "n-gram": ngram,
            },
            _FILES: {"file": pairs_file.name, "pairs": len(explored), "lines that are no sample": len(bad)},
        }  # fmt: skip
        counts = write_sets(sets, run, explored, about, count_tokens=_counter(scaled.judge.backend))
        _report(run, counts, sets)
        for line in bad:
            say(f"left out: {show_line(line)}")
    judged = sum(_judged(one) for one in explored)
    every = len(explored) + len(bad)
    raise typer.Exit(ALL_JUDGED if judged == every else SOME_NOT_JUDGED if judged else NONE_JUDGED)


def _judged(one: Explored) -> bool:
    return one.judgment.verdict is not None or bool(one.judgment.trajectories)


def _row_settings(**values: Any) -> RowSettings:
    from omnirm.training.synthesis.choices import RowSettings

    return RowSettings(**values)


def _benchmarks(files: list[Path], n: int) -> Benchmarks | None:
    from omnirm.training.synthesis.ngrams import Benchmarks

    return Benchmarks(files, n) if files else None


def _samples(file: Path, bad: list[str]) -> Iterator[Sample]:
    """The samples of a file; what is none is noted and loses no other."""
    for row in service.read_rows(file):
        if row.sample is None:
            bad.append(row.error)
        else:
            yield row.sample


def _explorer(
    scaled: ScaledJudge, method: Method, first: int, more: int, temperature: float, rollouts: int, pointwise: bool
) -> Explorer:
    from omnirm.rubrics.extended import ExtendedPlanner
    from omnirm.training.synthesis.explorer import Explorer

    assert scaled.planner is not None
    assert scaled.meta is not None
    judge = scaled.judge
    extended = ExtendedPlanner(
        judge.backend, count=first, first=first, more=more, rounds=1, seed=judge.decoding.seed, temperature=temperature
    )
    return Explorer(
        judge,
        scaled.planner,
        scaled.meta,
        method.value,
        extended if method is Method.grm else None,
        rollouts,
        pointwise,
    )


def _models(explorer: Explorer) -> dict[str, str]:
    import omnirm

    backend, scorer, refiner = explorer.judge.backend, explorer.meta.scorer, explorer.meta.refiner
    policy = getattr(refiner, "backend", None)
    named: dict[str, Any] = {"judge": backend, "reward model": scorer}
    found = {what: f"{one.name} @ {one.revision or 'unknown revision'}" for what, one in named.items()}
    found["refiner"] = f"{refiner.name} @ {policy.revision or 'unknown revision'}" if policy else refiner.name
    return found | {"omnirm": omnirm.__version__}


def _counter(backend: Any) -> Callable[[str], int] | None:
    """Counts tokens with the judge's tokenizer, where it has one here."""
    tokenizer = getattr(getattr(backend, "processor", None), "tokenizer", None)
    return None if tokenizer is None else lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _report(folder: Path, counts: dict[str, int], sets: Any) -> None:
    for name, count in counts.items():
        steps = Counter(getattr(row, "step", "") for row in sets.rows(name))
        shown = ", ".join(f"{step} {n}" for step, n in sorted(steps.items()) if step)
        typer.echo(f"{folder / f'{name}.parquet'}: {count} rows" + (f" ({shown})" if shown else ""))
    margins = [f"{kind} {eps:.4g}" for kind, eps in sets.eps if eps is not None]
    if margins:
        typer.echo(f"eps: {', '.join(margins)}")
    reasons = Counter(f"{one.set}: {one.step + ': ' if one.step else ''}{one.reason}" for one in sets.dropped)
    for reason, n in sorted(reasons.items()):
        typer.echo(f"left out of {show_line(reason)}: {n}")
