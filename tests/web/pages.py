"""What a person does on the page, in a few verbs. For the tests of this folder; it asserts nothing about results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from web.guard import guard_of

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

#: what Gradio says where a page is left while it hears from the server
LEFT = ("signal is aborted", "Connection errored out")


def visit(page: Page, url: str, tab: str = "Judge", *, dark: bool = False, **query: str) -> None:
    """Opens the app at a tab and waits until it can be used."""
    asked = {**query, **({"__theme": "dark"} if dark else {})}
    console = guard_of(page).console
    seen = len(console)
    page.goto(f"{url}/?{urlencode(asked)}" if asked else url)
    console[seen:] = [line for line in console[seen:] if not any(words in line for words in LEFT)]
    page.locator("#tabs [role=tab]").first.wait_for()
    if tab != "Judge":
        choose_tab(page, tab)


def choose_tab(page: Page, tab: str) -> None:
    """Goes to a tab."""
    chosen = page.get_by_role("tab", name=tab, exact=True)
    chosen.click()
    page.wait_for_function("tab => tab.getAttribute('aria-selected') === 'true'", arg=chosen.element_handle())


def box(page: Page, name: str) -> Locator:
    """The field to write in, within the widget of that elem_id."""
    return page.locator(f"#{name}").locator("textarea, input:not([type=file])").first


def give_file(page: Page, name: str, *files: Path | dict[str, object]) -> None:
    """Gives files to the upload field within the widget of that elem_id."""
    chosen = page.locator(f"#{name}")
    field = chosen.locator("input[type=file]").or_(page.locator(f":has(> #{name}) > input[type=file]")).first
    field.set_input_files([str(one) if isinstance(one, Path) else one for one in files])


def start_voting(page: Page, url: str, name: str, **how: bool) -> None:
    """Opens the Vote tab and starts on the set that is chosen there."""
    visit(page, url, "Vote", **how)
    box(page, "vote-name").fill(name)
    page.locator("#vote-start").click()
    page.locator("[data-vote-pair], [data-vote-done]").first.wait_for()


def vote(page: Page, key: str) -> str:
    """Votes by a key; gives back which candidate stood left, which the page only now tells."""
    page.wait_for_function("() => ![...document.querySelectorAll('.o-vote-choice')].some(one => one.disabled)")
    page.keyboard.press(key)
    reveal = page.locator("[data-vote-left]")
    reveal.wait_for()
    return reveal.get_attribute("data-vote-left") or ""


def next_pair(page: Page) -> None:
    """Goes on by the key, and waits for the next pair or the end."""
    before = page.locator("[data-vote-pair]").get_attribute("data-vote-pair")
    page.wait_for_function("() => !document.querySelector('#vote-next').disabled")
    page.keyboard.press("n")
    page.wait_for_function(
        "before => (document.querySelector('[data-vote-pair]')?.dataset.votePair ?? 'done') !== before", arg=before
    )


def choose(page: Page, name: str, choice: str) -> None:
    """Chooses from the menu of that elem_id the first entry with these words; it may close when entries are renewed."""
    from playwright.sync_api import TimeoutError

    entry = page.locator("[role=option]").filter(has_text=re.compile(rf"(^|\W){re.escape(choice)}")).first
    for patience in (3000, 6000, 20_000):
        page.locator(f"#{name} input").click()
        try:
            entry.click(timeout=patience)
            return
        except TimeoutError:
            if patience == 20_000:
                raise
            page.locator(f"#{name} input").blur()


def mode(page: Page, words: str) -> None:
    """Chooses what to do on the Judge tab: `Compare two`, `Score one`, `Rank several`."""
    page.locator("#judge-mode").get_by_text(words, exact=True).click()


def slot(page: Page, name: str, text: str = "", *files: Path | dict[str, object]) -> None:
    """Fills in the prompt (`prompt`) or a response (`response-0`, ...): text, files, or both."""
    if text:
        box(page, f"judge-{name}-text").fill(text)
    if files:
        give_file(page, f"judge-{name}-files", *files)
        page.locator(f"#judge-{name}-preview :is(img, video, audio, [role=alert])").first.wait_for()


def press_judge(page: Page) -> None:
    """Presses Judge; what is said in the meantime is collected for `steps`."""
    page.evaluate(
        """() => {
          window.omnirmSteps = [];
          const box = document.querySelector('#judge-progress');
          const look = () => {
            const said = box.querySelector('.o-judge-progress, .o-judge-notice, [role=alert]')?.innerText.trim();
            if (said && said !== omnirmSteps.at(-1)) omnirmSteps.push(said);
          };
          new MutationObserver(look).observe(box, {subtree: true, childList: true, characterData: true});
        }"""
    )
    page.locator("#judge-go").click()


def steps(page: Page) -> list[str]:
    """What the progress said since Judge was pressed."""
    return page.evaluate("() => window.omnirmSteps")


def result(page: Page, seconds: float = 60) -> Locator:
    """The result, once it is there."""
    found = page.locator("#judge-result .o-judge-result")
    found.wait_for(timeout=seconds * 1000)
    return found
