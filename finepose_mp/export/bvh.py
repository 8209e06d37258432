"""One person as BVH: a hierarchy with its pose at rest, and the rotations of every joint in every frame.

Metres, +y up, facing +z at rest. Rotations are about z, then x, then y (R = Rz Rx Ry), in degrees.
"""

from pathlib import Path

import numpy as np

from finepose_mp.export.rig import Rig

_ORDER = "ZXY"
_TIP = 0.05  # metres: length drawn beyond the last joint of a limb


def write_bvh(rig: Rig, fps: float, path: Path) -> None:
    """Writes the rig and its motion."""
    children = [[c for c, bone in enumerate(rig.bones) if bone.parent == b] for b in range(len(rig.bones))]
    lines, order = ["HIERARCHY"], []
    _write_joint(rig, 0, 0, children, lines, order)
    frames = len(rig.root)
    lines += ["MOTION", f"Frames: {frames}", f"Frame Time: {1 / fps:.8f}"]
    # Angles that pass 180 degrees go on, so that a reader may interpolate them.
    angles = [np.unwrap(rig.rotations[b].as_euler(_ORDER, degrees=True), period=360, axis=0) for b in order]
    for row in np.concatenate([rig.root, *angles], axis=1):
        lines.append(" ".join(f"{value:.6f}" for value in row))
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def _write_joint(rig: Rig, position: int, depth: int, children: list[list[int]], lines: list[str], order: list) -> None:
    bone, pad = rig.bones[position], "  " * depth
    order.append(position)
    rotations = " ".join(f"{axis}rotation" for axis in _ORDER)
    channels = f"6 Xposition Yposition Zposition {rotations}" if depth == 0 else f"3 {rotations}"
    lines += [
        f"{pad}{'ROOT' if depth == 0 else 'JOINT'} {bone.name}",
        f"{pad}{{",
        f"{pad}  OFFSET {_numbers(bone.offset)}",
        f"{pad}  CHANNELS {channels}",
    ]
    for child in children[position]:
        _write_joint(rig, child, depth + 1, children, lines, order)
    if not children[position]:
        length = max(float(np.linalg.norm(bone.offset)), 1e-9)
        tip = bone.offset / length * _TIP
        lines += [f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET {_numbers(tip)}", f"{pad}  }}"]
    lines.append(f"{pad}}}")


def _numbers(vector: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in vector)
