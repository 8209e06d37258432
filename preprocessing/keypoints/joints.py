"""Which joint set keypoints are in: by the names that came with them, else by their number."""

import re
from dataclasses import dataclass

import numpy as np

from finepose_mp.preprocessing.keypoints.found import Found, KeypointsError
from finepose_mp.skeletons import JOINT_SETS

# 17 joints may also be Human3.6M's or MPI-INF-3DHP's, but no 2D detector is known by those.
BY_COUNT = {17: "coco17", 133: "wholebody133", 26: "halpe26", 25: "body25", 16: "mpii16", 33: "blazepose33"}

_OTHER_NAMES = {
    "mid_hip": "pelvis",
    "midhip": "pelvis",
    "hip": "pelvis",
    "root": "pelvis",
    "thorax": "neck",
    "mouth_left": "left_mouth",
    "mouth_right": "right_mouth",
}


@dataclass(frozen=True)
class Joints:
    """The joint set, the position in it of every joint of the file (J,), and how that was recognised in words."""

    name: str
    target: np.ndarray
    said: str


def recognise_joints(found: Found, given: str | None, source: str) -> Joints:
    """The joint set that the user gives, else the file names, else has as many joints.

    Raises:
        KeypointsError: nobody in the file, people of different numbers of joints, names or a number of joints that fit
            no known set.
    """
    if not found.people:
        frames = f"{len(found.frames)} frames" if found.frames else "no frames"
        raise KeypointsError(f"{source}: {found.format} with {frames} and not a single person")
    counts = sorted({len(person.keypoints) for person in found.people})
    if len(counts) > 1:
        raise KeypointsError(f"{source}: people have {' and '.join(map(str, counts))} joints; they must be alike")
    if given is not None:
        return _by_name(given, counts[0], "as given", source)
    if found.joint_set is not None:
        return _by_name(found.joint_set, counts[0], "as the file says", source)
    if found.joint_names is not None:
        return _by_joint_names(found.joint_names, counts[0], source)
    if counts[0] not in BY_COUNT:
        known = ", ".join(f"{count} {name}" for count, name in BY_COUNT.items())
        raise KeypointsError(
            f"{source}: {counts[0]} joints fit no known joint set ({known}); name the joints in the file, or convert it"
        )
    name = BY_COUNT[counts[0]]
    return Joints(name, np.arange(counts[0]), f"joint set {name}, ASSUMED from the number of joints, {counts[0]}")


def _by_name(name: str, count: int, how: str, source: str) -> Joints:
    if name not in JOINT_SETS:
        raise KeypointsError(f"{source}: unknown joint set {name!r}; known: {', '.join(JOINT_SETS)}")
    if len(JOINT_SETS[name]) != count:
        raise KeypointsError(f"{source}: people have {count} joints, joint set {name} has {len(JOINT_SETS[name])}")
    return Joints(name, np.arange(count), f"joint set {name}, {how}")


def _by_joint_names(names: list[str], count: int, source: str) -> Joints:
    """The smallest set that has every name; joints that the file lacks stay missing."""
    plain = [_plain(name) for name in names]
    if len(plain) != count:
        raise KeypointsError(f"{source}: {len(plain)} names of joints for people of {count} joints")
    fitting = [s for s in JOINT_SETS.values() if set(plain) <= set(s.joints)]
    if fitting and len(set(plain)) == count:
        chosen = min(fitting, key=len)
        lacking = len(chosen) - count
        said = f"joint set {chosen.name}, by the names of joints" + (f" ({lacking} are not in it)" if lacking else "")
        return Joints(chosen.name, np.array([chosen.index(name) for name in plain]), said)
    # COCO-WholeBody's face and hands are named differently by everyone who writes it.
    if count in BY_COUNT and plain[:17] == list(JOINT_SETS["coco17"].joints) and count > 100:
        name = BY_COUNT[count]
        return Joints(name, np.arange(count), f"joint set {name}, by the names of the body and the number of joints")
    nearest = max(JOINT_SETS.values(), key=lambda s: (len(set(plain) & set(s.joints)), -len(s)))
    strange = [name for name, known in zip(names, plain, strict=True) if known not in nearest.joints]
    raise KeypointsError(
        f"{source}: no known joint set has joints named {', '.join(strange[:6]) or 'alike twice'}; the nearest is "
        f"{nearest.name}. Pass --joint-set if the order is one of {', '.join(JOINT_SETS)}"
    )


def _plain(name: str) -> str:
    """Names as the joint sets spell them: "Left Ankle", "LAnkle" and "l_ankle" are left_ankle."""
    name = re.sub(r"^([LR])(?=[A-Z])", lambda side: {"L": "left_", "R": "right_"}[side[1]], str(name).strip())
    name = re.sub(r"[\s\-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).lower()
    name = re.sub(r"^([lr])_", lambda side: {"l": "left_", "r": "right_"}[side[1]], name)
    return _OTHER_NAMES.get(name, name)
