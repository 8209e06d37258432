"""All people of a scene as one binary glTF: a ball at every joint and a stick for every bone, animated.

Positions are exact in every frame: balls move, sticks move, turn and stretch. What is missing in a frame has size 0.
Metres, +y up, as glTF demands. Colours (Okabe and Ito) tell people apart for colour-blind readers too.
"""

from pathlib import Path

import numpy as np
import pygltflib as gltf
from scipy.spatial.transform import Rotation

from finepose_mp.export.poses import Poses

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B61A8", "#8C6D31")
_JOINT_RADIUS, _BONE_RADIUS = 0.035, 0.015  # metres
_SIDES = 8


def write_glb(poses: Poses, path: Path) -> None:
    """Writes the scene with one animation of all people."""
    _Builder(poses).save(path)


class _Builder:
    """A glTF document under construction, with the bytes of its only buffer."""

    def __init__(self, poses: Poses) -> None:
        self.data = bytearray()
        self.document = gltf.GLTF2(
            asset=gltf.Asset(version="2.0", generator="finepose_mp", extras={"source": poses.sequence}),
            scenes=[gltf.Scene(nodes=[], name=poses.sequence, extras=_meaning(poses))],
            scene=0,
            animations=[gltf.Animation(name=poses.variable)],
        )
        self.time = self._accessor(poses.time.astype(np.float32), with_bounds=True)
        self.shapes = [self._shape(*_ball()), self._shape(*_stick())]
        points = poses.points_y_up
        for number, person in enumerate(poses.present):
            self._add_person(poses, points[:, person], person, _COLOURS[number % len(_COLOURS)])

    def save(self, path: Path) -> None:
        self.document.buffers = [gltf.Buffer(byteLength=len(self.data))]
        self.document.set_binary_blob(bytes(self.data))
        self.document.save_binary(str(path))

    def _add_person(self, poses: Poses, points: np.ndarray, person: int, colour: str) -> None:
        material = self._append("materials", _material(poses.person[person], colour))
        ball, stick = (self._mesh(shape, material) for shape in self.shapes)
        known = np.isfinite(points).all(axis=-1)
        held = _held(points, known)
        nodes = []
        for j, name in enumerate(poses.joints.joints):
            if known[:, j].any():
                node = self._append("nodes", gltf.Node(name=f"{poses.person[person]} {name}", mesh=ball))
                self._animate(node, "translation", held[:, j])
                self._animate(node, "scale", np.repeat(known[:, j, None], 3, axis=1), step=True)
                nodes.append(node)
        for i, j in poses.joints.bones:
            both = known[:, i] & known[:, j]
            if both.any():
                names = f"{poses.joints.joints[i]} to {poses.joints.joints[j]}"
                node = self._append("nodes", gltf.Node(name=f"{poses.person[person]} {names}", mesh=stick))
                self._animate_stick(node, held[:, i], held[:, j], both)
                nodes.append(node)
        parent = self._append("nodes", gltf.Node(name=poses.person[person], children=nodes))
        self.document.scenes[0].nodes.append(parent)

    def _animate_stick(self, node: int, start: np.ndarray, stop: np.ndarray, both: np.ndarray) -> None:
        along = np.where(both[:, None], stop - start, [0.0, 1.0, 0.0])
        length = np.linalg.norm(along, axis=-1)
        along = np.where((length > 1e-6)[:, None], along / np.maximum(length, 1e-6)[:, None], [0.0, 1.0, 0.0])
        scale = np.stack([np.ones_like(length), length, np.ones_like(length)], axis=-1) * both[:, None]
        self._animate(node, "translation", start)
        self._animate(node, "rotation", _from_y(along))
        self._animate(node, "scale", scale, step=True)

    def _animate(self, node: int, path: str, values: np.ndarray, step: bool = False) -> None:
        animation = self.document.animations[0]
        output = self._accessor(values.astype(np.float32))
        interpolation = gltf.ANIM_STEP if step else gltf.ANIM_LINEAR
        animation.samplers.append(gltf.AnimationSampler(input=self.time, output=output, interpolation=interpolation))
        target = gltf.AnimationChannelTarget(node=node, path=path)
        animation.channels.append(gltf.AnimationChannel(sampler=len(animation.samplers) - 1, target=target))
        # Viewers that do not play start from the first frame.
        setattr(self.document.nodes[node], path, [float(value) for value in values[0]])

    def _shape(self, vertices: np.ndarray, triangles: np.ndarray) -> tuple[int, int]:
        positions = self._accessor(vertices.astype(np.float32), gltf.ARRAY_BUFFER, with_bounds=True)
        return positions, self._accessor(triangles.astype(np.uint16).ravel(), gltf.ELEMENT_ARRAY_BUFFER)

    def _mesh(self, shape: tuple[int, int], material: int) -> int:
        attributes = gltf.Attributes(POSITION=shape[0])
        primitive = gltf.Primitive(attributes=attributes, indices=shape[1], material=material)
        return self._append("meshes", gltf.Mesh(primitives=[primitive]))

    def _accessor(self, array: np.ndarray, target: int | None = None, with_bounds: bool = False) -> int:
        """The number of an accessor of an array (n,) or (n, 2..4) appended to the buffer."""
        rows = array.reshape(len(array), -1)
        view = gltf.BufferView(buffer=0, byteOffset=len(self.data), byteLength=array.nbytes, target=target)
        self.data += array.tobytes() + b"\0" * (-array.nbytes % 4)
        accessor = gltf.Accessor(
            bufferView=self._append("bufferViews", view),
            componentType=gltf.FLOAT if array.dtype == np.float32 else gltf.UNSIGNED_SHORT,
            count=len(rows),
            type={1: gltf.SCALAR, 3: gltf.VEC3, 4: gltf.VEC4}[rows.shape[1]],
        )
        if with_bounds:
            accessor.min, accessor.max = rows.min(axis=0).tolist(), rows.max(axis=0).tolist()
        return self._append("accessors", accessor)

    def _append(self, kind: str, item: object) -> int:
        getattr(self.document, kind).append(item)
        return len(getattr(self.document, kind)) - 1


def _meaning(poses: Poses) -> dict:
    return {
        "units": "metres",
        "up_axis": "+y",
        "turned_from": f"{poses.up} up, {poses.coordinate_frame}",
        "variable": poses.variable,
        "fps": poses.fps,
        "first_frame": int(poses.frame[0]),
        "joint_set": poses.joints.name,
    }


def _material(name: str, colour: str) -> gltf.Material:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    surface = gltf.PbrMetallicRoughness(
        baseColorFactor=[*linear.tolist(), 1.0], metallicFactor=0.0, roughnessFactor=0.8
    )
    return gltf.Material(name=name, pbrMetallicRoughness=surface)


def _held(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Points (T, J, 3) with the last known place, or else the first to come, where they are missing."""
    frames = np.arange(len(points))[:, None]
    last = np.maximum.accumulate(np.where(known, frames, -1), axis=0)
    source = np.where(last >= 0, last, known.argmax(axis=0))
    return np.nan_to_num(np.take_along_axis(points, source[..., None], axis=0))


def _from_y(direction: np.ndarray) -> np.ndarray:
    """Quaternions (T, 4), scalar last as in glTF, that turn +y to unit directions (T, 3), without jumps of sign."""
    scalar = 1 + direction[:, 1]
    vector = np.stack([direction[:, 2], np.zeros(len(direction)), -direction[:, 0]], axis=-1)
    opposite = scalar < 1e-9
    vector[opposite], scalar[opposite] = [1.0, 0, 0], 0.0
    quaternion = Rotation.from_quat(np.column_stack([vector, scalar])).as_quat()
    flips = np.sign((quaternion[1:] * quaternion[:-1]).sum(axis=-1))
    quaternion[1:] *= np.cumprod(np.where(flips == 0, 1.0, flips))[:, None]
    return quaternion


def _ball() -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a ball of rings."""
    rings, sides = np.arange(1, 4) * np.pi / 4, np.arange(_SIDES) * 2 * np.pi / _SIDES
    around = np.stack([np.cos(sides), np.zeros(_SIDES), np.sin(sides)], axis=-1)
    rows = [np.sin(a) * around + [0, np.cos(a), 0] for a in rings]
    vertices = np.concatenate([[[0, 1.0, 0]], *rows, [[0, -1.0, 0]]]) * _JOINT_RADIUS
    triangles, last = [], len(vertices) - 1
    for s in range(_SIDES):
        n = (s + 1) % _SIDES
        triangles += [(0, 1 + n, 1 + s), (last, last - _SIDES + s, last - _SIDES + n)]
        for r in range(2):
            a, b = 1 + r * _SIDES, 1 + (r + 1) * _SIDES
            triangles += [(a + s, a + n, b + s), (a + n, b + n, b + s)]
    return vertices, np.array(triangles)


def _stick() -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a stick from the origin to (0, 1, 0)."""
    sides = np.arange(_SIDES) * 2 * np.pi / _SIDES
    ring = np.stack([np.cos(sides), np.zeros(_SIDES), np.sin(sides)], axis=-1) * _BONE_RADIUS
    vertices = np.concatenate([ring, ring + np.array([0, 1.0, 0])])
    triangles = []
    for s in range(_SIDES):
        n = (s + 1) % _SIDES
        triangles += [(s, _SIDES + s, n), (n, _SIDES + s, _SIDES + n)]
    return vertices, np.array(triangles)
