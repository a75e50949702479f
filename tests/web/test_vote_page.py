"""The Vote tab in a browser: pairs of all modalities, keys, what stays hidden, two videos, agreement, export."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from web.pages import box, give_file, next_pair, start_voting, visit, vote

from omnirm.app.store.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: what a vote means for the pair, given what stood left
MEANS = {"1": {"A": 0, "B": 1}, "2": {"A": 1, "B": 0}}


def _sides(page: Page) -> list[str]:
    """What stands on each side: its text, or the addresses of its media."""
    return page.locator("[data-vote-side]").evaluate_all(
        "sides => sides.map(side => [...side.querySelectorAll('img, video, audio')].map(m => m.src).join(' ')"
        " || side.innerText)"
    )


def _media_work(page: Page) -> bool:
    """Has every picture on both sides been drawn, and every video and sound a length?"""
    page.wait_for_function(
        """() => [...document.querySelectorAll('.o-vote-pair :is(img, video, audio)')].every(m =>
             m.localName === 'img' ? m.complete : m.readyState >= 1 || m.error)"""
    )
    return page.evaluate(
        """() => [...document.querySelectorAll('.o-vote-pair :is(img, video, audio)')].every(m =>
             m.localName === 'img' ? m.naturalWidth > 0 : m.duration > 0)"""
    )


def _exported(page: Page, folder: Path) -> list[dict[str, Any]]:
    page.locator("#vote-export button").first.click()
    page.locator("#vote-export-button").click()
    page.locator("#vote-download").wait_for()
    with page.expect_download() as download:
        page.locator("#vote-download").click()
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_person_votes_on_pairs_of_all_modalities_by_keys(page: Page, studio_server, tmp_path: Path) -> None:
    start_voting(page, studio_server.url, "Ada")
    expected, kinds = {}, set()
    for key in ("1", "2", "1", "2", "1"):
        prompt = page.locator(".o-vote-prompt").inner_text()
        pair = page.locator(".o-vote-pair")
        kinds |= set(pair.evaluate("p => ['img', 'video', 'audio'].filter(kind => p.querySelector(kind))"))
        assert _media_work(page)
        assert page.locator("[data-vote-left]").count() == 0
        left = vote(page, key)
        said = page.locator("#vote-reveal-heading").inner_text()
        assert said == f"You said: {'Left' if key == '1' else 'Right'} is better."
        expected[prompt.removeprefix("Prompt").strip()] = MEANS[key][left]
        next_pair(page)
    assert kinds == {"img", "video", "audio"}
    assert "Thank you. You have voted on all 5 pairs." in page.locator("[data-vote-done]").inner_text()

    store = Store(f"sqlite:///{studio_server.server.data / 'omnirm.db'}")
    found = next(one for one in store.vote_sets() if one.source == str(studio_server.samples))
    prompts = {one.pair_id: _prompt_text(one.sample).strip() for one in store.pairs(found.id)}
    votes = store.votes(found.id)
    store.close()
    assert {prompts[one.pair_id]: "AB".index(one.choice) for one in votes if one.annotator == "Ada"} == expected

    rows = _exported(page, tmp_path)  # of everybody who has voted: what most prefer
    for row in rows:
        said = Counter(one.choice for one in votes if prompts[one.pair_id] == _prompt_text(row).strip())
        assert said["AB"[row["label"]]] > said["BA"[row["label"]]]
    assert rows


def _prompt_text(row: dict[str, Any]) -> str:
    prompt = row["prompt"]
    if isinstance(prompt, str):
        return prompt
    parts = prompt[0].get("content", prompt) if "role" in prompt[0] else prompt
    return parts if isinstance(parts, str) else "".join(part.get("text", "") for part in parts)


def test_every_key_does_what_it_says(page: Page, studio_server) -> None:
    start_voting(page, studio_server.url, "Bert")
    said = {"1": "Left is better.", "2": "Right is better.", "0": "a tie.", "x": "both are bad."}
    for key, words in said.items():
        vote(page, key)
        assert page.locator("#vote-reveal-heading").inner_text() == f"You said: {words}"
        page.keyboard.press("u")
        page.locator("[data-vote-left]").wait_for(state="detached")
    before = page.locator("[data-vote-pair]").get_attribute("data-vote-pair")
    page.keyboard.press("s")
    page.wait_for_function("old => document.querySelector('[data-vote-pair]').dataset.votePair !== old", arg=before)


def test_keys_are_letters_while_one_writes(page: Page, studio_server) -> None:
    start_voting(page, studio_server.url, "Cleo")
    page.locator("#vote-more button").first.click()
    box(page, "vote-comment").press_sequentially("10 x 2 nu")
    assert box(page, "vote-comment").input_value() == "10 x 2 nu"
    assert page.locator("[data-vote-left]").count() == 0


def test_a_session_goes_on_after_a_reload_with_the_same_sides(page: Page, studio_server) -> None:
    start_voting(page, studio_server.url, "Dora")
    vote(page, "1")
    next_pair(page)
    number, sides = page.locator("[data-vote-pair]").get_attribute("data-vote-pair"), _sides(page)
    visit(page, studio_server.url, "Vote")
    page.wait_for_function("() => document.querySelector('#vote-name :is(textarea, input)').value === 'Dora'")
    page.locator("#vote-start").click()
    page.locator("[data-vote-pair]").wait_for()
    assert page.locator("[data-vote-pair]").get_attribute("data-vote-pair") == number
    assert _sides(page) == sides
    assert "1 of 5 done" in page.locator("#vote-progress").inner_text()


def test_two_videos_play_and_scrub_together(page: Page, studio_server) -> None:
    start_voting(page, studio_server.url, "Emil")
    while page.locator(".o-vote-side video").count() != 2:
        vote(page, "0")
        next_pair(page)
    times = "() => [...document.querySelectorAll('.o-vote-side video')].map(v => v.currentTime)"
    page.wait_for_function("() => !document.querySelector('[data-vote-do=play]').disabled")
    page.keyboard.press("Space")
    page.wait_for_function("() => [...document.querySelectorAll('.o-vote-side video')].every(v => v.currentTime > 0.1)")
    apart = []
    for _ in range(5):
        a, b = page.evaluate(times)
        apart.append(abs(a - b))
        page.wait_for_timeout(60)
    assert max(apart) < 0.15, apart
    page.evaluate(
        "() => { const seek = document.querySelector('[data-vote-do=seek]'); seek.value = '0.5';"
        " seek.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    still = "() => [...document.querySelectorAll('.o-vote-side video')].every(v => v.paused && !v.seeking)"
    page.wait_for_function(still)
    a, b = page.evaluate(times)
    assert abs(a - 0.5) < 0.05
    assert abs(a - b) < 0.01
    page.locator("[data-vote-do=forward]").click()
    page.wait_for_function("() => [...document.querySelectorAll('.o-vote-side video')].every(v => v.currentTime > 0.5)")
    a, b = page.evaluate(times)
    assert abs(a - b) < 0.01


def test_the_judge_is_told_after_the_vote_and_counted(page: Page, studio_server) -> None:
    start_voting(page, studio_server.url, "Fay")
    page.locator("#vote-judge button").first.click()
    page.locator("#vote-judge-button").click()
    page.get_by_text("The judge is done.").wait_for(timeout=90_000)
    for key in ("1", "2", "0", "1", "2"):
        assert page.locator("[data-vote-left]").count() == 0
        vote(page, key)
        assert page.get_by_text("Why the judge says so").is_visible()
        next_pair(page)
    page.locator("#vote-agreement button").first.click()
    rows = page.locator(".o-vote-table tbody tr")
    rows.filter(has_text="Fay").filter(has_text="judge").first.wait_for()


def test_what_is_missing_is_said_in_a_sentence(page: Page, studio_server, tmp_path: Path) -> None:
    visit(page, studio_server.url, "Vote")
    box(page, "vote-name").fill("")
    page.locator("#vote-start").click()
    page.get_by_text("Write your name first").wait_for()
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b"\x00\xff\n")
    give_file(page, "vote-upload", broken)
    page.locator("#vote-notice [role=alert]").get_by_text("This file could not be used.").wait_for()


def test_votes_of_two_people_are_compared(page: Page, studio_server, open_page: Callable[..., Page]) -> None:
    for one, name in ((page, "Hal"), (open_page(studio_server.server.host), "Ida")):
        one.bring_to_front()
        start_voting(one, studio_server.url, name)
        for _ in range(5):
            vote(one, "0")
            next_pair(one)
    one.locator("#vote-agreement button").first.click()
    rows = one.locator(".o-vote-table tbody tr")
    rows.filter(has_text="Hal").filter(has_text="Ida").filter(has_text="100 %").first.wait_for()


# Last: the set that is uploaded is the newest, which everybody is offered first afterwards.
def test_pairs_can_be_uploaded(page: Page, studio_server, tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    rows = [{"id": str(i), "prompt": f"{i} + 1?", "candidates": [str(i + 1), "no idea"]} for i in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not JSON\n")
    visit(page, studio_server.url, "Vote")
    give_file(page, "vote-upload", file)
    page.get_by_text("3 pairs taken in").wait_for()
    assert "sums:4" in page.locator("#vote-notice").inner_text()
    box(page, "vote-name").fill("Gil")
    page.locator("#vote-start").click()
    page.locator("[data-vote-pair]").wait_for()
    assert "Pair 1 of 3" in page.locator("#vote-progress").inner_text()
