"""The papers' tables in small, on the nano world: what `EXPERIMENTS.md` reports was made by these."""
