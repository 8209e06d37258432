"""Which frames, when, and which cameras of a sequence to show, and whether those asked for exist."""

import numpy as np

from finepose_mp.schema import CAMERA_KINDS, Sequence

_MOST_PICTURES = 1_000_000


def most_crowded_frame(sequence: Sequence) -> int:
    """Position 0..T-1 of the frame in which cameras see most joints, else most are predicted; the first of several."""
    seen = _joints_seen(sequence).sum(axis=0)
    if not seen.any() and sequence.predicted_3d_world is not None:
        seen = np.isfinite(sequence.predicted_3d_world).sum(axis=(1, 2, 3))
    return int(np.argmax(seen)) if len(seen) else 0


def cameras_with_most_people(sequence: Sequence, frame: int, count: int) -> list[str]:
    """Up to `count` names of cameras that see somebody at that frame: the best of every kind, then by joints seen."""
    check_frames(sequence, [frame])
    seen = _joints_seen(sequence)[:, frame]
    order = [int(k) for k in np.argsort(-seen, kind="stable") if seen[k]]
    best_of_kind = {sequence.camera_kind[k]: k for k in reversed(order)}
    chosen = dict.fromkeys([best_of_kind[kind] for kind in CAMERA_KINDS if kind in best_of_kind] + order)
    return [sequence.camera[k] for k in list(chosen)[:count]]


def seconds(sequence: Sequence) -> np.ndarray:
    """Times (T,) since the first frame, by the frames' numbers: some may be left out."""
    number = sequence.frame.astype(np.int64)
    return (number - number[:1]) / sequence.fps


def frame_rate(sequence: Sequence) -> float:
    """Frames a second that the sequence has where none is left out."""
    return sequence.fps / _number_step(sequence)


def pictures(sequence: Sequence, frames: range) -> list[int]:
    """Positions to show one after the other, at equal distances in time, `frame_rate / frames.step` a second.

    These are `frames`; where frames of the source are left out, the one before is held.

    Raises:
        ValueError: frame numbers that do not increase, or so far apart that the animation would not end.
    """
    number = sequence.frame[frames].astype(np.int64)
    if (np.diff(number) <= 0).any():
        raise ValueError(f"{sequence.name}/frame: expected increasing numbers, found a step back")
    step = _number_step(sequence) * frames.step
    count = int(number[-1] - number[0]) // step + 1
    if count > _MOST_PICTURES:
        raise ValueError(
            f"{sequence.name}: {len(frames)} frames from number {number[0]} to {number[-1]} are {count} pictures, more "
            f"than {_MOST_PICTURES}; choose a part with --frames, or .html"
        )
    shown = np.searchsorted(number, number[0] + step * np.arange(count), side="right") - 1
    return [frames[int(i)] for i in shown]


def _number_step(sequence: Sequence) -> int:
    """The distance of the numbers of frames that follow each other, 1 as a rule."""
    return int(np.gcd.reduce(np.diff(sequence.frame.astype(np.int64)))) or 1


def check_frames(sequence: Sequence, frames: list[int]) -> None:
    """Raises ValueError, saying which there are, when one of the positions is not in the sequence."""
    outside = [frame for frame in frames if not 0 <= frame < len(sequence.frame)]
    if outside:
        raise ValueError(f"{sequence.name} has frames 0 to {len(sequence.frame) - 1}, asked for {outside[0]}")


def check_cameras(sequence: Sequence, cameras: list[str]) -> None:
    """Raises ValueError, listing those there are, when a camera is not in the sequence."""
    unknown = [name for name in cameras if name not in sequence.camera]
    if unknown:
        known = f"cameras {', '.join(sequence.camera)}" if sequence.camera else "no camera"
        raise ValueError(f"{sequence.name} has {known}; not {', '.join(unknown)}")


def _joints_seen(sequence: Sequence) -> np.ndarray:
    """How many joints each camera sees in each frame: int (K, T)."""
    seen = (sequence.in_view > 0) | np.isfinite(sequence.joints_2d_detected).all(axis=-1)
    return seen.sum(axis=(2, 3), dtype=np.int64)
