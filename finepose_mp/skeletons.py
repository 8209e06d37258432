"""Named joint sets, and conversion between them by joint name.

A joint set says which joints an array's joint axis holds, how they are connected, which of them swap under
mirroring, and where the root (the origin of root-relative poses) lies. Sources of the orders: COCO keypoints,
Human3.6M as used by the lifting literature, MPI-INF-3DHP's 17 "relevant" joints.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np


@dataclass(frozen=True)
class JointSet:
    """A joint order with its tree, its mirror permutation and its root.

    `parents[j]` is the parent of joint j (-1 for the tree's top). `root_joints` are the joints whose mean is the root
    of root-relative poses. `links` are bones beside the tree's, for drawing and for limb-length checks.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    root_joints: tuple[int, ...]
    links: tuple[tuple[int, int], ...] = ()
    mirror: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mirror", tuple(self.joints.index(_other_side(name)) for name in self.joints))

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Position of a joint by name. Raises KeyError naming the known joints."""
        if joint not in self.joints:
            raise KeyError(f"joint set {self.name} has no joint {joint!r}; it has {', '.join(self.joints)}")
        return self.joints.index(joint)

    @property
    def bones(self) -> list[tuple[int, int]]:
        """Pairs (parent, child) of connected joints, the tree's first."""
        return [(p, j) for j, p in enumerate(self.parents) if p >= 0] + list(self.links)

    def root(self, points):
        """Root position (..., D) of points (..., J, D): the mean of the root joints. NumPy arrays and torch tensors."""
        return points[..., list(self.root_joints), :].mean(-2)

    def root_relative(self, points):
        """Points (..., J, D) with the root moved to the origin. NumPy arrays and torch tensors."""
        return points - self.root(points)[..., None, :]


def _other_side(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COCO17 = JointSet(
    name="coco17",
    joints=_names(
        "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
        "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
    ),
    parents=(-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    root_joints=(11, 12),
    links=((5, 6), (11, 12)),
)

# Joint 8 is also called thorax, joint 9 nose or neck/nose; the names here are those that MPI-INF-3DHP's order shares.
H36M17 = JointSet(
    name="h36m17",
    joints=_names(
        "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine neck head head_top "
        "left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist"
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    root_joints=(0,),
)

# head_top hangs on the head as in the dataset's tree of 28 joints; its table of these 17 hangs both on the neck.
MPI17 = JointSet(
    name="mpi17",
    joints=_names(
        "head_top neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip "
        "right_knee right_ankle left_hip left_knee left_ankle pelvis spine head"
    ),
    parents=(16, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, -1, 14, 1),
    root_joints=(14,),
)

# MPII's joint 7 (thorax, between the shoulders) is what Human3.6M's order calls neck here; its joint 8 lies above it.
MPII16 = JointSet(
    name="mpii16",
    joints=_names(
        "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis neck upper_neck head_top "
        "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist"
    ),
    parents=(1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 7, 7, 13, 14),
    root_joints=(6,),
)

HALPE26 = JointSet(
    name="halpe26",
    joints=(
        *COCO17.joints,
        *_names("head_top neck pelvis left_big_toe right_big_toe left_small_toe right_small_toe left_heel right_heel"),
    ),
    parents=(18, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 18, 19, -1, 15, 16, 15, 16, 15, 16),
    root_joints=(19,),
)

# OpenPose's BODY_25.
BODY25 = JointSet(
    name="body25",
    joints=_names(
        "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist pelvis right_hip "
        "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe "
        "left_small_toe left_heel right_big_toe right_small_toe right_heel"
    ),
    parents=(1, 8, 1, 2, 3, 1, 5, 6, -1, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 14, 14, 11, 11, 11),
    root_joints=(8,),
)

# MediaPipe Pose. Its own order calls the corners of the mouth mouth_left and mouth_right.
BLAZEPOSE33 = JointSet(
    name="blazepose33",
    joints=_names(
        "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
        "left_mouth right_mouth left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_pinky "
        "right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle "
        "right_ankle left_heel right_heel left_foot_index right_foot_index"
    ),
    parents=(
        *(-1, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16),
        *(11, 12, 23, 24, 25, 26, 27, 28, 27, 28),
    ),
    root_joints=(23, 24),
    links=((11, 12), (23, 24)),
)


def _whole_body() -> JointSet:
    """COCO-WholeBody: coco17, three points a foot, the 68 face points of iBUG, 21 points a hand.

    Face points are numbered as iBUG does; of a pair mirrored onto each other both carry the number of the right one.
    """
    right = [*range(8), *range(17, 22), 31, 32, *range(36, 42), 48, 49, 50, 58, 59, 60, 61, 67]
    left = [*range(16, 8, -1), *range(26, 21, -1), 35, 34, 45, 44, 43, 42, 47, 46, 54, 53, 52, 56, 55, 64, 63, 65]
    face = {n: f"face_{n}" for n in range(68)}
    face |= {n: f"right_face_{n}" for n in right}
    face |= {n: f"left_face_{other}" for n, other in zip(left, right, strict=True)}
    fingers = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
    hand = ["hand_root", *(f"{finger}_{n}" for finger in fingers for n in range(1, 5))]
    feet = _names("left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel")
    hands = [f"{side}_{point}" for side in ("left", "right") for point in hand]

    def hand_parents(root: int, wrist: int) -> list[int]:
        return [wrist, *(root if n % 4 == 1 else root + n - 1 for n in range(1, 21))]

    return JointSet(
        name="wholebody133",
        joints=(*COCO17.joints, *feet, *(face[n] for n in range(68)), *hands),
        parents=(*COCO17.parents, *[15] * 3, *[16] * 3, *[0] * 68, *hand_parents(91, 9), *hand_parents(112, 10)),
        root_joints=COCO17.root_joints,
        links=COCO17.links,
    )


WHOLEBODY133 = _whole_body()

JOINT_SETS: dict[str, JointSet] = {
    s.name: s for s in (COCO17, H36M17, MPI17, MPII16, HALPE26, BODY25, BLAZEPOSE33, WHOLEBODY133)
}

# Joints that a set lacks but others determine: the mean of the named joints. `head` from the nose is a stand-in a few
# centimetres off; the top of the head cannot be had from a face and stays missing.
_DERIVED: dict[str, tuple[str, ...]] = {
    "pelvis": ("left_hip", "right_hip"),
    "neck": ("left_shoulder", "right_shoulder"),
    "spine": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    "head": ("nose",),
    "nose": ("head",),
}


def joint_set(name: str) -> JointSet:
    """The joint set of that name. Raises KeyError listing the known ones."""
    if name not in JOINT_SETS:
        raise KeyError(f"unknown joint set {name!r}; known: {', '.join(JOINT_SETS)}")
    return JOINT_SETS[name]


def convert(points: np.ndarray, source: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Points in the target's joint order, and how each joint came about.

    Args:
        points: (..., J, D) in any frame and unit, joints in the order of `source`.
        source, target: names of joint sets.

    Returns:
        converted: (..., J', D), NaN where the source does not determine the joint.
        origin: (J',) of "copied" (same joint by name), "derived" (mean of other joints) or "missing".
    """
    points = np.asarray(points)
    source_set, target_set = joint_set(source), joint_set(target)
    if points.shape[-2] != len(source_set):
        raise ValueError(f"expected {len(source_set)} joints of {source} on axis -2, found shape {points.shape}")
    floating = np.result_type(points.dtype, np.float32)
    converted = np.full((*points.shape[:-2], len(target_set), points.shape[-1]), np.nan, dtype=floating)
    origin = np.full(len(target_set), "missing", dtype="<U7")
    for j, sources in enumerate(joint_sources(source, target)):
        if sources:
            converted[..., j, :] = points[..., list(sources), :].mean(axis=-2)
            origin[j] = "copied" if target_set.joints[j] in source_set.joints else "derived"
    return converted, origin


@cache
def joint_sources(source: str, target: str) -> tuple[tuple[int, ...], ...]:
    """For each joint of the target the joints of the source whose mean it is, none where it is not determined."""
    source_set = joint_set(source)
    found = []
    for name in joint_set(target).joints:
        names = (name,) if name in source_set.joints else _DERIVED.get(name, ())
        known = all(other in source_set.joints for other in names)
        found.append(tuple(source_set.index(other) for other in names) if known else ())
    return tuple(found)
