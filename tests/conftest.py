"""Puts this folder on the import path, so that tests share tables such as `hostile_texts`."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("omnirm", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("omnirm")
