"""The protocols of Human3.6M on made-up clips, with predictions whose errors are known by hand."""

import json

import numpy as np
import pytest
import torch
from lab_file import Clip, make_run, write_lab_file
from processes import evaluate_with_processes

from finepose_mp import evaluation, runs
from finepose_mp.datasets.index import evaluation_windows, list_tracks
from finepose_mp.datasets.reader import TrackReader, read_track
from finepose_mp.evaluation import EvaluationError, Options, evaluate, preparation
from finepose_mp.evaluation.human36m.protocol import ACTIONS, ALL_FRAMES, MEAN_OF_ACTIONS
from finepose_mp.evaluation.human36m.published import PUBLISHED
from finepose_mp.inference.lifting import lift_windows
from finepose_mp.preprocessing.human36m import dataset, synthetic
from finepose_mp.preprocessing.human36m.archive import find_archive

WINDOW = 9
NOT_THE_ROOT = 16 / 17  # of the joints that count
UNREADABLE = {"check": "defect.unreadable_video", "message": "no video"}
SHIFTED = {"check": "defect.shifted_3d", "message": "200 mm off"}
TRAINING = [Clip("S1/Eating", "Eating", split="train"), Clip("S5/Eating", "Eating", split="train")]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Two actions of different length, and takes with every defect that is known."""
    clips = [
        Clip("S9/Greeting 1", "Greeting", frames=20),
        Clip("S9/Walking", "Walking", frames=14),
        Clip("S11/Directions", "Directions", frames=12, findings=(UNREADABLE,)),
        Clip("S9/Waiting 1", "Waiting", frames=12, findings=(SHIFTED,)),
        *TRAINING,
    ]
    return write_lab_file(tmp_path_factory.mktemp("data") / "lab.h5", clips)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, file):
    return make_run(tmp_path_factory.mktemp("runs") / "h36m", file, WINDOW)


@pytest.fixture
def predict(monkeypatch, run_dir, file):
    """A function that evaluates predictions given as hypotheses(track, target, window number of each frame)."""

    def evaluate_predictions(hypotheses, **options):
        def lift_tracks(_model, config, tracks, legacy_overlap=False):
            with TrackReader(config.data) as reader:
                for track in tracks:
                    sample = reader.read(track)
                    windows = evaluation_windows(track.length, WINDOW, legacy_overlap)
                    number = np.zeros(track.length, int)
                    times = np.zeros(track.length, int)
                    for n, (frames, scored) in enumerate(zip(windows.frames, windows.score_mask, strict=True)):
                        number[frames[scored]] = n
                        np.add.at(times, frames[scored], 1)
                    target = sample["target_3d"].astype(np.float64)
                    yield track, sample, np.stack(hypotheses(track, target, number)), times

        monkeypatch.setattr(preparation, "lift_tracks", lift_tracks)
        return evaluate(run_dir, file, Options(**options)).results

    return evaluate_predictions


def moved(target, millimetres):
    """Every joint but the root, which is the first, moved along x."""
    return target + np.r_[0, np.ones(16)][:, None] * np.array([1.0, 0, 0]) * np.asarray(millimetres) / 1000


def scene_of(results, metric="mpjpe", row="p_agg"):
    return {scene: table[metric][row] for scene, table in results["scenes"].items()}


def test_actions_weigh_the_same_and_frames_within_them(predict):
    by_action = {"Greeting": 30, "Walking": 10, "Waiting": 20}
    found = scene_of(predict(lambda track, target, _: [moved(target, by_action[track.scene])] * 2))
    for action, millimetres in by_action.items():
        assert found[action] == pytest.approx(NOT_THE_ROOT * millimetres, abs=1e-4)
    assert found[MEAN_OF_ACTIONS] == pytest.approx(NOT_THE_ROOT * 20, abs=1e-4)
    frames = (30 * 20 + 10 * 14 + 20 * 12) / (20 + 14 + 12)
    assert found[ALL_FRAMES] == pytest.approx(NOT_THE_ROOT * frames, abs=1e-4)
    assert list(found) == ["Greeting", "Waiting", "Walking", MEAN_OF_ACTIONS, ALL_FRAMES]  # the literature's order


def test_protocols_2_and_3_forgive_what_they_should(predict):
    quarter_turn = np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]])
    turned = predict(lambda _t, target, _: [1.3 * target @ quarter_turn.T] * 2)
    scaled = predict(lambda _t, target, _: [1.3 * target] * 2)
    mirrored = predict(lambda _t, target, _: [target * [-1, 1, 1]] * 2)
    assert scene_of(turned, "p_mpjpe")[MEAN_OF_ACTIONS] == pytest.approx(0, abs=1e-3)
    assert scene_of(turned, "n_mpjpe")[MEAN_OF_ACTIONS] > 100
    assert scene_of(scaled, "n_mpjpe")[MEAN_OF_ACTIONS] == pytest.approx(0, abs=1e-3)
    assert scene_of(scaled)[MEAN_OF_ACTIONS] > 50
    assert scene_of(mirrored, "p_mpjpe")[MEAN_OF_ACTIONS] > 10


def test_velocity_error_is_per_frame(predict):
    drifting = predict(lambda _t, target, _: [moved(target, 3 * np.arange(len(target))[:, None, None])] * 2)
    assert scene_of(drifting, "mpjve")[MEAN_OF_ACTIONS] == pytest.approx(NOT_THE_ROOT * 3, abs=1e-3)
    assert scene_of(drifting, "acceleration_error")[MEAN_OF_ACTIONS] == pytest.approx(0, abs=1e-3)


def test_oracles_choose_by_the_truth_and_nothing_else_does(predict):
    """Each hypothesis is right in half of the joints: their oracle is perfect, nobody else is."""

    def halves(_track, target, _window):
        wrong = moved(target, 40)
        right_arm = np.arange(17)[:, None] >= 9
        return [np.where(right_arm, wrong, target), np.where(right_arm, target, wrong)]

    results = predict(halves)
    rows = {row: scene_of(results, row=row)[MEAN_OF_ACTIONS] for row in results["aggregations"]}
    assert rows["oracle_j_best"] == pytest.approx(0, abs=1e-4)
    assert rows["single"] == pytest.approx(40 * 8 / 17, abs=1e-3)
    assert rows["p_agg"] == pytest.approx(NOT_THE_ROOT * 20, abs=1e-3)
    assert rows["oracle_p_best_frame"] == pytest.approx(40 * 8 / 17, abs=1e-3)
    kinds = {row: about["kind"] for row, about in results["aggregations"].items()}
    assert {row for row, kind in kinds.items() if kind == "oracle"} == {row for row in kinds if "oracle" in row}
    assert kinds[results["headline"]] == "deployable"


def test_protocol_2_of_oracles_aligns_before_the_choice_unless_asked_otherwise(predict):
    def noisy(track, target, _window):
        random = np.random.default_rng(track.length)
        return [target + random.normal(0, 0.05, target.shape) * np.r_[0, np.ones(16)][:, None] for _ in range(2)]

    papers, composed = predict(noisy), predict(noisy, align_then_choose=False)
    assert scene_of(papers)[MEAN_OF_ACTIONS] == scene_of(composed)[MEAN_OF_ACTIONS]
    of_papers, of_composed = (scene_of(r, "p_mpjpe", "oracle_j_best")[MEAN_OF_ACTIONS] for r in (papers, composed))
    assert of_papers < of_composed - 0.1
    assert "before the choice" in papers["choices"]["P-MPJPE and N-MPJPE"]


def test_the_papers_overlap_scores_shared_frames_with_both_windows_predictions(predict):
    """20 frames, windows of 9: 0-8, 9-17, 11-19. The n-th window is n mm off."""

    def by_window(_track, target, window):
        return [moved(target, 1 + window[:, None, None])] * 2

    once, legacy = predict(by_window), predict(by_window, legacy_overlap=True)
    assert scene_of(once)["Greeting"] == pytest.approx(NOT_THE_ROOT * (9 * 1 + 9 * 2 + 2 * 3) / 20, abs=1e-4)
    assert scene_of(legacy)["Greeting"] == pytest.approx(NOT_THE_ROOT * (1 + 2 + 3) / 3, abs=1e-4)
    counts = legacy["counts"]["Greeting"]
    assert (counts["frames scored"], counts["rows"]) == (2 * 20, 2 * 27)
    assert once["counts"]["Greeting"]["rows"] == 2 * 20


def test_the_papers_overlap_is_that_of_every_window_by_itself(tmp_path, file):
    """A deterministic lifter, so that windows can be lifted here one by one."""
    run = make_run(tmp_path / "mixste", file, WINDOW, model={"name": "mixste"})
    found = scene_of(evaluate(run, file, Options(legacy_overlap=True)).results, row="single")["Greeting"]
    model, config = runs.load_run(run)
    errors = []
    for track in list_tracks(config.data, "test"):
        if track.scene == "Greeting":
            sample = read_track(track, config.data)
            for frames in evaluation_windows(track.length, WINDOW, legacy_overlap=True).frames:
                inputs = [torch.from_numpy(sample[name][frames])[None] for name in ("input_2d", "input_mask")]
                pose = lift_windows(model, config, *inputs, torch.zeros(1, dtype=int), 1, 1, config.evaluation.flip)
                errors.append(np.linalg.norm(pose[0, 0].numpy() - sample["target_3d"][frames], axis=-1))
    assert len(errors) == 2 * 3
    assert found == pytest.approx(1000 * np.mean(errors), rel=1e-5)


def test_known_bad_takes_are_kept_or_left_out_as_asked_and_always_named(run_dir, file):
    options = {
        "usual": Options(),
        "kept": Options(keep_unreadable=True),
        "dropped": Options(drop_shifted=True),
    }
    results = {name: evaluate(run_dir, file, each).results for name, each in options.items()}
    actions = {name: set(each["scenes"]) - {MEAN_OF_ACTIONS, ALL_FRAMES} for name, each in results.items()}
    assert actions["usual"] == {"Greeting", "Walking", "Waiting"}
    assert actions["kept"] == actions["usual"] | {"Directions"}
    assert actions["dropped"] == {"Greeting", "Walking"}
    for each in results.values():
        defects = {defect["sequence"]: defect["left out"] for defect in each["known defects"]}
        assert set(defects) == {"S11/Directions", "S9/Waiting 1"}
        report = evaluation.render(each)
        assert all(f"| {take}" in report for take in defects)
    assert "with S11/Directions" in results["kept"]["completeness"]
    assert "without S9/Waiting 1" in results["dropped"]["completeness"]
    assert "Directions 0 of 26,428" in results["usual"]["completeness"]


def test_tables_can_be_pasted(run_dir, file):
    results = evaluate(run_dir, file).results
    report = evaluation.render(results)
    header = next(line for line in report.splitlines() if "Greet" in line)
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["", "Greet", "Wait", "Walk", "Avg", "frames"]
    latex = report.split("```latex\n")[1].split("```")[0]
    assert r"\begin{tabular}{lrrrrr}" in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in rows} == {5}
    average = f"{scene_of(results)[MEAN_OF_ACTIONS]:,.1f}"
    assert average in next(line for line in rows if "P-Agg" in line)
    for published in PUBLISHED:
        assert any(published.method in line and published.kind in line for line in report.splitlines())
    assert evaluation.headline_table(results) in report
    json.dumps(results, allow_nan=False)


def test_the_file_chooses_the_protocol_and_other_scenes_are_refused(tmp_path, run_dir, file):
    assert evaluation.protocol_for(file) == "human36m"
    other = write_lab_file(tmp_path / "own.h5", [Clip("kitchen/1", "Cooking")], dataset="my own")
    assert evaluation.protocol_for(other) == "egohumans"
    assert list(evaluate(run_dir, other).results["scenes"]) == ["Cooking", "mean of scenes"]
    with pytest.raises(EvaluationError, match=r"scene Cooking is no action of Human3\.6M .*--protocol egohumans"):
        evaluate(run_dir, other, protocol="human36m")
    with pytest.raises(EvaluationError, match="unknown protocol 'h36m'; known: egohumans"):
        evaluate(run_dir, file, protocol="h36m")


def test_what_the_converter_writes_and_marks_is_understood(tmp_path):
    lengths = {("S1", "Photo 1"): 14, ("S5", "WalkDog"): 12, ("S9", "SittingDown 1"): 11, ("S9", "WalkTogether"): 13}
    synthetic.write_official(tmp_path / "raw", {**lengths, ("S11", "Directions"): 10})
    dataset.convert(find_archive(tmp_path / "raw"), tmp_path / "h36m.h5")
    run = make_run(tmp_path / "run", tmp_path / "h36m.h5", WINDOW, data={"input_2d": "projected"})
    results = evaluate(run, tmp_path / "h36m.h5").results
    assert results["protocol"] == "human36m"
    assert list(results["scenes"]) == ["Sitting Down", "Walking Together", MEAN_OF_ACTIONS, ALL_FRAMES]
    assert results["counts"][ALL_FRAMES]["rows"] == 4 * (11 + 13)
    left_out = {defect["sequence"]: defect["left out"] for defect in results["known defects"]}
    assert left_out == {"S11/Directions": True, "S9/SittingDown 1": False}


def test_three_processes_give_the_numbers_of_one(tmp_path, monkeypatch, capsys, run_dir, file):
    """Of the two takes that are scored, one process has none."""
    results = {}
    for processes in (1, 3):
        command = ("--run", run_dir, "--data", file, "--out", tmp_path / str(processes))
        command += ("--legacy-overlap", "--drop-shifted-takes")
        evaluate_with_processes(monkeypatch, capsys, processes, *command)
        results[processes] = json.loads((tmp_path / str(processes) / "results_test_lab.json").read_text())
    assert results[3] == results[1]
    assert results[1]["protocol"] == "human36m"
    assert results[1]["choices"]["shifted takes of S9"] == "left out"


def test_the_test_set_has_the_poses_that_the_field_reports(shared):
    facts = json.loads((shared / "formats/human36m_frame_counts.json").read_text())
    said = sorted(facts["test_poses_per_action_x4cams"].values())
    assert sorted(action.poses for action in ACTIONS.values()) == said
    takes = [(subject, clip) for subject in ("S9", "S11") for clip in facts["clips"][subject]]
    lengths = [clip["T"] for subject, clip in takes if (subject, clip["canonical"]) != ("S11", "Directions")]
    windows = [evaluation_windows(length, 243, legacy_overlap=True) for length in lengths]
    once = [evaluation_windows(length, 243) for length in lengths]
    assert 4 * sum(int(each.score_mask.sum()) for each in once) == 543_344
    assert 4 * sum(len(each.start) for each in windows) == 2364
    assert 4 * sum(int(each.score_mask.sum()) for each in windows) == 574_452
