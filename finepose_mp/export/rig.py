"""A skeleton of bones of constant length that turns at its joints, fitted to joint positions.

Every bone has an orientation of its own. It follows from its parent's by the shortest turn that brings the bone from
its direction at rest to where it points, so nothing turns about its own axis (twist 0). Where several bones leave one
joint, each hangs on a helper joint of no length, named pelvis_to_left_hip: any pose can then be reached.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from finepose_mp.skeletons import JointSet

_MIDDLES = {"pelvis": ("left_hip", "right_hip"), "neck": ("left_shoulder", "right_shoulder")}

# Parents that suit an animated body, the first that the joint set has; other joints keep the parent of their set.
_PARENTS = {
    "spine": ("pelvis",),
    "neck": ("spine", "pelvis"),
    "upper_neck": ("neck",),
    "head": ("upper_neck", "neck"),
    "head_top": ("head", "upper_neck", "neck"),
    "nose": ("head", "upper_neck", "neck"),
    **{f"{side}_hip": ("pelvis",) for side in ("left", "right")},
    **{f"{side}_shoulder": ("neck",) for side in ("left", "right")},
}

# Directions of the bone that ends at a joint, at rest: standing, arms out, facing +z, left is +x, up is +y.
_DIRECTIONS = {
    **dict.fromkeys(("spine", "neck", "upper_neck", "head", "head_top"), (0, 1, 0)),
    **dict.fromkeys(("knee", "ankle"), (0, -1, 0)),
    **dict.fromkeys(("shoulder", "elbow", "wrist", "hip"), (1, 0, 0)),
    "nose": (0, 0.6, 0.8),
    "eye": (0.6, 0.8, 0),
    "ear": (0.3, 0, -0.95),
    "heel": (0, -0.5, -0.87),
    **dict.fromkeys(("big_toe", "small_toe", "foot_index"), (0, 0, 1)),
}


@dataclass(frozen=True)
class Bone:
    """A joint of the rig with the bone that leads to it: `offset` (3,) metres at rest, from joint `parent` (-1 root).

    `turns_for` is the bone (position) whose direction this joint's rotation sets, -1 where it sets none.
    """

    name: str
    parent: int
    offset: np.ndarray
    turns_for: int


@dataclass(frozen=True, eq=False)
class Rig:
    """Bones, parents first; `root` (T, 3) metres and `rotations` (T, B) relative to the parent, rest is identity."""

    bones: list[Bone]
    root: np.ndarray
    rotations: list[Rotation]

    def joint_positions(self) -> dict[str, np.ndarray]:
        """Positions (T, 3) of every joint by forward kinematics."""
        places, turned, named = [], [], {}
        for bone, rotation in zip(self.bones, self.rotations, strict=True):
            if bone.parent < 0:
                places.append(self.root)
                turned.append(rotation)
            else:
                places.append(places[bone.parent] + turned[bone.parent].apply(bone.offset))
                turned.append(turned[bone.parent] * rotation)
            named[bone.name] = places[-1]
        return named


def fit_rig(points_y_up: np.ndarray, joints: JointSet) -> Rig:
    """The rig of one person (T, J, 3), +y up, no NaN but for joints that are missing throughout.

    Bones have their median length; the root turns with hips and trunk, everything else by the shortest way. A joint
    that is never there sits on its parent.
    """
    places = _with_middles(points_y_up, joints)
    parents = _parents(joints, places)
    order = _parents_first(parents)
    for name in order:
        if parents[name] and np.isnan(places[name]).any():
            places[name] = places[parents[name]]
    bones = _bones(order, parents, places)
    return Rig(bones, places[order[0]], _rotations(bones, places))


def _with_middles(points: np.ndarray, joints: JointSet) -> dict[str, np.ndarray]:
    places = {name: points[:, j] for j, name in enumerate(joints.joints)}
    for name, sides in _MIDDLES.items():
        if name not in places and all(side in places for side in sides):
            places[name] = (places[sides[0]] + places[sides[1]]) / 2
    return places


def _parents(joints: JointSet, places: dict) -> dict[str, str | None]:
    """Parent of every joint by name; the pelvis is the root."""
    parents: dict[str, str | None] = {"pelvis": None}
    for name in places:
        if name == "pelvis":
            continue
        known = [p for p in _PARENTS.get(name, ()) if p in places]
        parents[name] = known[0] if known else joints.joints[joints.parents[joints.index(name)]]
    return parents


def _parents_first(parents: dict[str, str | None]) -> list[str]:
    order = ["pelvis"]
    for name in order:
        order.extend(child for child, parent in parents.items() if parent == name)
    return order


def _bones(order: list[str], parents: dict[str, str | None], places: dict[str, np.ndarray]) -> list[Bone]:
    children = {name: [child for child in order if parents[child] == name] for name in order}
    bones = [Bone(order[0], -1, np.zeros(3), -1)]
    at = {order[0]: 0}
    for name in order:
        # The root turns with the body as a whole, so its bones always hang on helpers.
        branches = len(children[name]) > 1 or name == order[0]
        for child in children[name]:
            carrier = at[name]
            if branches:
                bones.append(Bone(f"{name}_to_{child}", carrier, np.zeros(3), len(bones) + 1))
                carrier = len(bones) - 1
            else:
                bones[carrier] = replace(bones[carrier], turns_for=len(bones))
            length = float(np.median(np.linalg.norm(places[child] - places[name], axis=-1)))
            at[child] = len(bones)
            bones.append(Bone(child, carrier, length * _rest_direction(child), -1))
    return bones


def _rest_direction(name: str) -> np.ndarray:
    side, _, plain = name.partition("_") if name.startswith(("left_", "right_")) else ("", "", name)
    default = (0.0, 1.0, 0.0) if not side else (1.0, 0.0, 0.0)
    direction = np.array(_DIRECTIONS.get(plain, default), float)
    if side == "right":
        direction[0] = -direction[0]
    return direction / np.linalg.norm(direction)


def _rotations(bones: list[Bone], places: dict[str, np.ndarray]) -> list[Rotation]:
    """Rotation of every joint relative to its parent, each over T frames."""
    count = len(places[bones[0].name])
    still = Rotation.identity(count)
    turned, rotations = [], []
    for bone in bones:
        if bone.parent < 0:
            rotation = _trunk(places) if {"left_hip", "right_hip", "neck"} <= places.keys() else still
        elif bone.turns_for < 0:
            rotation = still
        else:
            child = bones[bone.turns_for]
            start = bone.name if bone.name in places else bones[bone.parent].name
            pointing = turned[bone.parent].inv().apply(places[child.name] - places[start])
            rotation = _shortest_turn(child.offset, pointing)
        rotations.append(rotation)
        turned.append(rotation if bone.parent < 0 else turned[bone.parent] * rotation)
    return rotations


def _trunk(places: dict[str, np.ndarray]) -> Rotation:
    """Orientation of the trunk: x along the hips to the left, y towards the neck."""
    left = places["left_hip"] - places["right_hip"]
    up = places["neck"] - places["pelvis"]
    forward = np.cross(left, up)
    degenerate = np.linalg.norm(forward, axis=-1) < 1e-6
    forward = np.where(degenerate[:, None], [0, 0, 1.0], forward)
    left = np.where(degenerate[:, None], [1.0, 0, 0], left)
    x = left / np.linalg.norm(left, axis=-1, keepdims=True)
    z = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    return Rotation.from_matrix(np.stack([x, np.cross(z, x), z], axis=-1))


def _shortest_turn(rest: np.ndarray, pointing: np.ndarray) -> Rotation:
    """The rotation by the smallest angle from the direction `rest` (3,) to each of `pointing` (T, 3)."""
    length = np.linalg.norm(pointing, axis=-1)
    if np.linalg.norm(rest) < 1e-9 or not (length > 1e-9).any():
        return Rotation.identity(len(pointing))
    rest = rest / np.linalg.norm(rest)
    target = np.where((length > 1e-9)[:, None], pointing / np.maximum(length, 1e-9)[:, None], rest)
    # Quaternion of the shortest arc: (rest x target, 1 + rest . target), which vanishes for opposite directions.
    scalar = 1 + target @ rest
    vector = np.cross(rest, target)
    sideways = np.cross(rest, np.eye(3)[np.argmin(np.abs(rest))])
    opposite = scalar < 1e-9
    vector = np.where(opposite[:, None], sideways, vector)
    return Rotation.from_quat(np.column_stack([vector, np.where(opposite, 0.0, scalar)]))
