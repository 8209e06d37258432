"""The arrays of the HDF5 contract as a table: what `schema` writes, checks and reads."""

from dataclasses import dataclass

import h5py

TEXT = h5py.string_dtype("utf-8")
MISSING, OBSERVED, INTERPOLATED = 0, 1, 2  # joint_status
NOT_PREDICTED, SEEN, INFERRED = 0, 1, 2  # predicted_status


@dataclass(frozen=True)
class Variable:
    """One array of a sequence: its dimensions, storage type, unit, coordinate frame and meaning."""

    dims: tuple[str, ...]
    dtype: object
    units: str
    coordinate_frame: str
    long_name: str


def _variable(dims: str, dtype: object, units: str, frame: str, long_name: str) -> Variable:
    return Variable(tuple(dims.split()), dtype, units, frame, long_name)


WORLD = "world: right-handed, up axis in the sequence attribute world_up"
CAMERA = "camera: +x right, +y down, +z forward in the stored image"
IMAGE = "image: u right, v down, from the centre of the top-left pixel of the stored image"
NONE = "none"

VARIABLES: dict[str, Variable] = {
    "joints_3d_world": _variable("frame person joint xyz", "f4", "m", WORLD, "3D joint positions, NaN where missing"),
    "joint_status": _variable(
        "frame person joint", "u1", "1", NONE, "0 missing, 1 observed, 2 interpolated by the dataset's authors"
    ),
    "world_to_camera": _variable(
        "camera frame row column",
        "f8",
        "m",
        "maps world to camera coordinates",
        "rigid transform (R, t), R orthonormal, t in metres: x_camera = R x_world + t",
    ),
    "camera_model": _variable("camera", TEXT, "1", NONE, "name of the lens model"),
    "camera_params": _variable(
        "camera frame param",
        "f8",
        "lengths and centres in px, coefficients 1",
        IMAGE,
        "lens parameters in the model's documented order, NaN beyond its number of parameters",
    ),
    "camera_kind": _variable("camera", TEXT, "1", NONE, "ego_rgb, ego_slam (head-worn) or exo (fixed)"),
    "camera_is_moving": _variable("camera", "u1", "1", NONE, "1 where the pose changes over time"),
    "camera_wearer": _variable("camera", TEXT, "1", NONE, "person who wears the camera, empty for fixed cameras"),
    "image_size": _variable("camera size", "i4", "px", IMAGE, "width and height of the stored image"),
    "joints_2d_projected": _variable(
        "camera frame person joint uv", "f4", "px", IMAGE, "3D joints through the true lens, NaN unless in view"
    ),
    "joints_2d_detected": _variable(
        "camera frame person joint uv", "f4", "px", IMAGE, "detected 2D joints, NaN where there is none"
    ),
    "detection_score": _variable(
        "camera frame person joint", "f4", "1", NONE, "detector's confidence, 0 where there is no detection"
    ),
    "in_view": _variable(
        "camera frame person joint",
        "u1",
        "1",
        NONE,
        "1 where the joint is in front of the camera, inside the lens's range and the visible image, not the wearer's",
    ),
}

# What a dataset may have beside the above; readers cope with a file or sequence that lacks them.
OPTIONAL_VARIABLES: dict[str, Variable] = {
    "valid_frame": _variable("frame", "u1", "1", NONE, "1 where the dataset's own evaluation counts the frame"),
    "activity": _variable(
        "frame", "i4", "1", NONE, "number of the activity as the dataset numbers it, named in activity_names"
    ),
    "joints_3d_universal_world": _variable(
        "frame person joint xyz", "f4", "m", WORLD, "the same poses scaled to a universal skeleton, NaN where missing"
    ),
    "predicted_3d_world": _variable(
        "frame person joint xyz", "f4", "m", WORLD, "predicted joint positions, NaN where there is none"
    ),
    "predicted_hypotheses_3d_world": _variable(
        "hypothesis frame person joint xyz",
        "f4",
        "m",
        WORLD,
        "hypotheses behind it, NaN where there is none",
    ),
    "predicted_spread": _variable(
        "frame person joint",
        "f4",
        "m",
        NONE,
        "root mean square distance of the hypotheses of all cameras from their mean",
    ),
    "predicted_status": _variable(
        "frame person",
        "u1",
        "1",
        NONE,
        "0 no prediction, 1 from keypoints of the frame, 2 from its neighbours",
    ),
}
