"""Recordings for the Rerun viewer: what they hold, read back by that library, and what is said without it."""

import sys

import numpy as np
import pytest
from contract_file import add_prediction, make_sequence

from finepose_mp import visualization
from finepose_mp.skeletons import COCO17
from finepose_mp.visualization.recording import write_recording


@pytest.fixture(scope="module")
def sequence():
    sequence = add_prediction(make_sequence(frames=12, persons=2))
    sequence.frame[7:] += 40  # the source leaves frames out
    return sequence


def test_without_the_library_it_is_said_what_to_install(sequence, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(visualization.MissingLibraryError, match="pip install rerun-sdk"):
        write_recording(sequence, COCO17, visualization.layers_of(sequence), [0], tmp_path / "a.rrd")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def table(sequence, tmp_path_factory):
    """Rows of a recording by entity, component and frame."""
    chunks = pytest.importorskip("rerun.chunk", reason="rerun-sdk is a large optional library")
    path = tmp_path_factory.mktemp("recording") / "scene.rrd"
    write_recording(sequence, COCO17, visualization.layers_of(sequence), list(range(2, 12, 3)), path)
    rows = {}
    for chunk in chunks.RrdReader(path).store().stream():
        batch = chunk.to_record_batch()
        names = batch.schema.names
        frames = batch.column("frame").to_pylist() if "frame" in names else [None] * batch.num_rows
        for name in names:
            for frame, value in zip(frames, batch.column(name).to_pylist(), strict=True):
                rows[chunk.entity_path, name, frame] = value
    return rows


def test_people_hypotheses_cameras_and_keypoints_are_in_it(table, sequence):
    entities = {entity for entity, _, _ in table}
    for layer in ("ground_truth", "prediction", "hypotheses"):
        assert {f"/world/{layer}/{person}/bones" for person in sequence.person} <= entities
    assert {f"/world/cameras/{camera.replace('/', '_')}/detected" for camera in sequence.camera} <= entities
    assert {frame for _, _, frame in table} - {None} == {3, 6, 49, 52}  # numbers of the source
    points = table["/world/prediction/aria01/joints", "Points3D:positions", 6]
    assert np.array(points) == pytest.approx(sequence.predicted_3d_world[5, 0], abs=1e-5)
    seconds = table["/world/prediction/aria01/joints", "time", 6]
    assert seconds.total_seconds() == pytest.approx(5 / 20)
    late = table["/world/prediction/aria01/joints", "time", 49]
    assert late.total_seconds() == pytest.approx(48 / 20)
    strips = table["/world/hypotheses/aria01/bones", "LineStrips3D:strips", 6]
    assert len(strips) == 3 * len(COCO17.bones)


def test_cameras_stand_where_they_stood(table, sequence):
    camera = sequence.camera.index("cam01")
    rotation, translation = np.split(sequence.world_to_camera[camera, 5], [3], axis=1)
    centre = table["/world/cameras/cam01", "Transform3D:translation", 6]
    assert np.array(centre)[0] == pytest.approx((-rotation.T @ translation)[:, 0], abs=1e-5)
    (matrix,) = table["/world/cameras/cam01", "Pinhole:image_from_camera", None]
    assert np.array(matrix)[[0, 4, 6, 7]] == pytest.approx(sequence.camera_params[camera, 0, :4])


def test_what_was_assumed_is_in_it(table, sequence):
    (text,) = table["/about", "TextDocument:text", None]
    assert all(sentence in text for sentence in sequence.prediction["assumed"])
    assert "world frame, metres, +z up" in text
