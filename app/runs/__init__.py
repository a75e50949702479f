"""Stored runs and judgments: finding, reading and comparing them."""
