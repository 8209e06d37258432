"""Evaluating a run from end to end: an untrained network on a small file of made-up people."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from contract_file import make_sequence, write_contract_file
from processes import evaluate_with_processes

from finepose_mp import evaluation, runs, schema
from finepose_mp.config import Config, DataConfig
from finepose_mp.datasets.index import list_takes, list_tracks, takes_in_split
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.datasets.splits import DataError
from finepose_mp.evaluation import EvaluationError, Options, egohumans, evaluate
from finepose_mp.evaluation.multi_view import MULTI_VIEW_AGGREGATIONS
from finepose_mp.evaluation.scoring import METRICS, aggregations_for
from finepose_mp.files import check_free, file_sha256
from finepose_mp.models import build_model
from finepose_mp.report.page import report_page
from finepose_mp.skeletons import COCO17
from finepose_mp.training.validation import validation_mpjpe_mm

SCENES = ("Tagging", "Lego", "Fencing")


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    """Three scenes of four takes, the last of each in the test split; 40 frames are one window and a half."""
    path = tmp_path_factory.mktemp("data") / "people.h5"
    return write_contract_file(path, scenes=SCENES, test_scenes=("Fencing",), takes_per_scene=4, frames=40)


def make_run(folder: Path, data_file: Path, model: str = "d3dp", **data) -> Path:
    """A run directory as training leaves it, its weights random."""
    config = Config.model_validate(
        {
            "run_dir": folder,
            "data": {
                "files": [data_file],
                "split_scheme": "within_scene",
                "camera_kinds": ["ego_rgb", "exo"],
                "window": 27,
                **data,
            },
            "model": {"name": model, "width": 16, "depth": 2, "heads": 2},
            "evaluation": {"hypotheses": 3, "sampling_steps": 2},
        }
    )
    runs.create_run(config)
    torch.manual_seed(0)
    network = build_model(config.model, joints=17, window=27)
    with runs.checkpoint(folder, "best") as partial:
        runs.save_weights(partial, network, config)
    runs.write_training_data(folder, about_training(config.data))
    runs.write_mean_pose(folder, COCO17.root_relative(np.linspace(-0.5, 0.5, 51).reshape(17, 3)), "coco17")
    return folder


def about_training(data: DataConfig) -> dict:
    """What training notes of its data, which may have nothing to train on."""
    takes = list_takes(data)
    in_splits = {split: [take.take for take in takes_in_split(takes, data, split)] for split in ("train", "val")}
    return {"frame_rates_hz": sorted({track.fps for take in takes for track in take.tracks}), "takes": in_splits}


def write_takes(path: Path, *takes: schema.Sequence) -> Path:
    with schema.create(path, dataset="made-up", joint_set="coco17", licence="none", citation="none") as file:
        for take in takes:
            schema.write_sequence(file, take)
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_file):
    return make_run(tmp_path_factory.mktemp("runs") / "d3dp", data_file)


@pytest.fixture(scope="module")
def outcome(run_dir, data_file):
    return evaluate(run_dir, data_file)


def score(data_file, predict, **options):
    """MPJPE per scene of made-up predictions: `predict(sample, T)` gives hypotheses (H, T, J, 3)."""
    config = Config.model_validate(
        {"run_dir": "unused", "data": {"files": [data_file], "split_scheme": "within_scene", **options}}
    )
    reader = TrackReader(config.data)
    lifted = []
    for track in sorted(list_tracks(config.data, "test"), key=lambda track: (track.take, track.person)):
        sample = reader.read(track)
        lifted.append((track, sample, predict(sample), np.ones(track.length, int)))
    rows = aggregations_for(len(lifted[0][2]))
    scores, *_ = egohumans.score_tracks(lifted, config.data, rows, np.zeros((17, 3)))
    return egohumans.summary.Scored(scores, rows)


def test_every_scene_metric_and_row_has_a_number_and_their_mean_is_unweighted(outcome):
    table = outcome.results["scenes"]
    assert list(table) == [*SCENES, "mean of scenes"]
    for scene in SCENES:
        assert list(table[scene]) == list(METRICS)
        assert set(table[scene]["mpjpe"]) == set(aggregations_for(3))
    for row in aggregations_for(3):
        mean = np.mean([table[scene]["mpjpe"][row] for scene in SCENES])
        assert table["mean of scenes"]["mpjpe"][row] == pytest.approx(mean, abs=1e-5)
    assert table["Tagging"]["mpjpe"]["p_agg"] > 10


def test_people_seen_by_several_cameras_are_tabled_apart_with_their_own_counts(outcome):
    several = outcome.results["multi_view"]
    assert list(several["scenes"]) == [*SCENES, "mean of scenes"]
    assert list(several["aggregations"]) == list(MULTI_VIEW_AGGREGATIONS)
    for scene in SCENES:
        count = several["counts"][scene]
        assert count["people (of each take)"] == 3
        assert 0 < count["frames scored"] <= 3 * 40
        assert 2 <= count["views of the scored frames"] / count["frames scored"] <= 3
        assert several["scenes"][scene]["mpjpe"]["multi_view_p_agg"] > 10
    assert several["root_error"]["mean of scenes"]["all"]["mm"] > 0


def test_one_camera_has_no_table_of_several(run_dir, data_file):
    results = evaluate(run_dir, data_file, Options(camera_kinds=("exo",), hypotheses=2, sampling_steps=1)).results
    assert results["multi_view"] is None
    assert "several cameras" not in evaluation.render(results)


def test_a_scene_that_one_camera_sees_stands_empty_beside_one_that_several_see(tmp_path):
    """In Fencing two people wear cameras, so that each is seen by one; in Tagging three do."""
    takes = [make_sequence(f"04_basketball/00{n}", frames=30, persons=2, seed=n) for n in (1, 2)]
    tagging = make_sequence("01_tagging/001", "Tagging", "test", frames=30, persons=3, seed=3)
    fencing = make_sequence("03_fencing/001", "Fencing", "test", frames=30, persons=2, seed=4)
    path = write_takes(tmp_path / "people.h5", *takes, tagging, fencing)
    run = make_run(tmp_path / "run", path, split_scheme="official", camera_kinds=["ego_rgb"])
    outcome = evaluate(run, path, Options(hypotheses=2, sampling_steps=1))
    counts = outcome.results["multi_view"]["counts"]
    assert set(counts["Fencing"].values()) == {0}
    assert counts["all scenes"] == counts["Tagging"]
    report = evaluation.render(outcome.results)
    rows = [line.split("|")[2:4] for line in report.splitlines() if "multi-view P-Agg" in line or "Frames of" in line]
    assert [[cell.strip() == "-" for cell in row] for row in rows] == [[False, True], [False, False]]
    assert "Fencing" in report_page(outcome.results, {}, {}, "results")


def test_the_root_is_solved_and_its_error_given_by_camera_kind(outcome):
    errors = outcome.results["root_error"]
    for scene in SCENES:
        assert list(errors[scene]) == ["all", "ego_rgb", "exo"]
        assert errors[scene]["all"]["frames"] == errors[scene]["ego_rgb"]["frames"] + errors[scene]["exo"]["frames"]
        assert 0 < errors[scene]["all"]["along the line of sight, mm"] <= errors[scene]["all"]["mm"]


def test_every_printed_row_says_whether_it_is_deployable_or_an_oracle(outcome):
    results = outcome.results
    report = evaluation.render(results)
    for aggregations in (results["aggregations"], results["multi_view"]["aggregations"]):
        for about in aggregations.values():
            expected = "(baseline)" if about["kind"] == "baseline" else f": {about['kind']}"
            lines = [line for line in report.splitlines() if about["title"] in line]
            assert lines
            assert all(f"{about['title']}{expected}" in line or expected in about["title"] for line in lines)
    kinds = {row: about["kind"] for row, about in results["aggregations"].items()}
    assert {row for row, kind in kinds.items() if kind == "oracle"} == {row for row in kinds if "oracle" in row}
    assert results["headline"] == "p_agg"


def test_every_frame_of_every_test_track_is_accounted_for(outcome):
    count = outcome.results["counts"]["all scenes"]
    assert count["takes"] == 3
    assert count["person-camera tracks"] == 3 * (3 * 2 + 3)  # 3 wearers see 2 people each, the fixed camera all 3
    for what, size in (("frames", 40), ("joints", 40 * 17)):
        parts = [n for name, n in count.items() if name == f"{what} scored" or name.startswith(f"{what} left out")]
        assert sum(parts) == count["person-camera tracks"] * size
        assert count[f"{what} left out: other"] == 0
    assert count["frames scored"] > 0
    for reason in ("no 3D position", "person not in view", "joint interpolated"):
        assert count[f"joints left out: {reason}"] > 0


def test_the_truth_as_prediction_has_no_error(data_file):
    scored = score(data_file, lambda sample: np.where(sample["target_mask"][None, ..., None], sample["target_3d"], 0))
    table = egohumans.summary.tables(scored)
    assert all(table[scene]["mpjpe"]["single"] == pytest.approx(0, abs=1e-3) for scene in SCENES)
    assert table["mean of scenes"]["pck_150"]["single"] == 100


def test_interpolated_joints_are_scored_only_on_request(run_dir, data_file, outcome):
    count = evaluate(run_dir, data_file, Options(include_interpolated=True)).results["counts"]["all scenes"]
    before = outcome.results["counts"]["all scenes"]
    assert count["joints left out: joint interpolated"] == 0
    assert count["joints scored"] == before["joints scored"] + before["joints left out: joint interpolated"]


def test_the_papers_overlap_is_counted_twice_only_on_request(run_dir, data_file, outcome):
    legacy = evaluate(run_dir, data_file, Options(legacy_overlap=True)).results
    count = legacy["counts"]["all scenes"]
    overlap = 2 * 27 - 40
    assert outcome.results["counts"]["all scenes"]["frames counted again by the papers' overlap"] == 0
    assert 0 < count["frames counted again by the papers' overlap"] <= overlap * count["person-camera tracks"]
    assert count["frames scored"] == outcome.results["counts"]["all scenes"]["frames scored"]
    assert "counted again" in legacy["choices"]["frames"]


def test_the_papers_protocol_2_is_had_on_request(run_dir, data_file, outcome):
    papers = evaluate(run_dir, data_file, Options(align_then_choose=True)).results
    assert "before the choice" in papers["choices"]["P-MPJPE and N-MPJPE"]
    ours, theirs = (results["scenes"]["mean of scenes"] for results in (outcome.results, papers))
    assert theirs["mpjpe"] == ours["mpjpe"]
    for row in aggregations_for(3):
        same = row in ("p_agg", "single", "training_mean_pose")
        assert (theirs["p_mpjpe"][row] == ours["p_mpjpe"][row]) is same
    assert theirs["p_mpjpe"]["oracle_j_best"] <= theirs["p_mpjpe"]["oracle_p_best_frame"]


def test_results_say_every_choice(run_dir, data_file, outcome):
    choices = outcome.results["choices"]
    assert choices["data sha256"] == file_sha256(data_file)
    assert choices["checkpoint sha256"] == file_sha256(run_dir / "best/model.safetensors")
    assert (choices["hypotheses"], choices["sampling steps"], choices["split scheme"]) == (3, 2, "within_scene")
    assert choices["prompt condition"] == "none"
    assert choices["root"].startswith("mean of left_hip and right_hip")
    assert choices["root source"].startswith("solved by least squares from the mean hypothesis and the 2D")
    assert choices["P-MPJPE and N-MPJPE"] == "the composed pose is aligned"
    assert choices["training takes"].startswith("no evaluated take is among the takes that trained")
    assert choices["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_options_take_the_place_of_the_runs_own(run_dir, data_file):
    options = Options(hypotheses=1, sampling_steps=1, flip=False, camera_kinds=("exo",), split="val")
    results = evaluate(run_dir, data_file, options).results
    choices = results["choices"]
    assert (choices["hypotheses"], choices["sampling steps"], choices["mirrored input averaged"]) == (1, 1, False)
    assert list(results["per_camera_kind"]) == ["exo"]
    assert set(results["aggregations"]) == {"single", "training_mean_pose"}
    assert choices["split"] == "val"


def test_training_selects_by_the_number_that_evaluation_reports(run_dir, data_file):
    model, config = runs.load_run(run_dir)
    while_training = validation_mpjpe_mm(model, config, list_tracks(config.data, "val"))
    takes = evaluate(run_dir, data_file, Options(split="val", hypotheses=1, sampling_steps=1)).results["per_take"]
    joints = [take["joints scored"] for take in takes.values()]
    errors = [take["mpjpe"]["single"] for take in takes.values()]
    assert np.average(errors, weights=joints) == pytest.approx(while_training, abs=1e-4)


def test_a_deterministic_lifter_has_one_row_and_refuses_hypotheses(tmp_path, data_file):
    run = make_run(tmp_path / "mixste", data_file, model="mixste")
    results = evaluate(run, data_file).results
    assert results["headline"] == "single"
    assert results["choices"]["sampling steps"] is None
    assert "Oracle" not in evaluation.render(results)
    with pytest.raises(EvaluationError, match="hypotheses 5: this run's model is deterministic"):
        evaluate(run, data_file, Options(hypotheses=5))


def test_examples_are_the_moments_with_most_people_and_lie_in_the_world(outcome, data_file):
    assert set(outcome.examples) == set(SCENES)
    for scene, example in outcome.examples.items():
        assert example.scene == scene
        assert example.people_scored == 3  # the fixed camera sees all of them
        assert example.camera_kind == "exo"
        shown = np.isfinite(example.true_3d).all(axis=(1, 2))
        with h5py.File(data_file) as file:
            group = file[example.sequence]
            assert example.person == group["person"].asstr()[...].tolist()
            assert example.frame == group["frame"][example.frame_index]
            world = group["joints_3d_world"][example.frame_index]
        placed = example.predicted_3d_world()
        np.testing.assert_allclose(COCO17.root(placed)[shown], COCO17.root(world)[shown], atol=1e-4)


def test_a_take_that_the_model_has_seen_is_refused(tmp_path, data_file):
    """The same takes in another file whose splits differ: what was training there would be test here."""
    other = write_contract_file(
        tmp_path / "other.h5", scenes=SCENES, test_scenes=("Fencing",), takes_per_scene=2, frames=30
    )
    run = make_run(tmp_path / "run", data_file)
    with pytest.raises(
        DataError, match=r"6 takes of split test .*01_tagging/001_tagging.* were in split train or val when"
    ):
        evaluate(run, _with_every_take_for_testing(other))


def _with_every_take_for_testing(path: Path) -> Path:
    with h5py.File(path, "r+") as file:
        for scene in file:
            if isinstance(file[scene], h5py.Group):
                for take in file[scene].values():
                    take.attrs["split_within_scene"] = "test"
    return path


def test_a_split_nobody_should_report_is_refused(run_dir, data_file):
    with pytest.raises(EvaluationError, match="expected one of test, val"):
        evaluate(run_dir, data_file, Options(split="train"))


def test_results_are_written_whole_and_replaced_only_on_request(tmp_path, outcome, data_file):
    paths = evaluation.results_paths(tmp_path, "test", data_file)
    assert [path.name for path in paths] == ["results_test_people.json", "results_test_people.md"]
    check_free(*paths, overwrite=False)
    evaluation.write_results(outcome.results, paths)
    assert json.loads(paths[0].read_text())["scenes"] == outcome.results["scenes"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in paths]
    with pytest.raises(FileExistsError, match="--overwrite"):
        check_free(*paths, overwrite=False)
    check_free(*paths, overwrite=True)


def test_the_report_starts_with_the_headline_and_keeps_oracles_apart(outcome):
    report = evaluation.render(outcome.results)
    headline = report.index("Mean of the hypotheses (P-Agg)")
    oracle = report.index("## Oracle")
    assert headline < report.index("Training mean pose (baseline)") < report.index("## What was scored") < oracle
    assert "P-Best" not in report[:oracle]
    assert "J-Best" not in report[:oracle]
    number = f"{outcome.results['scenes']['mean of scenes']['mpjpe']['p_agg']:,.1f}"
    assert number in report[:oracle]
    assert "one take (simulated:01_tagging/004_tagging)" in report


def test_simulated_data_is_announced_before_any_number(outcome):
    assert outcome.results["simulated"] == "all"
    report = evaluation.render(outcome.results)
    assert report.index("SIMULATED DATA") < report.index("## MPJPE")
    assert "SIMULATED" not in evaluation.render(outcome.results | {"simulated": "none"})


def test_two_processes_give_the_numbers_of_one_through_the_tool(tmp_path, monkeypatch, capsys, run_dir, data_file):
    """Of three takes, one process has two and the other one."""
    results = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        command = ("--run", run_dir, "--data", data_file, "--out", folder)
        said = evaluate_with_processes(monkeypatch, capsys, processes, *command)
        assert said.count("Mean of the hypotheses (P-Agg)") == 1
        page = folder / "results_test_people" / "report.html"
        assert str(page) in said.splitlines()[-1]
        results[processes] = json.loads((folder / "results_test_people.json").read_text()), page.read_bytes()
    assert results[2] == results[1], "pictures of the page included"
    assert results[1][0]["choices"]["split"] == "test"
