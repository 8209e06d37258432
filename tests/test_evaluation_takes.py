"""Which takes of a file are scored, whether the model has seen them, and what is said where nothing can be scored."""

import h5py
import numpy as np
import pytest
from contract_file import make_sequence, write_contract_file
from test_evaluation import make_run, write_takes

from finepose_mp import runs, schema
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.splits import DataError
from finepose_mp.datasets.windows import WindowDataset
from finepose_mp.evaluation import EvaluationError, Options, evaluate, preparation


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_contract_file(folder / "people.h5", ("Tagging",), takes_per_scene=3, frames=30, persons=2)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_file):
    return make_run(tmp_path_factory.mktemp("runs") / "d3dp", data_file)


def short_take(name: str, split: str = "train", scene: str = "Basketball") -> schema.Sequence:
    return make_sequence(name, scene, split, frames=30, persons=2)


def test_takes_that_trained_are_known_without_the_files_they_were_in(tmp_path):
    trained = write_takes(tmp_path / "trained.h5", short_take("a/1"), short_take("a/2"))
    run = make_run(tmp_path / "run", trained, split_scheme="official")
    trained.unlink()
    seen = write_takes(tmp_path / "seen.h5", short_take("a/1", "test"))
    with pytest.raises(DataError, match=r"1 takes of split test \(simulated:a/1, ...\) were in split train or val"):
        preparation.prepare(run, seen, Options())
    new = write_takes(tmp_path / "new.h5", short_take("a/3", "test"))
    assert preparation.prepare(run, new, Options()).leak_check.startswith("no evaluated take is among")


@pytest.mark.parametrize("scenes", [None, ["Tennis"]])
def test_a_renamed_file_has_the_validation_takes_that_the_run_held_out(tmp_path, scenes):
    takes = [short_take(f"{scene}/{n}", scene=scene) for scene in ("Basketball", "Tennis") for n in range(3)]
    path = write_takes(tmp_path / "people.h5", *takes)
    run = make_run(tmp_path / "run", path, split_scheme="official", scenes=scenes)
    renamed = path.rename(tmp_path / "renamed.h5")
    tracks = preparation.prepare(run, renamed, Options(split="val")).tracks
    assert sorted({track.take for track in tracks}) == runs.read_takes(run)["val"]


def test_a_training_file_without_training_takes_has_shown_nothing(tmp_path):
    tests_alone = write_takes(tmp_path / "tests.h5", short_take("a/1", "test"))
    run = make_run(tmp_path / "run", tests_alone, split_scheme="official")
    assert preparation.prepare(run, tests_alone, Options()).leak_check.startswith("no evaluated take is among")


def test_validation_takes_of_a_training_file_are_those_that_the_run_held_out(tmp_path):
    """Of two files with one training take each, the run trains on one and validates on the other."""
    files = [write_takes(tmp_path / f"{name}.h5", short_take(f"{name}/1")) for name in "ab"]
    run = make_run(tmp_path / "run", files[0], split_scheme="official", files=files)
    (held_out,) = {track.take for track in list_tracks(runs.load_run(run)[1].data, "val")}
    validated, trained = sorted(files, key=lambda path: f"simulated:{path.stem}/1" != held_out)
    prepared = preparation.prepare(run, validated, Options(split="val"))
    assert {track.take for track in prepared.tracks} == {held_out}
    with pytest.raises(EvaluationError, match=r"no take of split val; 1 take\(s\) are in split train of this run"):
        preparation.prepare(run, trained, Options(split="val"))


def test_validation_takes_are_those_of_the_scenes_that_were_trained_on(tmp_path):
    scenes = ("Basketball", "Tennis")
    takes = [short_take(f"{scene}/{n}", scene=scene) for scene in scenes for n in range(3)]
    path = write_takes(tmp_path / "people.h5", *takes)
    for scene in scenes:
        run = make_run(tmp_path / scene, path, split_scheme="official", scenes=[scene])
        tracks = preparation.prepare(run, path, Options(split="val")).tracks
        assert {track.scene for track in tracks} == {scene} and len({track.take for track in tracks}) == 1


def test_a_file_of_training_takes_says_so_and_what_is_scored(tmp_path, run_dir):
    takes = [make_sequence(f"a/{n}", frames=30, persons=2) for n in range(2)]
    path = write_takes(tmp_path / "takes.h5", *takes)
    with pytest.raises(EvaluationError, match=r"2 take\(s\) are in split train of this run .*and only test or val"):
        evaluate(run_dir, path)


def test_cameras_that_a_file_has_not_are_named(run_dir, data_file):
    with pytest.raises(EvaluationError, match=r"cameras of kind ego_rgb, exo, not ego_slam; choose .*--camera-kinds"):
        evaluate(run_dir, data_file, Options(camera_kinds=("ego_slam",)))


@pytest.mark.parametrize("protocol", ["egohumans", "human36m"])
def test_a_file_without_truth_says_so(tmp_path, run_dir, protocol):
    take = make_sequence("a/1", "Tagging", "test", "test", 30, 2)
    take.scene = "Walking"
    take.joint_status[:] = schema.MISSING
    take.joints_3d_world[:] = np.nan
    take.joints_2d_projected[:] = np.nan
    path = write_takes(tmp_path / "predicted.h5", take)
    with pytest.raises(EvaluationError, match=r"predicted.h5 has no 3D ground truth to compare with"):
        evaluate(run_dir, path, Options(hypotheses=1, sampling_steps=1), protocol)


def test_what_leaves_nothing_to_score_is_said_in_words(tmp_path, run_dir):
    take = make_sequence("a/1", "Tagging", "test", "test", 30, 2)
    take.in_view[:] = 0
    take.joints_2d_projected[:] = np.nan
    path = write_takes(tmp_path / "unseen.h5", take)
    with pytest.raises(EvaluationError, match=r"frames left out: no 3D position \d+, person not in view \d+; try"):
        evaluate(run_dir, path, Options(hypotheses=1, sampling_steps=1))


def test_cameras_without_any_keypoint_are_refused(tmp_path):
    path = write_contract_file(tmp_path / "people.h5", takes_per_scene=2, frames=30, persons=2, slam=True)
    with h5py.File(path, "r+") as file:
        for name in schema.sequence_names(file):
            slam = file[name]["camera_kind"].asstr()[...] == "ego_slam"
            for k in np.flatnonzero(slam):
                file[name]["joints_2d_detected"][k], file[name]["detection_score"][k] = np.nan, 0
    run = make_run(tmp_path / "run", path, split_scheme="official")
    with pytest.raises(EvaluationError, match=r"people.h5: no keypoint in any camera of kind ego_slam .*camera-kinds"):
        preparation.prepare(run, path, Options(camera_kinds=("ego_slam",)))
    assert preparation.prepare(run, path, Options(camera_kinds=("exo", "ego_slam"))).tracks
    message = r"people.h5: no keypoint in any window of camera kind ego_slam .*set data.input_2d=projected or choose"
    data = runs.load_run(run)[1].data.model_copy(update={"camera_kinds": ["ego_slam"]})
    with pytest.raises(DataError, match=message):
        WindowDataset(data, "train", training=True)
    assert len(WindowDataset(data.model_copy(update={"input_2d": "projected"}), "train", training=True))
