"""Simulated people move like people: constant bones, feet on the floor, joints that bend one way, nobody in nobody."""

import numpy as np
import pytest
from scipy.signal import medfilt

from finepose_mp.preprocessing.simulation.gait import walk
from finepose_mp.preprocessing.simulation.motion import FPS, Motion, two_bones
from finepose_mp.preprocessing.simulation.stages import STAGES, built_in_motion, stage

PEOPLE = {"legoassemble": 3, "tennis": 2}
RIGID = (
    (5, 6),
    (11, 12),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
    (0, 1),
    (3, 4),
    (0, 3),
)
LEGS, ARMS = ((11, 13, 15), (12, 14, 16)), ((5, 7, 9), (6, 8, 10))


def make(scene: str, seed: int, frames: int = 160) -> Motion:
    return built_in_motion(scene, PEOPLE.get(scene, 4), frames, np.random.default_rng(seed))


@pytest.fixture(scope="module", params=[(scene, seed) for scene in STAGES for seed in (0, 1, 2)], ids=str)
def motion(request) -> Motion:
    return make(*request.param)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def bend(joints: np.ndarray, limb: tuple[int, int, int]) -> np.ndarray:
    """How far (T, P, 3) the middle joint lies off the line between the limb's ends, metres."""
    first, middle, last = (joints[:, :, j] for j in limb)
    line = unit(last - first)
    return (middle - first) - ((middle - first) * line).sum(-1, keepdims=True) * line


def interior_degrees(joints: np.ndarray, limb: tuple[int, int, int]) -> np.ndarray:
    first, middle, last = (joints[:, :, j] for j in limb)
    return np.degrees(np.arccos(np.clip((unit(first - middle) * unit(last - middle)).sum(-1), -1, 1)))


def test_shapes_and_numbers(motion):
    frames, people = motion.joints.shape[:2]
    assert motion.joints.shape == (frames, people, 17, 3) and motion.toes.shape == (frames, people, 2, 3)
    assert all(np.isfinite(array).all() for array in (motion.joints, motion.toes, motion.head_rotation))
    assert np.allclose(motion.head_rotation @ motion.head_rotation.swapaxes(-1, -2), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(motion.head_rotation), 1)
    assert len(motion.sources) == people


def test_bones_keep_their_lengths(motion):
    for a, b in RIGID:
        lengths = np.linalg.norm(motion.joints[:, :, a] - motion.joints[:, :, b], axis=-1)
        assert np.ptp(lengths, axis=0).max() < 1e-9


def test_nothing_is_below_the_floor_and_somebody_in_the_air_comes_down_again(motion):
    assert motion.joints[..., 2].min() > -0.01 and motion.toes[..., 2].min() > -0.01
    lowest = np.minimum(motion.toes[..., 2].min(axis=-1), motion.joints[..., 2].min(axis=-1) - 0.05)
    assert lowest.max() < 0.45
    longest, airborne = 0, np.zeros(lowest.shape[1], int)
    for now in lowest > 0.04:
        airborne = np.where(now, airborne + 1, 0)
        longest = max(longest, airborne.max())
    assert longest <= 12  # 0.6 s


def test_standing_feet_stay_where_they_are(motion):
    on_floor = motion.toes[..., 2] < 0.02
    on_floor = on_floor[:-1] & on_floor[1:]
    slide = np.linalg.norm(np.diff(motion.toes[..., :2], axis=0), axis=-1)[on_floor] * FPS
    assert on_floor.mean() > 0.3
    assert np.percentile(slide, 98) < 0.1 and slide.max() < 0.7  # m/s


def test_people_do_not_walk_through_each_other(motion):
    pelvis = motion.joints[:, :, 11:13].mean(axis=2)
    distance = np.linalg.norm(pelvis[:, :, None] - pelvis[:, None], axis=-1) + 9 * np.eye(pelvis.shape[1])
    assert distance.min() > 0.5


def test_knees_bend_forward_and_nothing_folds_up(motion):
    across = motion.joints[:, :, 11] - motion.joints[:, :, 12]
    forward = unit(np.cross(across, [0, 0, 1.0]))
    for side, limb in enumerate(LEGS):
        toes = (motion.toes[:, :, side] - motion.joints[:, :, limb[2]]) * [1, 1, 0]
        knee = bend(motion.joints, limb)
        bent = np.linalg.norm(knee, axis=-1) > 0.08
        assert ((knee * (forward + 0.8 * unit(toes))).sum(-1)[bent] > 0).all()
        assert interior_degrees(motion.joints, limb).min() > 29.9


def test_elbows_point_back_when_hands_are_low(motion):
    forward = unit(np.cross(motion.joints[:, :, 5] - motion.joints[:, :, 6], [0, 0, 1.0]))
    for limb in ARMS:
        low = motion.joints[:, :, limb[2], 2] < motion.joints[:, :, limb[0], 2] - 0.1
        in_front = (bend(motion.joints, limb) * forward).sum(-1) > 0.05
        assert (in_front & low).sum() <= 0.03 * max(low.sum(), 1)
        assert interior_degrees(motion.joints, limb).min() > 29.9


def test_torso_and_neck_turn_within_limits(motion):
    hips = motion.joints[:, :, 11] - motion.joints[:, :, 12]
    shoulders = motion.joints[:, :, 5] - motion.joints[:, :, 6]

    def heading(vectors: np.ndarray) -> np.ndarray:
        return vectors[..., 0] + 1j * vectors[..., 1]

    twist = np.degrees(np.abs(np.angle(heading(shoulders) / heading(hips))))
    neck = np.degrees(np.abs(np.angle(heading(motion.head_rotation[..., 1]) / heading(shoulders))))
    assert twist.max() < 65 and neck.max() < 85


def test_nothing_teleports(motion):
    speed = np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1) * FPS
    assert speed.max() < 12  # m/s
    head_turn = np.einsum("tpij,tpij->tp", motion.head_rotation[1:], motion.head_rotation[:-1])
    assert np.degrees(np.arccos(np.clip((head_turn - 1) / 2, -1, 1))).max() < 40  # a frame


@pytest.mark.parametrize("scene", STAGES)
def test_takes_and_people_differ_and_seeds_repeat(scene):
    first, again, other = make(scene, 5, 60), make(scene, 5, 60), make(scene, 6, 60)
    assert np.array_equal(first.joints, again.joints)
    root_relative = [m.joints - m.joints[:, :, 11:13].mean(axis=2, keepdims=True) for m in (first, other)]
    assert np.abs(root_relative[0] - root_relative[1]).mean() > 0.05
    thighs = np.linalg.norm(first.joints[0, :, 11] - first.joints[0, :, 13], axis=-1)
    assert np.ptp(thighs) > 0.001


def test_scenes_are_what_they_say():
    tag, lego, fence = (make(scene, 3, 300) for scene in ("tagging", "legoassemble", "fencing"))
    speed = np.linalg.norm(np.diff(tag.joints[:, :, 11, :2], axis=0), axis=-1) * FPS
    assert speed.max() > 2.0  # somebody runs
    assert lego.joints[:, :, 11, 2].min() < 0.6  # somebody kneels or squats
    feet = np.linalg.norm(fence.joints[:, [0, 2], 15] - fence.joints[:, [0, 2], 16], axis=-1)
    assert feet.max() > 0.9  # somebody lunges
    jumps = make("volleyball", 0, 300).toes[..., 2].min(axis=-1)
    assert jumps.max() > 0.25  # somebody jumps


def test_unknown_scene_is_named():
    with pytest.raises(ValueError, match=r"'chess'.*tagging"):
        stage("chess")


def test_nobody_plays_alone():
    with pytest.raises(ValueError, match="at least 2 people, found 1"):
        built_in_motion("tennis", 1, 20, np.random.default_rng(0))


def test_two_bones_reach_the_target_bend_to_the_pole_and_stop_at_their_length():
    start, pole = np.zeros((3, 3)), np.tile([1.0, 0, 0], (3, 1))
    target = np.array([[0, 0, -0.6], [0, 0, -2.0], [0, 0, -0.01]])
    middle, end = two_bones(start, target, 0.45, 0.4, pole)
    assert np.allclose(np.linalg.norm(middle, axis=-1), 0.45) and np.allclose(
        np.linalg.norm(end - middle, axis=-1), 0.4
    )
    assert np.allclose(end[0], target[0]) and (middle[:, 0] > 0).all()
    assert np.linalg.norm(end[1]) == pytest.approx(0.99 * 0.85)


def test_walker_alternates_feet_and_stops_with_both_on_the_floor():
    clock = np.arange(160) / FPS
    x = np.interp(clock, [0, 1, 5, 5.6], [0, 0, 5.0, 5.2])
    path = np.column_stack([medfilt(x, 3), np.zeros_like(x)])
    stance = np.tile([[0, 0.1], [0, -0.1]], (160, 1, 1))
    gait = walk(path, np.zeros(160), stance, np.zeros((160, 2)), 0.85, FPS)
    walking = (clock > 1.5) & (clock < 4.5)
    assert (~gait.standing[walking]).any(axis=0).all()
    assert gait.standing[walking].any(axis=1).all()  # walking has no flight phase
    moved = np.abs(np.diff(gait.foot_position, axis=0)).max(axis=-1)
    assert (moved[gait.standing[:-1] & gait.standing[1:]] == 0).all()
    assert gait.standing[-20:].all() and np.abs(gait.foot_position[-1, :, 0] - 5.2).max() < 0.1
