"""Recorded motion in simulated scenes: splits kept, nothing invented between frames, bad files refused by name."""

import json
from functools import cache

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from finepose_mp.preprocessing.egohumans.catalogue import within_scene_split
from finepose_mp.preprocessing.simulation.clips import KEYS, MotionFile, MotionFileError
from finepose_mp.preprocessing.simulation.dataset import plan_takes, simulate
from finepose_mp.preprocessing.simulation.stages import STAGES, built_in_motion

ROOM = (3.0, 3.0)


SPLITS = ("train",) * 4 + ("val",) * 3 + ("test",) * 3


@cache
def motion_arrays() -> dict[str, np.ndarray]:
    """A motion file's content: one walking or kneeling person a clip, 60 frames a second."""
    splits, clips, clock = SPLITS, [], np.arange(90) / 20
    for i, _ in enumerate(splits):
        motion = built_in_motion(("tagging", "legoassemble")[i % 2], 2, len(clock), np.random.default_rng(i))
        joints = np.concatenate([motion.toes[:, 0], motion.joints[:, 0]], axis=1)
        clips.append(CubicSpline(clock, joints)(np.arange(0, clock[-1], 1 / 60)))
    lengths = np.array([len(clip) for clip in clips])
    return {
        "positions": np.concatenate(clips).astype(np.float32),
        "joint": np.array(["l_toe", "r_toe", *(f"coco_{j}" for j in range(17))]),
        "coco17": np.arange(2, 19),
        "clip": np.array([f"clip_{i}" for i in range(len(splits))]),
        "action": np.array(["run" if i % 2 == 0 else "bend" for i in range(len(splits))]),
        "split": np.array(splits),
        "start": np.cumsum(lengths) - lengths,
        "length": lengths,
        "take_group": np.arange(len(splits)),
        "fps": np.array(60.0),
    }


def write(path, **changes):
    arrays = {key: value for key, value in (motion_arrays() | changes).items() if value is not None}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def motion_file(tmp_path_factory) -> MotionFile:
    return MotionFile(write(tmp_path_factory.mktemp("motion") / "motion.npz"))


def check_motion(motion, frames: int, people: int) -> None:
    assert motion.joints.shape == (frames, people, 17, 3)
    assert motion.toes[..., 2].min() > -0.01 and motion.joints[..., 2].min() > -0.01
    assert motion.toes[..., 2].min(axis=(0, 2)).max() < 0.03  # everybody touches the floor
    for a, b in ((5, 7), (7, 9), (11, 13), (13, 15), (12, 14), (14, 16)):
        lengths = np.linalg.norm(motion.joints[:, :, a] - motion.joints[:, :, b], axis=-1)
        assert (lengths.std(axis=0) < 0.02 * lengths.mean(axis=0)).all()
    pelvis = motion.joints[:, :, 11:13].mean(axis=2)
    distance = np.linalg.norm(pelvis[:, :, None] - pelvis[:, None], axis=-1) + 9 * np.eye(people)
    assert distance.min() > 0.5
    assert np.allclose(np.linalg.det(motion.head_rotation), 1)


@pytest.mark.parametrize("split, people", [("train", 4), ("val", 3), ("test", 3)])
def test_only_clips_of_the_split_and_no_take_group_twice(motion_file, split, people):
    arrays = motion_arrays()
    allowed = set(arrays["clip"][arrays["split"] == split])
    for seed in range(3):
        motion = motion_file.motion(split, people, 40, ("run",), ROOM, np.random.default_rng(seed))
        assert set(motion.sources) <= allowed and len(set(motion.sources)) == people
        check_motion(motion, 40, people)


def test_short_clips_run_to_and_fro_without_jumps(motion_file):
    motion = motion_file.motion("val", 2, 300, (), ROOM, np.random.default_rng(0))  # 15 s from clips of 4.5 s
    check_motion(motion, 300, 2)
    step = np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1)
    assert step.max() * 20 < 12  # m/s
    pelvis = motion.joints[:, :, 11:13].mean(axis=2)
    acceleration = np.linalg.norm(np.diff(pelvis, n=2, axis=0), axis=-1) * 20**2
    assert acceleration.max() < 25  # m/s²; an abrupt turn of a runner would be 100


def test_same_generator_same_motion(motion_file):
    a, b = (motion_file.motion("train", 3, 50, (), ROOM, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(a.joints, b.joints) and a.sources == b.sources


def test_takes_get_clips_of_their_own_split(motion_file, tmp_path):
    takes = plan_takes(["legoassemble"], 4)
    simulate(tmp_path / "raw", takes[1:], 3, seed=0, motion_file=motion_file)
    arrays = motion_arrays()
    split_of = dict(zip(arrays["clip"].tolist(), arrays["split"].tolist(), strict=True))
    for take, split in zip(takes[1:], ("test", "train", "val"), strict=True):
        assert within_scene_split(take.number) == split
        mark = json.loads((tmp_path / "raw" / take.name / "SIMULATED.json").read_text())
        assert {split_of[clip] for clip in mark["people"].values()} == {split}
        assert mark["motion"]["file"] == "motion.npz" and len(mark["motion"]["sha256"]) == 64


def test_climbers_and_stretching_bodies_are_left_out(tmp_path):
    arrays = motion_arrays()
    positions = arrays["positions"].copy()
    start, length = arrays["start"], arrays["length"]
    positions[start[0] + length[0] // 2 : start[0] + length[0], :, 2] += 0.6  # half of the clip on a wall
    positions[start[1] : start[1] + length[1], 2 + 9] += np.linspace(0, 0.2, length[1])[:, None]  # an arm grows
    found = MotionFile(write(tmp_path / "motion.npz", positions=positions))
    assert {clip.name for clip in found.clips} == {f"clip_{i}" for i in range(2, 10)}


def test_too_few_groups_of_a_split(motion_file):
    with pytest.raises(MotionFileError, match=r"'val' has 3 usable take groups, a scene of 4 people"):
        motion_file.motion("val", 4, 40, (), ROOM, np.random.default_rng(0))


@pytest.mark.parametrize("key", KEYS)
def test_missing_key_is_named(tmp_path, key):
    with pytest.raises(MotionFileError, match=f"motion.npz: key {key} missing; expected positions"):
        MotionFile(write(tmp_path / "motion.npz", **{key: None}))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"positions": np.zeros((10, 3))}, r"positions have shape \(10, 3\)"),
        ({"length": np.full(10, 10**6)}, "clips reach to frame"),
        ({"coco17": np.arange(16)}, "17 coco17 indices"),
        ({"coco17": np.arange(5, 22)}, "must lie in 0..18"),
        ({"take_group": np.zeros(10, int)}, "take_group 0 is in splits train and val"),
        ({"clip": np.array(["one"])}, "one entry a clip"),
    ],
)
def test_inconsistent_file_is_refused(tmp_path, changes, message):
    with pytest.raises(MotionFileError, match=message):
        MotionFile(write(tmp_path / "motion.npz", **changes))


def test_absent_damaged_and_pickled_files_are_refused(tmp_path):
    with pytest.raises(MotionFileError, match="no such motion file"):
        MotionFile(tmp_path / "nothing.npz")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(MotionFileError, match=r"no readable \.npz"):
        MotionFile(tmp_path / "damaged.npz")
    with pytest.raises(MotionFileError, match=r"no readable \.npz"):
        MotionFile(write(tmp_path / "pickled.npz", clip=np.array([{}] * 10, dtype=object)))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_recorded_motion_database_animates_scenes(shared, split):
    database = MotionFile(shared / "data/cmu_mocap/cmu_mocap_60hz.npz")
    names = {clip.name for clip in database.clips if clip.split == split}
    for seed, (scene, people) in enumerate((("tagging", 4), ("legoassemble", 3), ("fencing", 4))):
        place = STAGES[scene]
        rng = np.random.default_rng(seed)
        motion = database.motion(split, people, 100, place.clip_words, place.half_size, rng)
        check_motion(motion, 100, people)
        assert set(motion.sources) <= names
        ahead = np.degrees(np.arcsin(motion.head_rotation[..., 2, 0]))
        assert np.abs(np.median(ahead, axis=0)).max() < 45


def test_clips_may_not_meet_on_both_sides_of_the_official_split(motion_file, tmp_path):
    takes = plan_takes(["tagging", "tennis"], 1)  # official test and train
    with pytest.raises(ValueError, match="would put the same clips on both sides"):
        simulate(tmp_path / "raw", takes, 20, 0, motion_file)
    assert not (tmp_path / "raw").exists()
