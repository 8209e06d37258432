"""What training, inference, loading and conversion cost, in yardsticks that mean the same on every machine."""

from finepose_mp.benchmark.arms import Arm, Sizes, inference_arms, training_arms
from finepose_mp.benchmark.data import measure_conversion, measure_loading
from finepose_mp.benchmark.measuring import Measurement, measure
from finepose_mp.benchmark.report import as_json, surroundings, table

__all__ = [
    "Arm",
    "Measurement",
    "Sizes",
    "as_json",
    "inference_arms",
    "measure",
    "measure_conversion",
    "measure_loading",
    "surroundings",
    "table",
    "training_arms",
]
