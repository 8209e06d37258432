"""Evaluating a model on a file of another joint set or frame rate than it was trained on."""

import numpy as np
import pytest
from conftest import run_tool
from contract_file import write_contract_file
from lab_file import Clip, make_run, write_lab_file

from finepose_mp import evaluation, runs
from finepose_mp.evaluation import EvaluationError, Options, evaluate, preparation
from finepose_mp.evaluation.comparison import compare
from finepose_mp.inference.lifting import lift_tracks
from finepose_mp.skeletons import COCO17, H36M17, joint_set

CLIPS = [Clip("S9/Walking", "Walking", frames=30)]
TRAINING = [Clip(f"S{n}/Eating", "Eating", split="train") for n in (1, 5)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return write_lab_file(tmp_path_factory.mktemp("lab") / "lab.h5", [*CLIPS, *TRAINING])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, lab):
    return make_run(tmp_path_factory.mktemp("runs") / "lab", lab, trained_hz=(50.0,))


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    path = tmp_path_factory.mktemp("people") / "people.h5"
    return write_contract_file(path, scenes=("Tagging",), takes_per_scene=2, frames=20, persons=2)


def test_only_joints_of_the_same_name_are_scored_and_the_others_are_said(run_dir, people):
    results = evaluate(run_dir, people, Options(frame_rate=20)).results
    choices, per_joint = results["choices"], results["per_joint_mpjpe"]["mean of scenes"]["p_agg"]
    shared = set(H36M17.joints) & set(COCO17.joints)
    assert {joint for joint, error in per_joint.items() if error is not None} == shared
    assert set(choices["joints left out"]) == set(H36M17.joints) - shared
    assert "pelvis" not in shared  # made of the hips: it is the root, and scoring it would compare it with itself
    assert choices["joints compared"] == "12 of 17, which file and model share by name"
    assert (choices["joint set of the file"], choices["joint set"]) == ("coco17", "h36m17")
    count = results["counts"]["all scenes"]
    assert count["joints scored"] <= 12 * count["frames scored"]
    assert count["joints left out: joint not comparable"] > 0
    assert count["joints left out: other"] == 0
    assert "only these are scored, and not pelvis, spine, neck, head, head_top.**" in evaluation.render(results)


def test_the_truth_of_another_joint_set_has_no_error(run_dir, people, monkeypatch):
    """What is compared is the same joint: the file's own positions, moved to the model's root, are right."""

    def the_truth(model, config, tracks, **options):
        for track, sample, poses, times in lift_tracks(model, config, tracks, **options):
            yield track, sample, np.broadcast_to(sample["target_3d"], poses.shape), times

    monkeypatch.setattr(preparation, "lift_tracks", the_truth)
    table = evaluate(run_dir, people, Options(frame_rate=20)).results["scenes"]["Tagging"]
    assert table["mpjpe"]["p_agg"] == pytest.approx(0, abs=1e-3)
    assert table["mpjpe"]["training_mean_pose"] > 10


def test_a_joint_that_training_never_had_is_left_out_and_said(tmp_path, lab, people):
    run = make_run(tmp_path / "run", lab)
    joints = joint_set("h36m17")
    mean_pose = runs.read_mean_pose(run)
    mean_pose[joints.index("head_top")] = np.nan
    runs.write_mean_pose(run, mean_pose, joints.name)
    choices = evaluate(run, lab).results["choices"]
    assert choices["joints left out"] == {"head_top": "no training target had it"}
    assert choices["joints compared"].startswith("16 of 17")


def test_the_same_joint_set_compares_all_joints(run_dir, lab):
    choices = evaluate(run_dir, lab).results["choices"]
    assert (choices["joints compared"], choices["joints left out"]) == ("all 17", "none")


def test_results_on_other_joints_or_frames_are_not_compared(tmp_path, run_dir, lab, people):
    def results(run, rate):
        return evaluate(run, people, Options(frame_rate=rate, bootstrap_samples=10)).results

    one = make_run(tmp_path / "one", lab, data={"joint_set": "coco17", "camera_kinds": ["ego_rgb"]})
    strict = make_run(
        tmp_path / "b", lab, data={"joint_set": "coco17", "camera_kinds": ["exo"], "min_joints_in_view": 9}
    )
    other = make_run(tmp_path / "other", lab, data={"joint_set": "coco17", "camera_kinds": ["exo"]})
    first = results(other, 20)
    compare({"a": first, "b": results(other, 20) | {"headline": "single"}})
    for choice, found, second in (
        ("joint set", "h36m17", results(run_dir, 20)),
        (r"frame rate \(Hz\)", "10", results(other, 10)),
        ("person in view", "at least 9", results(strict, 20)),
        ("camera kinds", r"\['ego_rgb'\]", results(one, 20)),
    ):
        with pytest.raises(EvaluationError, match=rf"{choice} of b is {found}.*do not compare"):
            compare({"a": first, "b": second}, "mpjve")


def test_the_comparing_tool_says_what_it_wants(tmp_path, monkeypatch, capsys):
    (tmp_path / "results_test_x.json").write_text("{}")
    (tmp_path / "data.h5").write_bytes(b"\x89HDF")
    for given, message in (
        (tmp_path, f"is a directory; give its results_*.json (found {tmp_path / 'results_test_x.json'})"),
        (tmp_path / "data.h5", "data.h5: not JSON"),
    ):
        status, _, errors = run_tool(monkeypatch, capsys, "compare.py", given)
        assert status == 2 and message in errors


def test_pictures_show_joints_that_the_file_has(run_dir, people):
    example = next(iter(evaluate(run_dir, people, Options(frame_rate=20)).examples.values()))
    assert example.joint_set == "h36m17"
    assert np.isfinite(example.true_3d).any()


def test_a_file_at_another_rate_than_the_model_knows_is_an_error_that_says_both(tmp_path, lab, run_dir, people):
    with pytest.raises(
        EvaluationError,
        match=r"people.h5 is at 20 Hz, the model was trained at 50 Hz.*too fast.*train with data.frame_rate 20, or "
        "pass --frame-rate 20 to score it as it is",
    ):
        evaluate(run_dir, people)
    slow = make_run(tmp_path / "slow", lab, trained_hz=(25.0,))
    with pytest.raises(
        EvaluationError, match=r"lab.h5 is at 50 Hz, the model was trained at 25 Hz.*too slowly; pass --frame-rate 25"
    ):
        evaluate(slow, lab)
    choices = evaluate(slow, lab, Options(frame_rate=25)).results["choices"]
    assert choices["frame rate (Hz)"] == choices["frame rate trained at (Hz)"] == "25"
    assert choices["frame rate of the recording (Hz)"] == "50"


def test_a_run_with_a_rate_reads_every_file_at_that_rate(tmp_path, lab):
    run = make_run(tmp_path / "run", lab, trained_hz=(25.0,), data={"frame_rate": 25})
    results = evaluate(run, lab).results
    assert results["choices"]["frame rate (Hz)"] == "25"
    assert results["counts"]["all frames"]["frames scored"] == 2 * 15  # two cameras, every second of 30 frames
    known = evaluate(make_run(tmp_path / "unknown", lab), lab).results["choices"]
    assert known["frame rate trained at (Hz)"] == "not noted in the run"
