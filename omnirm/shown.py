"""Untrusted text made safe to look at: nothing invisible, nothing that a terminal or a reader's eye would obey.

For reports and error messages. Never used on the way to a model: there the text stays as it is.
"""

from __future__ import annotations

import unicodedata

# besides the categories below: variation selectors, joiners and fillers that show as nothing
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810)}
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


def visible(text: str, *, newlines: bool = True) -> str:
    """The text with every control, format, bidirectional, private or unassigned character written as `<U+202E>`.

    Tabs become spaces; line breaks stay (`\\r\\n` and `\\r` as `\\n`), unless `newlines` is False: then they show as
    `⏎`.
    """
    text = text.replace("\r\n", "\n").replace("\t", "    ")
    out = []
    for char in text:
        if char == "\n":
            out.append("\n" if newlines else "⏎")
        elif unicodedata.category(char) in _HIDDEN_CATEGORIES or ord(char) in _INVISIBLE:
            out.append(f"<U+{ord(char):04X}>")
        else:
            out.append(char)
    return "".join(out)


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters, with what was left out said in numbers."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit} more characters)"
