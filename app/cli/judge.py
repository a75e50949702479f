"""`omnirm judge`: a pair from flags, or samples from a file or stdin; a report or JSON lines on stdout."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from omnirm.app import scaling, service
from omnirm.app.cli.boundary import (
    ALL_JUDGED,
    EXIT_CODES,
    NONE_JUDGED,
    SOME_NOT_JUDGED,
    errors_as_lines,
    log_to_stderr,
    say,
)
from omnirm.errors import ConfigError, SampleError
from omnirm.types import Rubric

if TYPE_CHECKING:
    from omnirm.sample import Sample

_RUBRIC = re.compile(r"(?P<name>[^:]+?)\s*(?:\(\s*weight\s+(?P<weight>[^)]*?)\s*\))?\s*(?::(?P<text>.*))?", re.DOTALL)


def _text(what: str) -> Any:
    return typer.Option(metavar="TEXT", help=what)


def _media(what: str) -> Any:
    return typer.Option(metavar="PATH", help=what)


class Format(StrEnum):
    """Choices of --format."""

    auto = "auto"
    thinking = "pairwise-thinking"
    verdict = "pairwise"


class Orders(StrEnum):
    """Choices of --orders."""

    two = "2"
    one = "1"
    ab = "AB"
    ba = "BA"
    both = "both"


class Strategy(StrEnum):
    """Choices of --strategy."""

    single = "single"
    vote = "vote"
    selected = "selected"
    combined = "combined"
    meta = "meta"


class PlannerChoice(StrEnum):
    """Choices of --planner."""

    generated = "generated"
    extended = "extended"
    primary = "primary"
    contrastive = "contrastive"
    decomposed = "decomposed"
    gold = "gold"


class Function(StrEnum):
    """Choices of --meta-reward."""

    consistency = "consistency"
    relative = "relative"
    direct = "direct"


class Method(StrEnum):
    """Choices of --method."""

    rubric = "rubric"
    p_yes = "p-yes"


def judge(
    samples_file: Annotated[
        str | None,
        typer.Argument(metavar="SAMPLES", help="A .jsonl or .json file of samples, or - for JSON lines on stdin."),
    ] = None,
    prompt: Annotated[str | None, _text("What was asked; @FILE reads it from a file, @@ begins a text with @.")] = None,
    prompt_image: Annotated[list[str] | None, _media("Image in the prompt, before its text; repeatable.")] = None,
    prompt_video: Annotated[list[str] | None, _media("Video in the prompt; repeatable.")] = None,
    prompt_audio: Annotated[list[str] | None, _media("Audio in the prompt; repeatable.")] = None,
    a: Annotated[str | None, _text("Candidate A, or @FILE.")] = None,
    a_image: Annotated[list[str] | None, _media("Image in candidate A, before its text; repeatable.")] = None,
    a_video: Annotated[list[str] | None, _media("Video in candidate A; repeatable.")] = None,
    a_audio: Annotated[list[str] | None, _media("Audio in candidate A; repeatable.")] = None,
    b: Annotated[str | None, _text("Candidate B, or @FILE.")] = None,
    b_image: Annotated[list[str] | None, _media("Image in candidate B; repeatable.")] = None,
    b_video: Annotated[list[str] | None, _media("Video in candidate B; repeatable.")] = None,
    b_audio: Annotated[list[str] | None, _media("Audio in candidate B; repeatable.")] = None,
    rubric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help='A criterion, "Name: what it asks" or "Name (weight 2): what it asks"; may be repeated; @FILE reads a '
            "JSON list. Replaces the rubrics of a sample file.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="nano, a folder, a hub name, or scripted:always-a.")
    ] = "nano",
    format: Annotated[
        Format, typer.Option(help="auto thinks about text and gives the verdict alone on media.")
    ] = Format.auto,
    orders: Annotated[
        Orders, typer.Option(help="Show a pair in both orders (2, both) or in one (1, AB, BA).")
    ] = Orders.two,
    samples: Annotated[int, typer.Option(min=1, help="Readings in each order, joined by majority or mean.")] = 1,
    temperature: Annotated[float | None, typer.Option(min=0, help="Default 0 for one sample, 0.7 for several.")] = None,
    top_p: Annotated[float, typer.Option(help="Nucleus of sampling, above 0 up to 1.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Fixes every draw.")] = 0,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Instead of the format's own limit.")] = None,
    allow_tie: Annotated[bool, typer.Option("--allow-tie", help="Offer the model a tie as an answer.")] = False,
    pick: Annotated[
        bool,
        typer.Option(
            "--pick", help="Thinking: choose the rubric that should decide and judge by it, in one answer (DUAL RM)."
        ),
    ] = False,
    own: Annotated[
        bool, typer.Option("--own", help="Thinking: add one to three rubrics to those given (PaTaRM).")
    ] = False,
    tie_band: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="Call it a tie where P(A) is this close to 1/2.")
    ] = None,
    score: Annotated[
        bool, typer.Option("--score", help="Score each candidate on its own instead of comparing two.")
    ] = False,
    method: Annotated[Method, typer.Option(help="With --score: rubric scores 0-10, or P(Yes) 0-1.")] = Method.rubric,
    strategy: Annotated[
        Strategy | None,
        typer.Option(help="Spend more compute: judge under many rubrics and vote, select, combine or rank them."),
    ] = None,
    rubrics: Annotated[int, typer.Option(min=1, max=100, help="With --strategy: how many rubrics to plan.")] = 10,
    planner: Annotated[
        PlannerChoice, typer.Option(help="With --strategy: where rubrics come from (--rubric gives them by hand).")
    ] = PlannerChoice.generated,
    disrm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --strategy meta: reward model; nano, a folder, a hub name or a URL."),
    ] = None,
    refiner: Annotated[
        str,
        typer.Option(metavar="NAME", help="With --strategy meta: model (the judge's own), another model, or a URL."),
    ] = "model",
    meta_reward: Annotated[Function, typer.Option(help="With --strategy meta: what ranks the rubrics.")] = (
        Function.consistency
    ),
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback", help="With --strategy meta: vote where a response cannot be refined.")
    ] = False,
    stop_when_settled: Annotated[
        bool, typer.Option("--stop-when-settled", help="With --strategy vote: stop once no rubric can change the vote.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="With --strategy: keep every call here; the same again resumes."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps; default: the best there is.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="NAME", help="float32, bfloat16, float16; default: by device.")
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="NAME", help="Commit or tag of a hub model.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Requests the model answers at once.")] = None,
    media_root: Annotated[
        list[Path] | None, typer.Option(metavar="FOLDER", help="Read media only below this folder; may be repeated.")
    ] = None,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Fetch media from http(s) addresses.")] = False,
    isolate: Annotated[bool, typer.Option("--isolate", help="Decode media in a worker process with limits.")] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load pickled weights (they can run code).")
    ] = False,
    allow_remote_code: Annotated[
        bool, typer.Option("--allow-remote-code", help="Run the code that a checkpoint brings along.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout instead of a report.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write JSON lines to this new file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --out replace a file.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="More log lines on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    log_to_stderr(verbose)
    with errors_as_lines(debug=debug):
        content = (
            service.Content(read_text(prompt), _tuple(prompt_image), _tuple(prompt_video), _tuple(prompt_audio)),
            service.Content(read_text(a), _tuple(a_image), _tuple(a_video), _tuple(a_audio)),
            service.Content(read_text(b), _tuple(b_image), _tuple(b_video), _tuple(b_audio)),
        )
        rows = _rows(samples_file, content, score)
        given = None if rubric is None else tuple(one for text in rubric for one in parse_rubric(text))
        options = service.JudgeOptions(
            format=format.value,
            orders=int(orders.value) if orders.value.isdigit() else orders.value,
            samples=samples,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            allow_tie=allow_tie,
            tie_band=tie_band,
            max_new_tokens=max_new_tokens,
            rubrics=given if strategy is None else None,
            pick=pick,
            own=own,
        )
        if out is not None and out.exists() and not overwrite:
            raise ConfigError(f"{out} exists; give another name, or --overwrite")
        chosen = service.ModelOptions(
            name=model,
            device=device,
            dtype=dtype,
            revision=revision,
            batch_size=batch_size,
            media_roots=tuple(media_root or ()),
            allow_remote=allow_remote,
            isolate=isolate,
            allow_pickle=allow_pickle,
            allow_remote_code=allow_remote_code,
        )
        results: Iterator[service.Result | scaling.ScaledResult]
        folder = None
        if strategy is None:
            if disrm is not None or run is not None or allow_fallback or stop_when_settled:
                raise ConfigError("--disrm, --run, --allow-fallback, --stop-when-settled go with --strategy: give one")
            judge = service.make_judge(service.load_model(chosen), options)
            results = service.judge_rows(judge, rows, method=method.value if score else None)
        else:
            if score:
                raise ConfigError("--strategy is for pairs, and --score for single candidates: leave out one")
            more = scaling.ScalingOptions(
                strategy=strategy.value,
                rubrics=rubrics,
                planner=planner.value,
                given=given or (),
                disrm=disrm,
                refiner=refiner,
                function=meta_reward.value,
                allow_fallback=allow_fallback,
                stop_when_settled=stop_when_settled,
                run=run,
            )
            scaled, folder = scaling.make_scaled_judge(chosen, options, more)
            results = scaling.scale_rows(scaled, rows, run=folder)
    tally = service.Tally()
    with ExitStack() as stack:
        stack.enter_context(errors_as_lines(debug=debug, judged=lambda: tally.judged > 0))
        if folder is not None:
            stack.enter_context(folder)
        file = stack.enter_context(open(out, "w", encoding="utf-8")) if out is not None else None
        show(results, tally, as_json=json, file=file)
        if not tally.total:
            raise SampleError(f"{samples_file}: no samples")
    raise typer.Exit({"all": ALL_JUDGED, "some": SOME_NOT_JUDGED, "none": NONE_JUDGED}[tally.outcome])


judge.__doc__ = f"""Judge a pair, or many samples from a file.

Two candidates from flags: omnirm judge --prompt "2 + 3?" --a 5 --b 6. Media: --a-image cat.png, --prompt-video
clip.mp4. Many samples: omnirm judge samples.jsonl --json. Results go to stdout, everything else to stderr.

{EXIT_CODES}"""


def show(
    results: Iterator[service.Result | scaling.ScaledResult],
    tally: service.Tally,
    *,
    as_json: bool,
    file: IO[str] | None = None,
) -> None:
    """Prints results as they come, as reports or JSON lines, writes them to `file`, and counts them."""
    from omnirm.report import make_console, model_note, print_report
    from omnirm.scaled_report import print_scaled

    console, notes = make_console(), dict[str, None]()
    for result in results:
        tally.add(result.judgment)
        if file is not None:
            file.write(result.judgment.to_json() + "\n")
            file.flush()
        if as_json:
            sys.stdout.write(result.judgment.to_json() + "\n")
            sys.stdout.flush()
        elif isinstance(result, scaling.ScaledResult):
            print_scaled(result.judgment, result.row.sample, console=console)
            console.print()
            for one in result.judgment.trajectories:
                notes[model_note(one.judgment)] = None
        else:
            print_report(result.judgment, result.row.sample, console=console, note=False)
            console.print()
            notes[model_note(result.judgment)] = None
    for note in filter(None, notes):
        console.print(note, style="yellow")
    if tally.total > 1 or tally.judged < tally.total:
        say(summary(tally))


def summary(tally: service.Tally) -> str:
    """The counts in one line."""
    parts = [f"{tally.judged} of {tally.total} judged"]
    if tally.both_orders:
        parts.append(f"{tally.consistent} of {tally.both_orders} position-consistent")
    if tally.labelled:
        parts.append(f"{tally.right} of {tally.labelled} as labelled")
    parts += [f"{reason}: {count}" for reason, count in sorted(tally.reasons.items())]
    return ", ".join(parts)


def read_text(value: str | None) -> str | None:
    """A text from a flag: itself, the content of `@FILE`, or what follows the first of two @."""
    if value is None or not value.startswith("@"):
        return value
    if value.startswith("@@"):
        return value[1:]
    try:
        return Path(value[1:]).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise SampleError(f"{value[1:]}: not UTF-8 at byte {e.start}") from e


def parse_rubric(value: str) -> tuple[Rubric, ...]:
    """Rubrics from a flag: `Name: text`, `Name (weight 2): text`, `Name`, or `@FILE` with a JSON list.

    Raises:
        SampleError: no name, or a weight that is no number.
    """
    if value.startswith("@"):
        from omnirm.sample import parse_rubrics
        from omnirm.strict_json import loads

        return parse_rubrics(loads(read_text(value) or ""))
    match = _RUBRIC.fullmatch(value.strip())
    if match is None:
        raise SampleError(f'rubric {value!r}: write "Name: what it asks" or "Name (weight 2): what it asks"')
    try:
        weight = float(1 if match["weight"] is None else match["weight"])
    except ValueError as e:
        raise SampleError(f"rubric {value!r}: the weight {match['weight']} is no number") from e
    return (Rubric(match["name"].strip(), (match["text"] or "").strip(), weight),)


def _rows(samples_file: str | None, content: tuple[service.Content, ...], score: bool) -> Iterator[service.Row]:
    prompt, a, b = content
    given = any(one.parts for one in content)
    if samples_file is not None:
        if given:
            raise ConfigError("give either a sample file or --prompt, --a and --b, not both")
        if samples_file == "-":
            return service.read_rows(sys.stdin.buffer, base=Path())
        path = Path(samples_file)
        if not path.is_file():
            raise SampleError(f"{path}: no such file")
        return service.read_rows(path)
    if not given:
        raise ConfigError("nothing to judge: give --prompt, --a and --b, or a sample file")
    candidates = [a] if score and not b.parts else [a, b]
    sample: Sample = service.build_sample(prompt, candidates)
    return iter([service.Row(sample.id, sample)])


def _tuple(values: list[str] | None) -> tuple[str, ...]:
    return tuple(values or ())
