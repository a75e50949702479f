"""The few facts of a stored judgment that lists, filters and statistics need: from one line of a run folder.

For `run_reading`. Lines of rubric scaling are long (some 20 KB with ten rubrics), so their facts are read from the two
ends of the line where it has the form that run folders have; any other line is read whole. It opens no file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from omnirm.errors import SampleError

MODALITIES = ("text", "image", "video", "audio")
_HEAD, _TAIL = b',"planned":[', b',"stopped":"'
_AGREES, _DISAGREES = b'"position_consistent":true', b'"position_consistent":false'


@dataclass(frozen=True, slots=True)
class RowFacts:
    """One judgment, short.

    kind: `pairwise`, `pointwise` or `scaled`. verdict: the letter of the best candidate or `tie`; None where nothing
    could be read. label: alike. confidence: in [0, 1].
    correct: does the verdict equal the label? None without a label or without a verdict.
    in_both_orders, agreeing: readings that were made in both orders, and those of them that said the same both times.
    reason: why there is no verdict, the kind of failure in a word; "" where there is one.
    """

    sample_id: str
    kind: str
    verdict: str | None = None
    label: str | None = None
    confidence: float | None = None
    correct: bool | None = None
    in_both_orders: int = 0
    agreeing: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reason: str = ""


def facts_of_line(line: bytes) -> RowFacts:
    """The facts of a line.

    Raises:
        SampleError: it is not JSON, or no judgment; the message says what it is instead.
    """
    line = line.rstrip(b"\r\n")
    quick = _from_ends(line)
    return facts_of(parse_line(line)) if quick is None else quick


def parse_line(line: bytes) -> Any:
    """The JSON value of a line. Raises `SampleError` where it is none."""
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:  # knows a little more: half of a surrogate pair, very long numbers
        return json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise SampleError(f"not JSON ({error})") from error


def facts_of(record: Any) -> RowFacts:
    """The facts of a judgment as a dict.

    Raises:
        SampleError: it is no judgment.
    """
    if not isinstance(record, Mapping):
        raise SampleError("no judgment: not an object")
    kind, sample_id = record.get("kind"), record.get("sample_id")
    if kind not in ("pairwise", "pointwise", "scaled"):
        raise SampleError("no judgment: the key kind is none of pairwise, pointwise and scaled")
    if not isinstance(sample_id, str):
        raise SampleError("no judgment: the key sample_id is missing")
    try:
        return {"pairwise": _pairwise, "pointwise": _pointwise, "scaled": _scaled}[kind](record, sample_id)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise SampleError(f"no whole judgment ({type(error).__name__}: {error})") from error


def reasons_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Why there is no verdict, or why some readings have none; every reason once."""
    found = [str(record["error"])] if record.get("error") else []
    for call in _calls(record):
        failure = call.get("failure")
        if failure:
            detail = failure.get("detail")
            found.append(f"{failure['reason']}: {detail}" if detail else str(failure["reason"]))
    found += [str(one["failure"]) for one in record.get("trajectories", ()) if one.get("failure")]
    return tuple(dict.fromkeys(found))


def modalities_of(sample: Mapping[str, Any]) -> tuple[str, ...]:
    """The modalities of a sample's prompt and candidates, in the order text, image, video, audio."""
    found = {kind for kind, _ in parts_of(sample)}
    return tuple(kind for kind in MODALITIES if kind in found)


def parts_of(sample: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(kind, value) of every part of a sample in its file form, prompt first. What has no known form is left out."""
    yield from _parts(sample.get("prompt"))
    yield from _parts(sample.get("candidates"))


def texts_of(sample: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a sample."""
    return (value for kind, value in parts_of(sample) if kind == "text" and isinstance(value, str))


def _parts(content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, str):
        yield "text", content
    elif isinstance(content, Mapping):
        if "type" in content:
            kind = str(content["type"]).removeprefix("input_").removesuffix("_url")
            if kind in MODALITIES:
                yield kind, content.get(kind, content.get("text"))
        else:
            yield from _parts(content.get("content"))
    elif isinstance(content, Sequence):
        for one in content:
            yield from _parts(one)


def _from_ends(line: bytes) -> RowFacts | None:
    """Facts of a judged line of rubric scaling as run folders write it; None for any other line.

    Inside a JSON string every quotation mark has a backslash, so the marks looked for are never a text's.
    """
    head, tail = line.find(_HEAD), line.rfind(_TAIL)
    if not 0 < head < tail or not line.endswith(b',"kind":"scaled"}'):
        return None
    try:
        record = parse_line(line[:head] + b"}") | parse_line(b"{" + line[tail + 1 :])
    except (SampleError, TypeError):
        return None
    if not isinstance(record.get("sample_id"), str) or record.get("verdict") is None:
        return None
    agreeing, disagreeing = line.count(_AGREES), line.count(_DISAGREES)
    try:
        return _scaled_facts(record, record["sample_id"], agreeing, agreeing + disagreeing)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _pairwise(record: Mapping[str, Any], sample_id: str) -> RowFacts:
    verdict, label = _verdict(record["verdict"]), _verdict(record.get("label"))
    consistent = record.get("position_consistent")
    calls = [one["call"] for one in record.get("calls", ())]
    return RowFacts(
        sample_id, "pairwise", verdict, label, _share(record.get("confidence")),
        None if verdict is None or label is None else verdict == label,
        int(consistent is not None), int(consistent is True),
        len(calls), _sum(calls, "prompt_tokens"), _sum(calls, "completion_tokens"), _why(record, verdict),
    )  # fmt: skip


def _pointwise(record: Mapping[str, Any], sample_id: str) -> RowFacts:
    candidates, best, label = record["candidates"], record.get("best"), record.get("label")
    shared = best is None and bool(candidates) and all(one.get("score") is not None for one in candidates)
    verdict = "tie" if shared and len(candidates) > 1 else _letter(best)
    wanted = "tie" if label == "tie" else _letter(label)
    calls = [one["call"] for candidate in candidates for one in candidate.get("calls", ())]
    calls += [
        one["thought"] for candidate in candidates for one in candidate.get("calls", ()) if one.get("thought")
    ]  # fmt: skip
    return RowFacts(
        sample_id, "pointwise", verdict, wanted, None,
        None if verdict is None or wanted is None else verdict == wanted,
        0, 0, len(calls), _sum(calls, "prompt_tokens"), _sum(calls, "completion_tokens"), _why(record, verdict),
    )  # fmt: skip


def _scaled(record: Mapping[str, Any], sample_id: str) -> RowFacts:
    orders = [one["judgment"].get("position_consistent") for one in record.get("trajectories", ())]
    return _scaled_facts(record, sample_id, orders.count(True), len(orders) - orders.count(None))


def _scaled_facts(record: Mapping[str, Any], sample_id: str, agreeing: int, in_both: int) -> RowFacts:
    verdict, label = _verdict(record["verdict"]), _verdict(record.get("label"))
    compute = record.get("compute") or {}
    return RowFacts(
        sample_id, "scaled", verdict, label, _share(record.get("confidence")),
        None if verdict is None or label is None else verdict == label,
        in_both, agreeing,
        int(compute.get("calls", 0)), int(compute.get("prompt_tokens", 0)), int(compute.get("completion_tokens", 0)),
        _why(record, verdict),
    )  # fmt: skip


def _calls(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from record.get("calls", ())
    for one in record.get("candidates", ()):
        yield from one.get("calls", ())
    for one in record.get("trajectories", ()):
        yield from one["judgment"].get("calls", ())
        if one["judgment"].get("error"):
            yield {"failure": {"reason": one["judgment"]["error"]}}


def _why(record: Mapping[str, Any], verdict: str | None) -> str:
    if verdict is not None:
        return ""
    reasons = reasons_of(record)
    return reasons[0].partition(":")[0][:60] if reasons else "no verdict"


def _sum(calls: Sequence[Mapping[str, Any]], key: str) -> int:
    return sum(int(call.get(key, 0)) for call in calls)


def _share(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1 else None


def _verdict(value: Any) -> str | None:
    if value not in (None, "A", "B", "tie"):
        raise ValueError("a verdict or label that is none of A, B and tie")
    return value


def _letter(index: Any) -> str | None:
    return ascii_uppercase[index] if isinstance(index, int) and 0 <= index < len(ascii_uppercase) else None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
