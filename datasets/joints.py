"""Arrays of a file in the joint set of the model, matched by the joints' names.

A joint that both sets have is copied. One that the file lacks but others determine is derived, the mean of those
others as in `skeletons.convert`, from 2D in pixels and from 3D alike (the mean of two pixels is that of two points only
where they are equally far away; for hips and shoulders the difference is far below a detector's noise). It is as good
as the worst of its sources: observed if all of them are, in view if all of them are, with the lowest of their scores.
A joint that nothing determines is missing, masked in input and target.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from finepose_mp import schema
from finepose_mp.datasets.splits import DataError
from finepose_mp.skeletons import JOINT_SETS, convert, joint_set, joint_sources

# How the values of derived joints come about.
_POINTS = ("joints_3d_world", "joints_2d_detected", "joints_2d_projected")
_LOWEST = ("detection_score", "in_view")


@dataclass(frozen=True)
class JointConversion:
    """From the joint set of a file to that of a model."""

    source: str
    target: str

    @property
    def is_needed(self) -> bool:
        """Whether the two sets differ."""
        return self.source != self.target

    @property
    def shared(self) -> np.ndarray:
        """(J',) bool: joints of the target that the source has under the same name."""
        return np.array([name in joint_set(self.source).joints for name in joint_set(self.target).joints])

    def check_root(self) -> None:
        """Nothing when the source determines the target's root. Raises DataError that names what is missing."""
        target, sources = joint_set(self.target), joint_sources(self.source, self.target)
        missing = [target.joints[j] for j in target.root_joints if not sources[j]]
        if missing:
            others = [name for name in JOINT_SETS if all(joint_sources(self.source, name)[j] for j in _root_of(name))]
            raise DataError(
                f"its joints are {self.source}, which do not determine {' and '.join(missing)}, the root of "
                f"data.joint_set {self.target}; set data.joint_set to one of {', '.join(others) or 'none (no root)'}"
            )

    def __call__(self, name: str, values: np.ndarray) -> np.ndarray:
        """Values (..., J[, D]) of a variable in the target's joints; those of other variables as they are."""
        if not self.is_needed:
            return values
        if name in _POINTS:
            return convert(values, self.source, self.target)[0]
        if name in _LOWEST:
            return self._reduce(values, lambda of_sources: of_sources.min(axis=-1))
        return self._reduce(values, _weakest) if name == "joint_status" else values

    def _reduce(self, values: np.ndarray, reduce) -> np.ndarray:
        sources = joint_sources(self.source, self.target)
        result = np.zeros((*values.shape[:-1], len(sources)), values.dtype)
        for j, found in enumerate(sources):
            if found:
                result[..., j] = reduce(values[..., list(found)])
        return result


@cache
def conversion(source: str, target: str) -> JointConversion:
    """The conversion between two joint sets by name."""
    return JointConversion(source, target)


def _root_of(name: str) -> tuple[int, ...]:
    return joint_set(name).root_joints


def _weakest(status: np.ndarray) -> np.ndarray:
    """The status (...) of a joint made of others (..., n): missing if one is, else interpolated if one is."""
    interpolated = np.where((status == schema.INTERPOLATED).any(axis=-1), schema.INTERPOLATED, schema.OBSERVED)
    return np.where((status == schema.MISSING).any(axis=-1), schema.MISSING, interpolated)
