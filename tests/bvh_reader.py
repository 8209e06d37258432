"""A BVH file read by its description, with forward kinematics done matrix by matrix."""

from pathlib import Path

import numpy as np


def read_bvh(path: Path, at_rest: bool = False) -> tuple[dict[str, np.ndarray], float]:
    """Positions (T, 3) of every joint by name, or (3,) with all channels at 0, and the seconds of a frame."""
    lines = [line.split() for line in path.read_text().splitlines()]
    start = lines.index(["MOTION"])
    joints, stack, offset_of_tip = [], [], False
    for words in lines[1:start]:
        if words[0] in ("ROOT", "JOINT"):
            joints.append({"name": words[1], "parent": stack[-1] if stack else None})
            stack.append(len(joints) - 1)
        elif words[0] == "End":
            stack.append(None)
            offset_of_tip = True
        elif words[0] == "OFFSET" and not offset_of_tip:
            joints[stack[-1]]["offset"] = np.array(words[1:], float)
        elif words[0] == "CHANNELS":
            assert len(words) == 2 + int(words[1])
            joints[stack[-1]]["channels"] = words[2:]
        elif words[0] == "}":
            offset_of_tip = False
            stack.pop()
    frames, seconds = int(lines[start + 1][1]), float(lines[start + 2][2])
    values = np.array(lines[start + 3 :], float)
    assert values.shape == (frames, sum(len(joint["channels"]) for joint in joints))
    if at_rest:
        values = np.zeros((1, values.shape[1]))
    places = _forward(joints, values)
    return ({name: place[0] for name, place in places.items()} if at_rest else places), seconds


def _forward(joints: list[dict], values: np.ndarray) -> dict[str, np.ndarray]:
    column, turned, places = 0, [], []
    for joint in joints:
        move, turn = np.tile(joint["offset"], (len(values), 1)), np.tile(np.eye(3), (len(values), 1, 1))
        for channel in joint["channels"]:
            axis = "XYZ".index(channel[0])
            if channel.endswith("position"):
                move[:, axis] += values[:, column]
            else:
                turn = turn @ _about(axis, np.radians(values[:, column]))
            column += 1
        if joint["parent"] is None:
            places.append(move)
            turned.append(turn)
        else:
            above = turned[joint["parent"]]
            places.append(places[joint["parent"]] + np.einsum("tij,tj->ti", above, move))
            turned.append(above @ turn)
    return {joint["name"]: place for joint, place in zip(joints, places, strict=True)}


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, i, i], matrix[:, i, j], matrix[:, j, i], matrix[:, j, j] = cos, -sin, sin, cos
    return matrix
