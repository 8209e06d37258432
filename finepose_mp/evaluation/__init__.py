"""Protocols that turn a trained model and a data file into numbers, and the files that hold them."""

from finepose_mp.evaluation.egohumans import Evaluation, evaluate
from finepose_mp.evaluation.examples import Example
from finepose_mp.evaluation.options import Options
from finepose_mp.evaluation.report import headline_table, render
from finepose_mp.evaluation.results import check_free, results_paths, write_results
from finepose_mp.evaluation.scoring import EvaluationError

__all__ = [
    "Evaluation",
    "EvaluationError",
    "Example",
    "Options",
    "check_free",
    "evaluate",
    "headline_table",
    "render",
    "results_paths",
    "write_results",
]
