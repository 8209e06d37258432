"""What predicted scenes are worth on takes with truth: where people stand, with and without fusion of cameras, how well
the spread tells the error, whether seams show, and what it costs."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from finepose_mp import runs, schema
from finepose_mp.datasets.index import list_tracks
from finepose_mp.evaluation.scenes import calibration, scene_errors, seam_acceleration
from finepose_mp.inference.scene import predict_scene
from finepose_mp.skeletons import joint_set


@dataclass(frozen=True)
class SceneMeasure:
    """Of one take seen through some of its cameras.

    Attributes:
        take: name of the sequence.
        through: which cameras, in words: "1 fixed", "4 fixed", "1 worn", "4 worn".
        errors: in mm, of all frames with a prediction; see `scenes.scene_errors`.
        calibration: see `scenes.calibration`.
        seams: see `scenes.seam_acceleration`.
        cpu_seconds: of the prediction; those of all threads together.
    """

    take: str
    through: str
    errors: dict
    calibration: list[dict]
    seams: dict
    cpu_seconds: float


def measure_scenes(
    run: Path, data: Path, split: str = "test", takes: int | None = None, fixed: int = 4
) -> Iterator[SceneMeasure]:
    """Measures of the first takes of a split, held out by the run's own split scheme.

    Each take is seen through its first fixed camera, its first `fixed` ones fused, its first head-worn RGB camera and
    all of those fused; people who wear the only camera are not seen.

    Raises:
        FileNotFoundError, schema.SchemaError, datasets.DataError: the file cannot be read, or has no such take.
    """
    model, config = runs.load_run(run)
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"files": [data], "camera_kinds": list(schema.CAMERA_KINDS)})}
    )
    names = list(dict.fromkeys(track.sequence for track in list_tracks(config.data, split)))
    for name in names[:takes]:
        with schema.open_file(data) as file:
            sequence = schema.read_sequence(file, name)
            joints = joint_set(str(file.attrs["joint_set"]))
        for through, cameras in _choices(sequence, fixed).items():
            started = time.process_time()
            predicted = predict_scene(model, config, data, name, cameras, joints=joints.name)
            seconds = time.process_time() - started
            scene = replace(
                sequence,
                predicted_3d_world=predicted.joints_3d_world,
                predicted_spread=predicted.spread,
                predicted_status=predicted.status,
            )
            yield SceneMeasure(
                name,
                through,
                scene_errors(scene, joints)["all"],
                calibration(scene, joints),
                seam_acceleration(scene, joints, config.data.window),
                seconds,
            )


def mean_errors(measures: list[SceneMeasure]) -> dict[str, dict[str, float]]:
    """Mean over takes of every error in mm, by the cameras looked through."""
    found: dict[str, dict[str, float]] = {}
    for through in dict.fromkeys(measure.through for measure in measures):
        of_these = [measure.errors for measure in measures if measure.through == through]
        known = {name: [e[name] for e in of_these if e[name] is not None] for name in of_these[0]}
        found[through] = {name: float(np.mean(values)) for name, values in known.items() if values}
    return found


def _choices(sequence: schema.Sequence, fixed: int) -> dict[str, list[str]]:
    """Names of cameras to look through, by what they are called in tables."""
    of_kind = {
        kind: [c for c, k in zip(sequence.camera, sequence.camera_kind, strict=True) if k == kind]
        for kind in ("exo", "ego_rgb")
    }
    choices = {}
    for word, cameras in (("fixed", of_kind["exo"][:fixed]), ("worn", of_kind["ego_rgb"])):
        choices |= {f"{len(some)} {word}": some for some in (cameras[:1], cameras) if some}
    return choices
