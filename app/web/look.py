"""How the app looks: theme, style sheets and scripts, all our own files. Nothing is fetched from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from omnirm.app.web.rendering import render

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_SELECTOR = re.compile(r"[^{}]*:is\([^{}]*(?=\{)")
_IS = re.compile(r":is\(((?:[^()]|\([^()]*\))*)\)")
_COMMA = re.compile(r",(?![^(]*\))")
STATIC = Path(__file__).parent / "static"
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> Any:
    """Gradio's plain theme in the colours of `static/base.css`, with the fonts of the reader's own machine."""
    import gradio as gr

    colours = {
        "body_background_fill": "var(--o-bg)",
        "background_fill_primary": "var(--o-card)",
        "background_fill_secondary": "var(--o-soft)",
        "block_background_fill": "var(--o-card)",
        "block_border_color": "var(--o-line)",
        "block_label_background_fill": "var(--o-card)",
        "block_label_text_color": "var(--o-muted)",
        "block_title_text_color": "var(--o-text)",
        "block_info_text_color": "var(--o-muted)",
        "body_text_color": "var(--o-text)",
        "body_text_color_subdued": "var(--o-muted)",
        "border_color_primary": "var(--o-line)",
        "border_color_accent": "var(--o-accent)",
        "color_accent_soft": "var(--o-accent-soft)",
        "input_background_fill": "var(--o-card)",
        "input_border_color": "var(--o-line)",
        "input_border_width": "1px",
        "input_placeholder_color": "var(--o-muted)",
        "panel_background_fill": "var(--o-card)",
        "link_text_color": "var(--o-accent)",
        "link_text_color_hover": "var(--o-accent)",
        "link_text_color_visited": "var(--o-accent)",
        "button_primary_background_fill": "#2a5bd7",
        "button_primary_background_fill_hover": "#214bb5",
        "button_primary_text_color": "#ffffff",
        "button_secondary_background_fill": "var(--o-soft)",
        "button_secondary_background_fill_hover": "var(--o-accent-soft)",
        "button_secondary_text_color": "var(--o-text)",
        "button_cancel_background_fill": "var(--o-soft)",
        "button_cancel_background_fill_hover": "var(--o-bad-soft)",
        "button_cancel_text_color": "var(--o-bad)",
        "checkbox_label_background_fill": "var(--o-soft)",
        "checkbox_label_background_fill_hover": "var(--o-accent-soft)",
        "checkbox_label_background_fill_selected": "var(--o-accent-soft)",
        "checkbox_label_text_color": "var(--o-text)",
        "checkbox_label_text_color_selected": "var(--o-text)",
        "table_even_background_fill": "var(--o-card)",
        "table_odd_background_fill": "var(--o-soft)",
    }
    base = gr.themes.Base(primary_hue="blue", neutral_hue="slate", radius_size="lg", font=_FONT, font_mono=_MONO)
    dark = {f"{name}_dark": value for name, value in colours.items()}
    return base.set(block_radius="12px", block_shadow="none", button_large_radius="10px", **colours, **dark)


def css() -> str:
    """The style sheets, the common one first. Gradio cuts selectors at every comma, so `:is(a, b)` is written out."""
    names = ["base.css", *sorted(path.name for path in STATIC.glob("*.css") if path.name != "base.css")]
    sheets = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)
    return _SELECTOR.sub(lambda found: ", ".join(_written_out(found[0])), _COMMENT.sub("", sheets))


def _written_out(selectors: str) -> list[str]:
    """Each selector of a list, with every `:is(a, b)` in it as one selector for a and one for b."""
    out = []
    for one in _COMMA.split(selectors):
        found = _IS.search(one)
        if found is None:
            out.append(one)
        else:
            out += [x for part in _COMMA.split(found[1]) for x in _written_out(_IS.sub(part.strip(), one, count=1))]
    return out


def head() -> str:
    """What goes into the page's head: our own scripts, word for word."""
    return "\n".join(f"<script>{script}</script>" for script in _scripts())


def first_screen() -> str:
    """What is seen at once, before the scripts of the page have made its widgets; it goes when they are there."""
    return render("first_screen.html", head=render("page_head.html"))


def script_hashes() -> list[str]:
    """Our own scripts as a content security policy names them: Gradio puts them into the page only in the browser."""
    digests = (hashlib.sha256(script.encode()).digest() for script in _scripts())
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


def _scripts() -> list[str]:
    return [f"\n{path.read_text(encoding='utf-8')}\n" for path in sorted(STATIC.glob("*.js"))]


def dressed() -> dict[str, Any]:
    """Theme, style sheets and scripts, as `gr.mount_gradio_app` and `Blocks.launch` take them."""
    return {"theme": theme(), "css": css(), "head": head()}
