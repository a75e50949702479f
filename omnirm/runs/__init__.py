"""Run folders: what a long run has done so far, kept so that nothing of it has to be done twice."""

from omnirm.runs.folder import RunFolder, read_rows

__all__ = ["RunFolder", "read_rows"]
