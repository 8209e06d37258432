"""Long tracks without seams, and whole scenes: people lifted, fused over cameras and placed in the world."""

import numpy as np
import pytest
import torch
from contract_file import make_sequence
from training_runs import untrained_run

from finepose_mp import schema
from finepose_mp.config import Config
from finepose_mp.inference.long_tracks import TrackInput, lift_long_tracks, overlapping_windows
from finepose_mp.inference.prediction import predict_file
from finepose_mp.inference.scene import predict_scene
from finepose_mp.models import build_model
from finepose_mp.skeletons import joint_set
from finepose_mp.variables import INFERRED, NOT_PREDICTED, SEEN

COCO17 = joint_set("coco17")
WINDOW = 9


def config_of(name: str = "d3dp", **evaluation) -> Config:
    values = {
        "run_dir": "unused",
        "data": {"files": ["unused"], "window": WINDOW, "camera_kinds": ["exo"], "input_2d": "projected"},
        "model": {"name": name, "width": 16, "depth": 2, "heads": 2, "prompt": {"text_weights": "random"}},
        "evaluation": {"hypotheses": 3, "sampling_steps": 2, **evaluation},
    }
    return Config.model_validate(values)


def model_of(config: Config) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(config.model, len(COCO17), WINDOW).eval()


def lift_track(model, config, points, mask, seed) -> np.ndarray:
    """Hypotheses (H, T, J, 3) of a single track."""
    return lift_long_tracks(model, config, [TrackInput(points, mask, seed)])[0]


def keypoints(length: int) -> tuple[np.ndarray, np.ndarray]:
    points = np.random.default_rng(1).normal(size=(length, len(COCO17), 2)).astype(np.float32)
    return points, np.ones((length, len(COCO17)), bool)


@pytest.mark.parametrize("length", [1, 8, 9, 10, 15, 100])
def test_windows_hold_every_frame_and_share_some(length):
    windows = overlapping_windows(length, WINDOW)
    held = np.bincount(windows.frames[windows.frame_mask], minlength=length)
    assert (held >= 1).all()
    assert windows.frames.max() == length - 1
    if length > WINDOW:
        assert (np.diff(windows.start) <= WINDOW - WINDOW // 3).all()


@pytest.mark.parametrize("name", ["finepose", "d3dp", "mixste"])
@pytest.mark.parametrize("flip", [True, False])
def test_a_long_track_does_not_depend_on_how_much_fits_into_memory(name, flip):
    little, much = (config_of(name, flip=flip, memory_mb=mb) for mb in (1, 4000))
    model = model_of(little)
    points, mask = keypoints(40)
    ours = lift_track(model, little, points, mask, seed=3)
    np.testing.assert_allclose(ours, lift_track(model, much, points, mask, seed=3), atol=1e-5)
    assert ours.shape == (3 if model.is_denoiser else 1, 40, 17, 3)
    assert np.abs(COCO17.root(ours)).max() < 1e-6
    if model.is_denoiser:
        assert np.abs(ours - lift_track(model, little, points, mask, seed=4)).max() > 1e-3


@pytest.mark.parametrize("name", ["finepose", "mixste"])
def test_tracks_that_are_lifted_together_do_not_know_of_each_other(name):
    config = config_of(name)
    model = model_of(config)
    tracks = [TrackInput(*keypoints(length), seed=length) for length in (23, 5, 9)]
    tracks[1].input_mask[:] = False  # one of them has nothing to lift
    together = lift_long_tracks(model, config, tracks)
    for track, poses in zip(tracks, together, strict=True):
        np.testing.assert_allclose(poses, lift_track(model, config, *track), atol=1e-5)
    assert np.isnan(together[1]).all()


def test_a_track_of_one_window_is_lifted_as_that_window():
    config = config_of(flip=False)
    model, (points, mask) = model_of(config), keypoints(WINDOW)
    x = torch.from_numpy(points)[None]
    from finepose_mp.diffusion import CosineSchedule, ddim_sample, draw_noise, window_generators

    generators = window_generators([5])
    with torch.no_grad():
        expected = ddim_sample(
            lambda noisy, t: model(x, noisy, torch.full((1,), t), torch.ones(1, WINDOW, 17, dtype=torch.bool)),
            lambda _draw: draw_noise(generators, (3, WINDOW, 17, 3)),
            CosineSchedule(1000),
            2,
            config.diffusion.clip_m,
        )[-1][0]
    np.testing.assert_allclose(lift_track(model, config, points, mask, 5), COCO17.root_relative(expected), atol=1e-5)


def test_windows_meet_without_a_step():
    """A network that answers with each window's own constant: the blend moves from one to the next, never jumps."""

    class Constant(torch.nn.Module):
        is_denoiser, reads_prompts = False, False

        def __init__(self) -> None:
            super().__init__()
            self.trunk = model_of(config_of("mixste")).trunk

        def forward(self, input_2d, _mask):
            height = input_2d[:, :1, :, :1].expand(*input_2d.shape[:-1], 1)
            sign = torch.ones(17)
            sign[list(COCO17.root_joints)] = 0  # so that root-relative poses keep it
            return torch.cat([torch.zeros_like(input_2d), height * sign[:, None]], dim=-1)

    length = 30
    points, mask = keypoints(length)
    points[:] = np.arange(length, dtype=np.float32)[:, None, None] // (WINDOW - WINDOW // 3)  # one value per window
    lifted = lift_track(Constant(), config_of("mixste", flip=False), points, mask, 0)[0, :, 0, 2]
    jumps = np.abs(np.diff(lifted))
    assert 0 < jumps.max() <= 0.5
    assert lifted[0] == 0 and lifted[-1] > 2


def test_a_gap_longer_than_a_window_stays_empty():
    config = config_of()
    points, mask = keypoints(50)
    mask[15:40] = False
    lifted = lift_track(model_of(config), config, points, mask, 0)
    there = np.isfinite(lifted).all(axis=(0, 2, 3))
    assert there[:15].all() and there[40:].all() and not there[24:30].any()


@pytest.fixture
def scene(tmp_path):
    """A file with one sequence whose prediction is asked for, and a function that predicts it."""

    def predict(change=lambda sequence: None, joints=None, **evaluation):
        sequence = make_sequence(frames=30, persons=2, exo=2)
        change(sequence)
        path = tmp_path / "data.h5"
        with schema.create(path, "mine", "coco17", "mine", "none", overwrite=True) as file:
            schema.write_sequence(file, sequence)
        config = config_of(**evaluation)
        return sequence, predict_scene(model_of(config), config, path, sequence.name, joints=joints)

    return predict


def test_people_are_lifted_and_placed(scene):
    sequence, predicted = scene()
    assert predicted.joints_3d_world.shape == sequence.joints_3d_world.shape
    assert predicted.hypotheses_3d_world.shape == (3, *sequence.joints_3d_world.shape)
    there = predicted.status != NOT_PREDICTED
    assert there.any()
    assert np.isfinite(predicted.joints_3d_world[there]).all() and np.isnan(predicted.joints_3d_world[~there]).all()
    assert (predicted.spread[there] > 0).any()
    assert predicted.root_relative == []


def test_what_cameras_disagree_about_is_uncertain(tmp_path):
    """The spread is that of the hypotheses of both cameras together, which each by itself gives, too."""
    sequence, path, config = make_sequence(frames=12, persons=1, exo=2), tmp_path / "data.h5", config_of()
    with schema.create(path, "mine", "coco17", "mine", "none") as file:
        schema.write_sequence(file, sequence)
    cameras = [name for name, kind in zip(sequence.camera, sequence.camera_kind, strict=True) if kind == "exo"]
    both, *alone = (
        predict_scene(model_of(config), config, path, sequence.name, through)
        for through in (cameras, *([name] for name in cameras))
    )
    seen = np.all([each.status == SEEN for each in alone], axis=0)
    assert seen.any()
    hypotheses = np.concatenate([COCO17.root_relative(each.hypotheses_3d_world) for each in alone])
    expected = np.sqrt(((hypotheses - hypotheses.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
    np.testing.assert_allclose(both.spread[seen], expected[seen], atol=1e-6)


def test_the_prediction_of_several_cameras_lies_among_its_hypotheses(scene):
    def without_a_joint(sequence):
        sequence.joints_2d_projected[:, :, 0, COCO17.index("left_wrist")] = np.nan
        sequence.joints_2d_projected[0, 5:9] = np.nan  # one of the cameras is blind for a while

    _, predicted = scene(without_a_joint)
    there = predicted.status != NOT_PREDICTED
    pose, hypotheses = predicted.joints_3d_world[there], predicted.hypotheses_3d_world[:, there]
    assert there.any() and hypotheses.std(axis=0).max() > 0.01
    assert (pose >= hypotheses.min(axis=0) - 1e-9).all() and (pose <= hypotheses.max(axis=0) + 1e-9).all()
    unseen_joint = np.s_[:, COCO17.index("left_wrist")]
    of_person = predicted.status[:, 0] == SEEN
    mean = predicted.hypotheses_3d_world[:, of_person, 0].mean(axis=0)
    np.testing.assert_allclose(predicted.joints_3d_world[of_person, 0][unseen_joint], mean[unseen_joint], atol=1e-9)


@pytest.mark.parametrize("placed", [True, False])
def test_the_spread_of_a_derived_joint_is_that_of_its_hypotheses(tmp_path, placed):
    sequence, path, config = make_sequence(frames=12, persons=1, exo=1), tmp_path / "data.h5", config_of()
    if not placed:
        sequence.world_to_camera[:] = np.nan
    with schema.create(path, "mine", "coco17", "mine", "none") as file:
        schema.write_sequence(file, sequence)
    args = (model_of(config), config, path, sequence.name, ["cam01"])
    own, predicted = predict_scene(*args), predict_scene(*args, joints="h36m17")
    joints = joint_set("h36m17")
    hypotheses = joints.root_relative(predicted.hypotheses_3d_world)
    expected = np.sqrt(((hypotheses - hypotheses.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
    np.testing.assert_allclose(predicted.spread, expected, atol=1e-6)
    assert np.nanmax(predicted.spread[..., joints.index("pelvis")]) < 1e-6 < expected[..., joints.index("spine")].min()
    same = [set_.index("left_knee") for set_ in (COCO17, joints)]
    np.testing.assert_array_equal(own.spread[..., same[0]], predicted.spread[..., same[1]])
    np.testing.assert_array_equal(own.status, predicted.status)


def test_a_scene_in_which_nobody_is_placed_says_so_though_somebody_has_no_prediction(tmp_path):
    sequence, run = make_sequence(frames=12, persons=2, exo=1), untrained_run(tmp_path / "run")
    sequence.world_to_camera[:] = np.nan
    sequence.joints_2d_detected[:, :, 1] = np.nan
    sequence.detection_score[:, :, 1] = 0
    with schema.create(tmp_path / "data.h5", "mine", "coco17", "mine", "none") as file:
        schema.write_sequence(file, sequence)
    predict_file(run, tmp_path / "data.h5", tmp_path / "scene.h5")
    with schema.open_file(tmp_path / "scene.h5") as file:
        scene = schema.read_sequence(file, sequence.name)
    assert not scene.predicted_status[:, 1].any() and scene.prediction["root_relative"] == [sequence.person[0]]
    assert scene.prediction["frame"] == "camera axes, root at origin"


def test_no_truth_is_read(scene):
    def without_truth(sequence):
        sequence.joints_3d_world[:] = np.nan
        sequence.joint_status[:] = schema.MISSING

    np.testing.assert_array_equal(scene()[1].joints_3d_world, scene(without_truth)[1].joints_3d_world)


def test_without_camera_poses_people_keep_their_root_at_the_origin_and_are_named(scene):
    def without_poses(sequence):
        sequence.world_to_camera[:] = np.nan

    sequence, predicted = scene(without_poses)
    assert predicted.root_relative == sequence.person
    there = predicted.status == SEEN
    assert there.any()
    assert np.abs(COCO17.root(predicted.joints_3d_world[there])).max() < 1e-6


def test_frames_without_keypoints_are_marked_as_inferred(scene):
    def with_gap(sequence):
        sequence.joints_2d_projected[:, 10:13] = np.nan
        sequence.in_view[:, 10:13] = 0

    _, predicted = scene(with_gap)
    seen_before = scene()[1].status == SEEN
    assert (predicted.status[10:13] != SEEN).all()
    lifted_around = seen_before[9] & seen_before[13]
    assert lifted_around.any()
    assert (predicted.status[10:13, lifted_around] == INFERRED).all()


def test_a_person_whom_nobody_sees_has_no_prediction(scene):
    def unseen(sequence):
        sequence.joints_2d_projected[:, :, 1] = np.nan
        sequence.in_view[:, :, 1] = 0

    _, predicted = scene(unseen)
    assert (predicted.status[:, 1] == NOT_PREDICTED).all()
    assert np.isnan(predicted.joints_3d_world[:, 1]).all()
