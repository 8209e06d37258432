"""Pictures of scenes: what is drawn, and what is refused."""

import numpy as np
import pytest
from contract_file import make_sequence

from finepose_mp import visualization
from finepose_mp.skeletons import COCO17


@pytest.fixture(scope="module")
def sequence():
    return make_sequence()


def test_every_visible_bone_of_every_person_is_drawn(sequence):
    figure = visualization.scene_figure(sequence, COCO17, 0, [])
    world = figure.axes[0]
    lines = np.array([line.get_data_3d() for line in world.lines if len(line.get_data_3d()[0]) == 2])
    for p in range(len(sequence.person)):
        joints = sequence.joints_3d_world[0, p]
        drawn = [pair for pair in COCO17.bones if np.isfinite(joints[list(pair)]).all()]
        assert drawn
        for first, second in drawn:
            assert (np.abs(lines - joints[[first, second]].T).max(axis=(1, 2)) < 1e-5).any()


def test_a_prediction_is_drawn_dashed_and_explained(sequence):
    prediction = visualization.Prediction(sequence.joints_3d_world[0] + 0.1, "placed at the true root")
    figure = visualization.scene_figure(sequence, COCO17, 0, [], prediction)
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert len(dashed) >= len(COCO17.bones)
    assert "placed at the true root" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_views_have_the_cameras_image_size_and_a_title(sequence):
    cameras = visualization.cameras_with_most_people(sequence, 0, 2)
    figure = visualization.scene_figure(sequence, COCO17, 0, cameras)
    for axes, name in zip(figure.axes[1:], cameras, strict=True):
        width, height = sequence.image_size[sequence.camera.index(name)]
        assert axes.get_xlim() == (-0.5, width - 0.5)
        assert axes.get_ylim() == (height - 0.5, -0.5)
        assert name in axes.get_title()


def test_cameras_that_see_nobody_are_not_chosen(sequence):
    seen = sequence.in_view[:, 0].sum(axis=(1, 2))
    chosen = visualization.cameras_with_most_people(sequence, 0, 100)
    assert {sequence.camera.index(name) for name in chosen} == set(np.flatnonzero(seen))


def test_what_does_not_exist_is_named(sequence):
    with pytest.raises(ValueError, match="asked for -1"):
        visualization.scene_figure(sequence, COCO17, -1, [])
    with pytest.raises(ValueError, match="not periscope"):
        visualization.scene_figure(sequence, COCO17, 0, ["periscope"])


def test_people_have_different_colours():
    assert len(set(visualization.PERSON_COLOURS)) == len(visualization.PERSON_COLOURS) >= 8
