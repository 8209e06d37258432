"""Protocols that turn a trained model and a data file into numbers, and the files that hold them."""

from finepose_mp.evaluation.examples import Example
from finepose_mp.evaluation.options import Options
from finepose_mp.evaluation.preparation import Evaluation
from finepose_mp.evaluation.protocols import (
    PROTOCOLS,
    Protocol,
    evaluate,
    headline_table,
    protocol_for,
    render,
)
from finepose_mp.evaluation.results import results_paths, write_results
from finepose_mp.evaluation.scoring import EvaluationError

__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "EvaluationError",
    "Example",
    "Options",
    "Protocol",
    "evaluate",
    "headline_table",
    "protocol_for",
    "render",
    "results_paths",
    "write_results",
]
