"""A sequence as a recording for the Rerun viewer: people, hypotheses, cameras and keypoints over frames and seconds.

Needs the library rerun-sdk (extra `rerun`), which is imported only here and only when a recording is written.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from finepose_mp import cameras
from finepose_mp.geometry import invert_rigid
from finepose_mp.schema import Sequence
from finepose_mp.skeletons import JointSet
from finepose_mp.variables import INFERRED
from finepose_mp.visualization.animation import MissingLibraryError
from finepose_mp.visualization.choices import seconds
from finepose_mp.visualization.layers import (
    TRUTH,
    Layer,
    assumptions,
    frame_of_reference,
    origin_of_prediction,
    project,
)
from finepose_mp.visualization.stage import PERSON_COLOURS

_UP = {"+x": "RIGHT_HAND_X_UP", "-x": "RIGHT_HAND_X_DOWN", "+y": "RIGHT_HAND_Y_UP"}
_UP |= {"-y": "RIGHT_HAND_Y_DOWN", "+z": "RIGHT_HAND_Z_UP", "-z": "RIGHT_HAND_Z_DOWN"}
_JOINT_RADIUS, _BONE_RADIUS, _GHOST_RADIUS = 0.025, 0.01, 0.003  # metres
_GHOST_OPACITY, _INFERRED_OPACITY = 90, 130  # of 255


def write_recording(sequence: Sequence, joints: JointSet, layers: list[Layer], frames: list[int], path: Path) -> None:
    """Writes an .rrd file with the frames (positions 0..T-1) of a sequence.

    Entities: `world/<layer>/<person>`, `world/cameras/<camera>` (a pinhole of the lens's focal length, whose keypoints
    are true pixels nevertheless), `about`. Time lines: `frame`, the source's number, and `time`, seconds since the
    sequence's first frame.

    Raises:
        MissingLibraryError: rerun-sdk is not installed.
    """
    try:
        import rerun
        from rerun import blueprint
    except ImportError as error:
        raise MissingLibraryError(
            'Rerun recordings need rerun-sdk: `pip install "finepose_mp[rerun]"` or `pip install rerun-sdk`; '
            "the .html page needs nothing more"
        ) from error
    recording = _Recording(rerun, sequence, joints)
    views = [blueprint.Spatial2DView(origin=recording.of_camera(k), name=c) for k, c in enumerate(sequence.camera)]
    side = blueprint.Vertical(blueprint.Tabs(*views), blueprint.TextDocumentView(origin="about")) if views else None
    scene = blueprint.Spatial3DView(origin="world", name=sequence.name)
    recording.stream.save(path, default_blueprint=blueprint.Horizontal(scene, *([side] if side else [])))
    recording.log_constant()
    for frame in frames:
        recording.log_frame(frame, layers)
    recording.stream.flush()
    recording.stream.disconnect()


class _Recording:
    """A stream of one sequence."""

    def __init__(self, rerun: ModuleType, sequence: Sequence, joints: JointSet) -> None:
        self._rerun, self._sequence = rerun, sequence
        self._bones = np.array(joints.bones)
        # Many small entities: written as often as by default, the file would hold more headings than numbers.
        batches = rerun.ChunkBatcherConfig(flush_tick=60.0, flush_num_bytes=1 << 24)
        self.stream = rerun.RecordingStream("finepose_mp", recording_id=sequence.name, batcher_config=batches)

    def of_camera(self, camera: int) -> str:
        return f"world/cameras/{_name(self._sequence.camera[camera])}"

    def log_constant(self) -> None:
        """What does not change: the axes, what the numbers mean, and the lenses."""
        rerun, sequence = self._rerun, self._sequence
        self._log("world", getattr(rerun.ViewCoordinates, _UP[sequence.world_up]), static=True)
        said = [f"# {sequence.name}", *filter(None, [sequence.action]), frame_of_reference(sequence)]
        said += ["Simulated people."] if sequence.simulated else []
        said += [f"Prediction: {origin_of_prediction(sequence)}."] if sequence.prediction else []
        text = "\n\n".join(said + [f"* {sentence}" for sentence in assumptions(sequence)])
        self._log("about", rerun.TextDocument(text, media_type="text/markdown"), static=True)
        for k in range(len(sequence.camera)):
            lens = self._pinhole(k)
            if lens is not None:
                self._log(self.of_camera(k), lens, static=True)

    def log_frame(self, frame: int, layers: list[Layer]) -> None:
        """Everybody and every camera at one frame."""
        self.stream.set_time("frame", sequence=int(self._sequence.frame[frame]))
        self.stream.set_time("time", duration=float(seconds(self._sequence)[frame]))
        for each in layers:
            for p in range(len(self._sequence.person)):
                self._log_person(each, frame, p)
        for k in range(len(self._sequence.camera)):
            self._log_pose(k, frame)
            self._log_keypoints(k, frame, layers)

    def _log_person(self, shown: Layer, frame: int, person: int) -> None:
        points = shown.poses[:, frame, person]
        bones = points[:, self._bones]
        known = np.isfinite(bones).all(axis=(-2, -1))
        where = f"world/{_name(shown.name)}/{_name(self._sequence.person[person])}"
        opacity = _INFERRED_OPACITY if shown.status[frame, person] == INFERRED else 255
        opacity, radius = (_GHOST_OPACITY, _GHOST_RADIUS) if shown.are_ghosts else (opacity, _BONE_RADIUS)
        colour = _colour(person, opacity)
        self._log(f"{where}/bones", self._rerun.LineStrips3D(bones[known], colors=colour, radii=radius))
        if not shown.are_ghosts:
            present = points[0][np.isfinite(points[0]).all(axis=-1)]
            size = _JOINT_RADIUS * (0.7 if shown.dashed else 1.0)
            self._log(f"{where}/joints", self._rerun.Points3D(present, colors=colour, radii=size))

    def _log_pose(self, camera: int, frame: int) -> None:
        transform = self._sequence.world_to_camera[camera, frame]
        if not np.isfinite(transform).all():
            self._log(self.of_camera(camera), self._rerun.Clear(recursive=True))
            return
        to_world = invert_rigid(transform)
        pose = self._rerun.Transform3D(translation=to_world[:, 3], mat3x3=to_world[:, :3])
        self._log(self.of_camera(camera), pose)

    def _log_keypoints(self, camera: int, frame: int, layers: list[Layer]) -> None:
        """Detections as points, poses as bones, all in pixels of the camera's own lens."""
        sequence = self._sequence
        detected = sequence.joints_2d_detected[camera, frame]
        present = np.isfinite(detected).all(axis=-1)
        points = self._rerun.Points2D(detected[present], colors=_colours(present), radii=3.0)
        self._log(f"{self.of_camera(camera)}/detected", points)
        for each in (each for each in layers if not each.are_ghosts):
            if each.name == TRUTH:
                pixels = sequence.joints_2d_projected[camera, frame]
            else:
                pixels = project(sequence, camera, frame, each.poses[0, frame])
            bones = pixels[:, self._bones]
            known = np.isfinite(bones).all(axis=(-2, -1))
            strips = self._rerun.LineStrips2D(bones[known], colors=_colours(known))
            self._log(f"{self.of_camera(camera)}/{_name(each.name)}", strips)

    def _pinhole(self, camera: int) -> Any | None:
        """A pinhole of the lens's own focal length and centre, None where they are unknown throughout."""
        model = cameras.MODELS.get(self._sequence.camera_model[camera])
        params = self._sequence.camera_params[camera]
        params = params[np.isfinite(params[:, 0])]
        if model is None or not len(params):
            return None
        named = dict(zip(model.parameter_names, params[0], strict=False))
        focal = (named.get("fx", named.get("f")), named.get("fy", named.get("f")))
        centre = (named.get("cx", named.get("cu")), named.get("cy", named.get("cv")))
        return self._rerun.Pinhole(
            focal_length=focal,
            principal_point=centre,
            resolution=self._sequence.image_size[camera].tolist(),
            camera_xyz=self._rerun.ViewCoordinates.RDF,
            image_plane_distance=0.4,
        )

    def _log(self, where: str, what: Any, static: bool = False) -> None:
        self.stream.log(where, what, static=static)


def _colour(person: int, opacity: int) -> list[int]:
    text = PERSON_COLOURS[person % len(PERSON_COLOURS)]
    return [int(text[i : i + 2], 16) for i in (1, 3, 5)] + [opacity]


def _colours(there: np.ndarray) -> list[list[int]]:
    """A colour for everything (P, n) that is there, its person's."""
    return [_colour(person, 255) for person in np.nonzero(there)[0]]


def _name(text: str) -> str:
    """Part of an entity's path: what separates parts is no part of it."""
    return text.replace("/", "_").replace(" ", "_")
