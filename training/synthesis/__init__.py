"""Synthesis of training data from labelled preference pairs: exploring them, making rows, writing them with cards."""

from omnirm.training.synthesis.choices import RowSettings
from omnirm.training.synthesis.explorer import Explored, Explorer
from omnirm.training.synthesis.ngrams import Benchmarks
from omnirm.training.synthesis.sets import DataSets, explore, make_sets, write_sets

__all__ = ["Benchmarks", "DataSets", "Explored", "Explorer", "RowSettings", "explore", "make_sets", "write_sets"]
