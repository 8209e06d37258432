"""The MPI-INF-3DHP protocol from a trained model and a converted file to its tables; predictions here are made up."""

import json
import subprocess
import sys
from dataclasses import replace

import lab_file
import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from contract_file import write_contract_file
from mpi_inf_3dhp_raw import official_test, write_community, write_test

from finepose_mp import evaluation, runs, schema
from finepose_mp.config import Config
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.evaluation import EvaluationError, Options
from finepose_mp.evaluation.mpi_inf_3dhp import protocol as mpi_inf_3dhp
from finepose_mp.evaluation.mpi_inf_3dhp.protocol import METRIC, UNIVERSAL
from finepose_mp.evaluation.mpi_inf_3dhp.scores import by_activity, by_sequence, joint_errors_mm
from finepose_mp.evaluation.mpi_inf_3dhp.tables import PUBLISHED, latex_table
from finepose_mp.evaluation.preparation import lifted_track
from finepose_mp.evaluation.scoring import aggregations_for
from finepose_mp.models import build_model
from finepose_mp.preprocessing.mpi_inf_3dhp import dataset, facts
from finepose_mp.skeletons import MPI17, convert, joint_set

RAW = {"TS1": official_test("TS1", frames=60), "TS6": official_test("TS6", frames=30, seed=3)}


def converted(folder, out):
    outcomes = dataset.convert(dataset.find_work(folder), out)
    assert not [outcome.error for outcome in outcomes if outcome.error]
    return out


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    for name, raw in RAW.items():
        write_test(folder / name / "annot_data.mat", raw)
    return converted(folder, folder / "test.h5")


def make_config(data_file, run_dir="unused", joints="mpi17", **sections):
    values = {
        "run_dir": run_dir,
        "data": {
            "files": [data_file],
            "joint_set": joints,
            "window": 27,
            "camera_kinds": ["exo"],
            "input_2d": "projected",
        },
        "model": {"name": "d3dp", "width": 16, "depth": 2, "heads": 2},
        "evaluation": {"hypotheses": 3, "sampling_steps": 2},
    }
    return Config.model_validate({name: values.get(name, {}) for name in values} | sections)


def make_run(folder, joints="mpi17", **sections):
    """A run directory as training leaves it, its weights random, its training data elsewhere."""
    config = make_config(folder / "elsewhere.h5", folder, joints, **sections)
    runs.create_run(config)
    torch.manual_seed(0)
    network = build_model(config.model, joints=len(joint_set(joints)), window=27)
    with runs.checkpoint(folder, "best") as partial:
        runs.save_weights(partial, network, config)
    mean = np.random.default_rng(0).normal(0, 0.3, (len(joint_set(joints)), 3))
    runs.write_mean_pose(folder, joint_set(joints).root_relative(mean), joints)
    return folder


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, data_file):
    return evaluation.evaluate(make_run(tmp_path_factory.mktemp("runs") / "d3dp"), data_file)


def errors_of(data_file, predict, joints="mpi17", hypotheses=1, valid=None):
    """Errors of made-up predictions: `predict(poses (T, J, 3) m)` gives hypotheses (H, T, J, 3) m."""
    config = make_config(data_file, joints=joints)
    rows = aggregations_for(hypotheses)
    parts = []
    with TrackReader(config.data) as reader:
        for track in list_tracks(config.data, "test"):
            sample = reader.read(track)
            made = np.asarray(predict(sample["target_3d"].astype(float)))
            times = np.ones(track.length, int) if valid is None else valid(track)
            lifted = lifted_track(track, sample, made, times, config.data, reader)
            mean_pose = np.zeros((len(joint_set(joints)), 3))
            truth = mpi_inf_3dhp.read_truth(track)
            parts.append(mpi_inf_3dhp.sequence_errors(lifted, truth, rows, joint_set(joints), mean_pose))
    return parts


def expected_errors(kind, factor):
    """Errors in mm of the recorded poses times a factor, straight from what was annotated."""
    errors = {}
    for name, raw in RAW.items():
        metric, target = raw.metric[0], getattr(raw, kind)[0]
        prediction = factor * (metric - metric[:, 14:15])
        errors[name] = joint_errors_mm(prediction, target)[raw.valid]
    return errors


@pytest.mark.parametrize("kind", [METRIC, UNIVERSAL])
def test_valid_frames_are_scored_against_both_truths_as_annotated(data_file, kind):
    parts = errors_of(data_file, lambda poses: [1.1 * poses])
    expected = expected_errors(kind, 1.1)
    for part in parts:
        np.testing.assert_allclose(part.errors_mm[kind][0], expected[part.track.sequence], atol=5e-3)
        assert part.not_lifted == 0
    found = mpi_inf_3dhp.tables(parts, kind, 0)
    names = np.repeat(list(expected), [len(errors) for errors in expected.values()])
    activity = np.concatenate([raw.activity[raw.valid] for raw in RAW.values()])
    pooled = np.concatenate(list(expected.values()))
    for table, wanted in (
        ("sequence", by_sequence(pooled, names)),
        ("activity", by_activity(pooled, activity, facts.ACTIVITIES)),
    ):
        np.testing.assert_allclose(found[table].mpjpe_mean, wanted.mpjpe_mean, atol=5e-3)
        np.testing.assert_allclose(found[table].pck_total, wanted.pck_total, atol=1e-9)
        np.testing.assert_array_equal(found[table].frames, wanted.frames)


def test_a_perfect_prediction_scores_what_the_official_script_gives_it(data_file):
    parts = errors_of(data_file, lambda poses: [poses])
    best = mpi_inf_3dhp.tables(parts, METRIC, 0)["all"].headline(0)
    assert best["mpjpe"] < 1e-3 and best["pck"] == 100
    assert best["auc"] == pytest.approx(100 * 30 / 31)


def test_predictions_are_not_forgiven_their_scale_or_place_relative_to_the_pelvis(data_file):
    shifted = errors_of(data_file, lambda poses: [poses + (MPI17.index("head") == np.arange(17))[:, None] * 0.1])
    errors = shifted[0].errors_mm[METRIC][0]
    np.testing.assert_allclose(errors[:, MPI17.index("head")], 100 * np.sqrt(3), atol=1e-2)
    assert errors[:, [0, 5, 14]].max() < 1e-2
    moved = errors_of(data_file, lambda poses: [poses + 5.0])  # all of it: relative to the pelvis nothing moved
    assert moved[0].errors_mm[METRIC][0].max() < 1e-2


def test_every_row_of_several_hypotheses_is_what_its_name_says(data_file):
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.05, (4, 1, 17, 3)) * (np.arange(17) != 14)[:, None]
    parts = errors_of(data_file, lambda poses: poses + noise, hypotheses=4)
    rows = aggregations_for(4)
    mpjpe = {row: mpi_inf_3dhp.tables(parts, METRIC, a)["all"].mpjpe_mean[0] for a, row in enumerate(rows)}
    errors = 1000 * np.linalg.norm(noise[:, 0], axis=-1)
    assert mpjpe["single"] == pytest.approx(errors[0].mean(), abs=0.01)
    assert mpjpe["p_agg"] == pytest.approx(1000 * np.linalg.norm(noise.mean(0)[0], axis=-1).mean(), abs=0.01)
    assert mpjpe["oracle_j_best"] == pytest.approx(errors.min(axis=0).mean(), abs=0.01)
    assert mpjpe["oracle_p_best_frame"] == pytest.approx(errors.mean(axis=1).min(), abs=0.01)
    assert mpjpe["oracle_j_best"] < mpjpe["oracle_j_agg_true_root"] < mpjpe["single"]
    by_universal = {row: mpi_inf_3dhp.tables(parts, UNIVERSAL, a)["all"].mpjpe_mean[0] for a, row in enumerate(rows)}
    assert by_universal["oracle_j_best"] != pytest.approx(mpjpe["oracle_j_best"], abs=0.5)


def test_valid_frames_without_a_prediction_are_counted_not_scored(data_file):
    def without_the_end(track):
        return np.where(np.arange(track.length) < 20, 1, 0)

    parts = errors_of(data_file, lambda poses: [poses], valid=without_the_end)
    for part in parts:
        raw = RAW[part.track.sequence]
        assert part.errors_mm[METRIC].shape[1] == raw.valid[:20].sum()
        assert part.not_lifted == raw.valid[20:].sum()


@pytest.mark.parametrize("joints, shared", [("h36m17", 17), ("coco17", 12)])
def test_models_of_other_joint_sets_are_scored_on_shared_joints_by_name(data_file, joints, shared):
    parts = errors_of(data_file, lambda poses: [1.1 * poses], joints=joints)
    assert {kind for part in parts for kind in part.errors_mm} == {METRIC, UNIVERSAL}
    errors = np.concatenate([part.errors_mm[METRIC][0] for part in parts])
    scored = np.isfinite(errors).all(axis=0)
    assert scored.sum() == shared and np.isnan(errors[:, ~scored]).all()
    expected = np.concatenate(list(expected_errors(METRIC, 1.1).values()))
    np.testing.assert_allclose(errors[:, scored], expected[:, scored], atol=5e-3)
    _, origin = convert(np.zeros((17, 3)), joints, "mpi17")
    np.testing.assert_array_equal(scored, origin == "copied")


def test_joints_that_training_never_had_are_not_scored(tmp_path, data_file):
    run = make_run(tmp_path / "run")
    mean_pose = runs.read_mean_pose(run)
    mean_pose[MPI17.index("head")] = np.nan
    runs.write_mean_pose(run, mean_pose, "mpi17")
    results = evaluation.evaluate(run, data_file).results
    assert "head" not in results["joints scored"] and len(results["joints scored"]) == 16
    for row in ("p_agg", "oracle_j_best", "training_mean_pose"):
        of_joint = results["truths"][METRIC][row]["all"]["All"]["mpjpe by joint"]
        assert [j for j, value in enumerate(of_joint) if value is None] == [MPI17.index("head")]


def test_results_hold_both_truths_both_averages_and_every_table(outcome):
    results = json.loads(json.dumps(outcome.results, allow_nan=False))
    assert results["protocol"] == "mpi-inf-3dhp"
    assert (results["headline"], results["headline_truth"]) == ("p_agg", METRIC)
    assert list(results["truths"]) == [METRIC, UNIVERSAL]
    assert list(results["scenes"]) == ["TS1", "TS6", "mean of sequences", "all frames"]
    numbers = results["truths"][METRIC]["p_agg"]
    frames = {name: table["frames"] for name, table in numbers["sequence"].items()}
    assert frames == {"TS1": 48, "TS6": 24}
    of_sequences = [numbers["sequence"][name]["mpjpe"] for name in frames]
    assert numbers["mean of sequences"]["mpjpe"] == pytest.approx(np.mean(of_sequences))
    weighted = np.average(of_sequences, weights=list(frames.values()))
    assert numbers["all frames"]["mpjpe"] == pytest.approx(weighted, abs=1e-4)
    assert list(numbers["activity"])[-1] == "All"
    assert numbers["activity"]["Sports"]["mpjpe"] is None  # nobody did any
    assert results["counts"]["TS1"] == {
        "frames": 60, "valid frames": 48, "frames scored": 48,
        "valid frames not lifted": 0, "valid frames without a 3D pose": 0,
    }  # fmt: skip
    assert results["choices"]["2D source"] == "projected"
    assert list(outcome.examples) == ["TS1", "TS6"]


def write_sequences(path, valid: dict[str, list[int]], views: int = 1, without_pose: slice = slice(0)):
    """A file of test sequences of so many frames, valid or not; the first has no 3D pose in some of them."""
    with schema.create(path, dataset="MPI-INF-3DHP", joint_set="mpi17", licence="none", citation="none") as file:
        for number, (name, flags) in enumerate(valid.items()):
            clip = lab_file.make_clip(lab_file.Clip(name, name, len(flags)), "mpi17", 50.0, views)
            clip.valid_frame = np.array(flags, np.uint8)
            if number == 0:
                clip.joints_3d_world[without_pose], clip.joint_status[without_pose] = np.nan, schema.MISSING
                clip.joints_2d_projected[:, without_pose], clip.in_view[:, without_pose] = np.nan, 0
            schema.write_sequence(file, clip)
    return path


def small_run(folder):
    return lab_file.make_run(folder, folder / "elsewhere.h5", data={"joint_set": "mpi17", "camera_kinds": ["exo"]})


def test_frames_that_were_not_read_are_not_missed(tmp_path):
    path = write_sequences(tmp_path / "a.h5", {"TS1": [1] * 20})
    results = evaluation.evaluate(small_run(tmp_path / "run"), path, Options(frame_rate=25)).results
    assert list(results["counts"]["TS1"].values()) == [10, 10, 10, 0, 0]
    assert "no prediction" not in evaluation.render(results)


def test_cameras_of_a_sequence_are_counted_together(tmp_path):
    path = write_sequences(tmp_path / "a.h5", {"TS1": [0, 0] + [1] * 18}, views=2)
    results = evaluation.evaluate(small_run(tmp_path / "run"), path).results
    assert list(results["counts"]["TS1"].values()) == [40, 36, 36, 0, 0]
    assert results["truths"][METRIC]["p_agg"]["sequence"]["TS1"]["frames"] == 36


def test_valid_frames_without_a_pose_are_not_scored(tmp_path):
    path = write_sequences(tmp_path / "a.h5", {"TS1": [1] * 20}, without_pose=slice(5, 12))
    results = evaluation.evaluate(small_run(tmp_path / "run"), path).results
    assert list(results["counts"]["TS1"].values()) == [20, 20, 13, 0, 7]
    assert results["truths"][METRIC]["p_agg"]["all"]["All"]["frames"] == 13
    assert "7 valid frames have no 3D pose" in evaluation.render(results)
    none = write_sequences(tmp_path / "none.h5", {"TS1": [1] * 20}, without_pose=slice(20))
    with pytest.raises(EvaluationError, match=r"none.h5: none of 1 test sequences has a valid frame with a 3D pose"):
        evaluation.evaluate(tmp_path / "run", none)


def test_a_sequence_without_valid_frames_is_named_and_not_counted(tmp_path):
    path = write_sequences(tmp_path / "a.h5", {"TS1": [0] * 20, "TS2": [1] * 20})
    report = evaluation.render(evaluation.evaluate(small_run(tmp_path / "run"), path).results)
    assert "Here 1 of 6 test sequences with 20 of" in report
    assert "TS1: no frame to score; in no average" in report


def test_the_report_has_the_literatures_tables_and_says_what_does_not_compare(outcome):
    report = evaluation.render(outcome.results)
    assert "| Head | Neck | Shou | Elbow | Wrist | Hip | Knee | Ankle | Total |" in " ".join(report.split())
    for title in ("Standing/Walking", "Reaching/Crouching", "by sequence", "by activity", "by joint"):
        assert title in report
    assert "Here 2 of 6 test sequences with 72 of 2,875 valid frames were scored" in report
    assert "FinePOSE, 20 hypotheses | oracle: J-Best" in " ".join(report.split())
    table = evaluation.headline_table(outcome.results)
    assert "oracle" not in table and "Training mean pose (baseline)" in table


def test_latex_has_published_and_own_rows_in_one_table(outcome):
    lines = latex_table(outcome.results).splitlines()
    assert lines[0] == r"\begin{tabular}{llllrrrr}" and lines[-1] == r"\end{tabular}"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 1 + len(PUBLISHED) + 8  # ours: two rows, two truths, two averages
    assert {row.count("&") for row in rows} == {7}
    assert not any("_" in row.replace(r"\_", "") for row in rows)


def test_published_rows_say_what_kind_of_number_they_are():
    assert {row.kind for row in PUBLISHED} == {"single", "P-Agg", "J-Agg with the true root", "oracle: J-Best"}
    assert {row.truth for row in PUBLISHED if row.method.startswith(("D3DP", "FinePOSE"))} == {METRIC}
    assert {row.truth for row in PUBLISHED if row.kind == "single"} == {UNIVERSAL}


def test_a_file_of_universal_poses_alone_has_no_metric_numbers(tmp_path):
    raw = {name: replace(each, universal=each.universal.copy()) for name, each in RAW.items()}
    for each in raw.values():
        each.universal[0][:, [10, 13]] += 30.0  # ankles scaled on their own, so that nothing leads back to the recorded
    write_community(tmp_path / "raw" / "data_test_3dhp.npz", raw, "universal")
    path = converted(tmp_path / "raw", tmp_path / "univ.h5")
    results = evaluation.evaluate(make_run(tmp_path / "run"), path).results
    assert list(results["truths"]) == [UNIVERSAL]
    assert results["headline_truth"] == UNIVERSAL
    report = evaluation.render(results)
    assert "The file has no metric poses." in report
    assert "the file does not say which activity a frame shows" in report


def test_a_deterministic_lifter_has_one_row_and_no_oracles(tmp_path, data_file):
    model = {"name": "mixste", "width": 16, "depth": 2, "heads": 2}
    results = evaluation.evaluate(make_run(tmp_path / "run", model=model), data_file).results
    assert list(results["aggregations"]) == ["single", "training_mean_pose"]
    assert "Oracle" not in evaluation.render(results)


def test_a_model_of_other_joints_says_which_joints_were_scored(tmp_path, data_file):
    results = evaluation.evaluate(make_run(tmp_path / "run", "coco17"), data_file).results
    assert len(results["joints scored"]) == 12
    assert "share 12 of 17 joints by name" in evaluation.render(results)
    assert results["choices"]["joints in MPJPE"] == "12 of 17"
    of_joint = results["truths"][METRIC]["p_agg"]["all"]["All"]["mpjpe by joint"]
    assert of_joint[MPI17.index("head_top")] is None


def test_options_and_files_that_do_not_fit_are_refused(tmp_path, data_file):
    run = make_run(tmp_path / "run")
    with pytest.raises(EvaluationError, match="legacy_overlap: the papers count every frame of MPI-INF-3DHP once"):
        evaluation.evaluate(run, data_file, Options(legacy_overlap=True))
    with pytest.raises(EvaluationError, match="split val: only test sequences have valid frames"):
        evaluation.evaluate(run, data_file, Options(split="val"))
    for test_scenes, message in ((("Fencing",), "001_fencing lacks valid_frame"), ((), "it has no test sequence")):
        path = tmp_path / f"{len(test_scenes)}.h5"
        other = write_contract_file(path, scenes=("Fencing",), test_scenes=test_scenes, takes_per_scene=1, frames=20)
        with pytest.raises(EvaluationError, match=message):
            evaluation.evaluate(run, other, protocol="mpi-inf-3dhp")


def test_the_protocol_is_found_by_the_files_dataset_and_the_tool_writes_its_report(tmp_path, data_file):
    assert evaluation.protocol_for(data_file) == "mpi-inf-3dhp"
    run = make_run(tmp_path / "run")
    command = [sys.executable, str(REPOSITORY / "tools" / "evaluate.py"), "--run", str(run), "--data", str(data_file)]
    result = subprocess.run([*command, "--hypotheses", "2"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "mean of sequences" in result.stdout
    written = json.loads((run / "results_test_test.json").read_text())
    assert written["choices"]["hypotheses"] == 2
    assert "## Beside published numbers" in (run / "results_test_test.md").read_text()


def test_the_real_ts6_goes_from_its_official_file_to_a_table(tmp_path, shared):
    path = converted(shared / "data" / "mpi_inf_3dhp", tmp_path / "ts6.h5")
    with schema.open_file(path) as file:
        assert file.attrs["joint_set"] == "mpi17"
    parts = errors_of(path, lambda poses: [1.1 * poses])
    found = mpi_inf_3dhp.tables(parts, METRIC, 0)
    # The official scripts' numbers for 1.1 times the true poses; the file keeps micrometres.
    assert found["sequence"].mpjpe_mean[0] == pytest.approx(47.043250, abs=1e-3)
    assert found["sequence"].auc_total[0] == pytest.approx(64.793567, abs=0.05)
    results = evaluation.evaluate(make_run(tmp_path / "run", "coco17"), path).results
    assert results["counts"]["TS6"]["frames scored"] == 392
    assert results["counts"]["TS6"]["valid frames not lifted"] == 0
