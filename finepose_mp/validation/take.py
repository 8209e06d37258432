"""One sequence of a file under validation: its names and numbers, and its arrays read a block of frames at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import h5py
import numpy as np

from finepose_mp.schema import MISSING
from finepose_mp.skeletons import JointSet
from finepose_mp.validation.findings import INFO, WARNING, Findings

# Numbers of one camera's block of pixels: a few arrays of them at once stay far below 100 MB.
_BLOCK_NUMBERS = 400_000
TRUTH, PREDICTION = "joints_3d_world", "predicted_3d_world"
_LONGEST_BLOCK = 2048  # frames; a multiple of the chunks that `schema` writes, so that each is unpacked once


class DamagedDataError(ValueError):
    """Data that the HDF5 library cannot read; the message names the variable and the frames."""


@dataclass
class Take:
    """A sequence whose coordinates are sound. `usable` names the variables that have the right shape and type."""

    group: h5py.Group
    name: str
    frame: np.ndarray  # (T,)
    person: list[str]
    camera: list[str]
    joints: JointSet
    notes: Findings
    usable: set[str] = field(default_factory=set)
    attributes: dict = field(default_factory=dict)
    poses: str = TRUTH  # the variable that says where people are: where nobody has a true pose, the prediction
    is_metric: bool = True  # False once people turned out not to be given in metres: distances then mean nothing

    def has(self, *variables: str) -> bool:
        """Whether all of these can be read."""
        return self.usable.issuperset(variables)

    @property
    def doubt(self) -> str:
        """Severity of odd poses: of a prediction they say how good the model is, not whether the file is sound."""
        return WARNING if self.poses == TRUTH else INFO

    def blocks(self) -> Iterator[slice]:
        """Runs of frames that together cover the sequence, each small enough for memory."""
        numbers = max(1, len(self.person) * len(self.joints) * 2)
        length = int(np.clip(_BLOCK_NUMBERS // numbers, 1, _LONGEST_BLOCK))
        length = max(length // 256 * 256, min(length, 256))
        for start in range(0, len(self.frame), length):
            yield slice(start, min(start + length, len(self.frame)))

    def read(self, variable: str, *selection: int | slice) -> np.ndarray:
        """A part of a variable.

        Raises:
            DamagedDataError: the HDF5 library cannot.
        """
        try:
            return self.group[variable][selection]
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            frames = next((s for s in selection if isinstance(s, slice)), slice(0, len(self.frame)))
            where = f"frames {self.frame[frames.start or 0]} to {self.frame[(frames.stop or len(self.frame)) - 1]}"
            raise DamagedDataError(f"{self.name}/{variable}, {where}: cannot be read ({error})") from error

    def positions(self, block: slice) -> np.ndarray:
        """Joints (T, P, J, 3) of `poses` in a block of frames, NaN where there is none. Raises DamagedDataError.

        Predicted people whom no camera of known pose sees have a pose, and no position.
        """
        joints = self.read(self.poses, block).astype(np.float64)
        missing = ~np.isfinite(joints).all(axis=-1)
        if self.poses == TRUTH:
            missing |= self.read("joint_status", block) == MISSING
        else:
            missing[:, [name in self.attributes.get("root_relative", ()) for name in self.person]] = True
        return np.where(missing[..., None], np.nan, joints)

    def texts(self, variable: str) -> list[str]:
        """A variable of text, one a camera. Raises DamagedDataError."""
        try:
            return self.group[variable].asstr()[...].tolist()
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedDataError(f"{self.name}/{variable}: cannot be read ({error})") from error


class Spread:
    """Distributions of non-negative numbers of several kinds in fixed memory: quantiles to 1 percent, exact maxima."""

    _LOWEST, _HIGHEST, _BINS = 1e-6, 1e9, 3500  # bins 1 percent wide

    def __init__(self, kinds: int) -> None:
        self.counts = np.zeros((kinds, self._BINS), np.int64)
        self.highest = np.zeros(kinds)

    def add(self, values: np.ndarray, kinds: np.ndarray | int) -> None:
        """Adds finite values (N,) of kinds (N,)."""
        kinds = np.broadcast_to(kinds, values.shape)
        span = np.log(self._HIGHEST / self._LOWEST)
        place = np.log(np.clip(values, self._LOWEST, self._HIGHEST) / self._LOWEST) / span * (self._BINS - 1)
        flat = np.bincount((kinds * self._BINS + np.rint(place).astype(np.int64)).ravel(), minlength=self.counts.size)
        self.counts += flat.reshape(self.counts.shape)
        np.maximum.at(self.highest, kinds.ravel(), values.ravel())

    def total(self) -> np.ndarray:
        """Number of values of every kind."""
        return self.counts.sum(axis=1)

    def quantile(self, part: float) -> np.ndarray:
        """The value of every kind below which `part` of its values lie; NaN where there is none."""
        totals = self.total()
        place = (np.cumsum(self.counts, axis=1) >= np.maximum(part * totals, 1)[:, None]).argmax(axis=1)
        span = np.log(self._HIGHEST / self._LOWEST)
        values = self._LOWEST * np.exp(place / (self._BINS - 1) * span)
        return np.where(totals > 0, np.minimum(values, self.highest), np.nan)

    def merged(self) -> "Spread":
        """All kinds as one."""
        one = Spread(1)
        one.counts, one.highest = self.counts.sum(axis=0, keepdims=True), self.highest.max(keepdims=True, initial=0)
        return one
