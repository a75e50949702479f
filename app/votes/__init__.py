"""Votes of people on pairs: taking them, where pairs come from, exports, the actions of the API."""
