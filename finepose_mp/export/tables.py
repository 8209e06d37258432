"""Poses as CSV, NumPy archive and TRC."""

import csv
from pathlib import Path

import numpy as np

from finepose_mp.export.poses import Poses

CSV_COLUMNS = ("frame", "time_s", "person", "joint", "x_m", "y_m", "z_m")
PREDICTION_COLUMNS = ("status", "spread_m")
_STATUS = {1: "seen", 2: "inferred"}


def write_csv(poses: Poses, path: Path) -> None:
    """A row for every joint that is there; lines that begin with # say what the numbers mean.

    Predictions that say so have two more columns: whether the person was seen, and the spread of the hypotheses.
    """
    up = poses.up
    is_predicted = poses.status is not None and poses.spread is not None
    with open(path, "w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {poses.sequence}: {poses.variable}, {poses.fps:g} frames a second\n")
        stream.write(f"# metres; {up} points up; {poses.coordinate_frame}; joint set {poses.joints.name}\n")
        stream.write("# missing joints have no row\n")
        rows = csv.writer(stream)
        rows.writerow(CSV_COLUMNS + PREDICTION_COLUMNS * is_predicted)
        for t, p, j in np.argwhere(np.isfinite(poses.points).all(axis=-1)):
            place = (f"{value:.6f}" for value in poses.points[t, p, j])
            row = [poses.frame[t], f"{poses.time[t]:.6f}", poses.person[p], poses.joints.joints[j], *place]
            if is_predicted:
                row += [_STATUS.get(int(poses.status[t, p]), ""), f"{poses.spread[t, p, j]:.6f}"]
            rows.writerow(row)


def write_npz(poses: Poses, path: Path) -> None:
    """Arrays by name, all of them numbers or text, so that they load without pickles."""
    arrays = {
        "joints_3d": poses.points,  # (frame, person, joint, xyz) metres, NaN where missing
        "frame": poses.frame,
        "time_s": poses.time,
        "fps": np.float64(poses.fps),
        "person": np.array(poses.person),
        "joint": np.array(poses.joints.joints),
        "joint_parents": np.array(poses.joints.parents),
        "joint_set": np.array(poses.joints.name),
        "units": np.array("m"),
        "up_axis": np.array(poses.up),
        "coordinate_frame": np.array(poses.coordinate_frame),
        "sequence": np.array(poses.sequence),
        "variable": np.array(poses.variable),
    }
    if poses.status is not None:
        arrays["status"] = poses.status  # (frame, person) 0 no pose, 1 seen, 2 inferred
    if poses.spread is not None:
        arrays["spread"] = poses.spread  # (frame, person, joint) metres
    with open(path, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def write_trc(poses: Poses, person: int, path: Path, name: str) -> None:
    """One person as markers in OpenSim's TRC: metres, +y up; fields of missing markers are empty.

    `name` is what the file calls itself. Frames that the source leaves out have a row of empty fields: some readers go
    by the rate, others by the time.
    """
    points, frames_per_second = poses.at_regular_times(poses.points_y_up[:, person])
    rate, count, names = f"{frames_per_second:g}", len(points), poses.joints.joints
    axes = [f"{axis}{n}" for n in range(1, len(names) + 1) for axis in "XYZ"]
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate}\t{rate}\t{count}\t{len(names)}\tm\t{rate}\t1\t{count}",
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        "\t\t" + "\t".join(axes),
        "",
    ]
    for t, pose in enumerate(points):
        known = np.isfinite(pose).all(axis=-1)
        fields = [f"{value:.6f}" if known[j] else "" for j, joint in enumerate(pose) for value in joint]
        lines.append(f"{t + 1}\t{t / frames_per_second:.6f}\t" + "\t".join(fields))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
