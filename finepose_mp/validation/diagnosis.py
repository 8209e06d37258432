"""Why 3D and 2D disagree: the usual mistakes, tried on a sample of joints that do."""

import numpy as np

from finepose_mp import cameras
from finepose_mp.geometry import apply_rigid, invert_rigid

_MOST = 2000  # joints
_BETTER = 0.25  # a mistake explains the disagreement when it leaves less than this part of it
_NEIGHBOURS = (-1, 1)


class Sample:
    """Joints of one camera whose stored pixel is not where the joint is, of each kind of pixel."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.parts: dict[str, list[tuple[np.ndarray, ...]]] = {}
        self.counts: dict[str, int] = {}

    def add(self, kind: str, data, wrong: np.ndarray, stored: np.ndarray) -> None:
        """Adds joints `wrong` (T, P, J) of a block with their stored pixels (T, P, J, 2)."""
        if self.counts.get(kind, 0) >= _MOST or not wrong.any():
            return
        frame, person, joint = (axis[:_MOST] for axis in np.nonzero(wrong))
        last = len(data.joints) - 1
        times = [np.clip(frame + step, 0, last) for step in (0, *_NEIGHBOURS)]
        points = np.stack([data.joints[t, person, joint] for t in times])  # (3, N, 3)
        part = (points, data.pose[frame], data.params[frame], stored[frame, person, joint])
        self.parts.setdefault(kind, []).append(part)
        self.counts[kind] = self.counts.get(kind, 0) + len(frame)

    def explanation(self, kind: str) -> str:
        """The mistake that explains most of the disagreement, in words; empty when none of the known ones does."""
        if kind not in self.parts:
            return ""
        points, pose, params, stored = (
            np.concatenate(parts, axis=1 if i == 0 else 0)
            for i, parts in enumerate(zip(*self.parts[kind], strict=True))
        )
        if np.nanmax(np.abs(stored)) < 5:
            return "normalised coordinates, not pixels?"
        here = points[0]
        with np.errstate(all="ignore"):
            errors = {name: self._error(*case) for name, case in _mistakes(here, points[1:], pose, params, stored)}
            now = self._error(here, pose, params, stored)
        name = min(errors, key=errors.__getitem__)
        return name if errors[name] < _BETTER * now else ""

    def _error(self, points: np.ndarray, pose: np.ndarray, params: np.ndarray, stored: np.ndarray) -> float:
        """Median distance in pixels; infinite when fewer than half of the joints would be visible at all."""
        error = np.linalg.norm(cameras.project(apply_rigid(points, pose), self.model, params) - stored, axis=-1)
        return float(np.nanmedian(error)) if np.isfinite(error).mean() > 0.5 else np.inf


def _mistakes(here: np.ndarray, neighbours: np.ndarray, pose: np.ndarray, params: np.ndarray, stored: np.ndarray):
    """Pairs of a mistake's name and (points, poses, lenses, pixels) with that mistake undone."""

    def moved(factor: float) -> np.ndarray:
        return np.concatenate([pose[..., :3], pose[..., 3:] * factor], axis=-1)

    def turned(*signs: int) -> np.ndarray:
        return pose * np.array(signs)[:, None]

    yield "the pose maps camera to world?", (here, invert_rigid(pose), params, stored)
    yield "a translation in millimetres?", (here, moved(1e-3), params, stored)
    yield "a translation in centimetres?", (here, moved(1e-2), params, stored)
    yield "3D in millimetres?", (here * 1e-3, pose, params, stored)
    yield "a camera with y up and z backwards?", (here, turned(1, -1, -1), params, stored)
    yield "a camera with x and y reversed?", (here, turned(-1, -1, 1), params, stored)
    yield "u and v exchanged?", (here, pose, params, stored[..., ::-1])
    yield "the translation is the camera's centre?", (here, _from_centre(pose), params, stored)
    for step, points in zip(_NEIGHBOURS, neighbours, strict=True):
        word = "later" if step < 0 else "earlier"
        yield f"2D one frame {word} than 3D?", (points, pose, params, stored)


def _from_centre(pose: np.ndarray) -> np.ndarray:
    """Poses whose last column was the camera's place in the world instead of t = -R c."""
    return np.concatenate([pose[..., :3], -pose[..., :3] @ pose[..., 3:]], axis=-1)
