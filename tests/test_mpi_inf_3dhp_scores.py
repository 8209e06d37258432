"""The 3DHP evaluation against the tables of the official scripts, and against its transcription with loops."""

import h5py
import numpy as np
import pytest

from finepose_mp.evaluation.mpi_inf_3dhp import reference, scores
from finepose_mp.preprocessing.mpi_inf_3dhp import facts

TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "metrics" / "golden_metrics.npz") as arrays:
        return {name: arrays[name] for name in arrays if name.startswith(("mpii/", "ts56/"))}


def assert_tables(found, table, rows=slice(None)):
    """Scores equal a cell table of the official scripts: MPJPE, PCK and AUC blocks, each under a header."""
    blocks = np.split(table, 3)
    for columns, total, block in (
        (found.mpjpe, found.mpjpe_mean, blocks[0][1:, 1:]),
        (found.pck, found.pck_total, blocks[1][1:, 1:10]),
        (found.auc, found.auc_total, blocks[2][1:, 1:10]),
    ):
        np.testing.assert_allclose(np.column_stack([columns, total]), block[rows], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", ["A", "B"])
def test_tables_equal_those_of_the_official_scripts(golden, case):
    errors, activity, frames = (golden[f"mpii/{case}_{name}"] for name in ("err", "act", "nf"))
    sequence = np.repeat([f"TS{i + 1}" for i in range(len(frames))], frames)
    assert_tables(scores.by_sequence(errors, sequence), golden[f"mpii/{case}_seq_num"])
    assert_tables(scores.by_activity(errors, activity, facts.ACTIVITIES), golden[f"mpii/{case}_act_num"])


def test_rows_and_columns_are_those_of_the_official_tables(golden):
    labels = golden["mpii/A_act_lab"]
    assert list(labels[1:9, 0]) == [*facts.ACTIVITIES.values(), scores.ALL]
    assert list(labels[9, 1:9]) == list(scores.JOINT_GROUPS)


def _ts6(shared, gt):
    with h5py.File(shared / "data" / "mpi_inf_3dhp" / "TS6_annot_data.mat") as file:
        valid = file["valid_frame"][:, 0] == 1
        return file[gt][valid, 0], file["activity_annotation"][valid, 0]


_TRIVIAL = {
    "scale1.1": lambda relative: 1.1 * relative,
    "collapsed": lambda relative: np.zeros_like(relative),
    "shiftx97": lambda relative: relative + 97.3 * (np.arange(17) != 14)[:, None] * np.array([1.0, 0, 0]),
}


@pytest.mark.parametrize("prediction", _TRIVIAL)
@pytest.mark.parametrize("gt", ["annot3", "univ_annot3"])
def test_the_real_ts6_scores_as_the_official_scripts_say(golden, shared, gt, prediction):
    target, _ = _ts6(shared, gt)
    errors = scores.joint_errors_mm(_TRIVIAL[prediction](target - target[:, 14:15]), target)
    found = scores.by_sequence(errors, np.full(len(errors), "TS6"))
    assert_tables(found, golden[f"ts56/{gt}_{prediction}_seq_num"], slice(1, 2))


def test_activities_of_the_real_ts6_that_ts5_lacks_score_as_the_official_scripts_say(golden, shared):
    """The official activity tables are over TS5 and TS6; 7 occurs in TS6 alone, 2 in neither."""
    target, activity = _ts6(shared, "annot3")
    errors = scores.joint_errors_mm(1.1 * (target - target[:, 14:15]), target)
    found = scores.by_activity(errors, activity, facts.ACTIVITIES)
    table = golden["ts56/annot3_scale1.1_act_num"]
    for row in (7, 2):
        np.testing.assert_allclose(found.mpjpe_mean[row - 1], table[row, 18], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(found.pck_total[row - 1], table[9 + row, 9], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(found.auc_total[row - 1], table[18 + row, 9], rtol=0, atol=TOLERANCE)


def _poses(frames=70, seed=0):
    random = np.random.default_rng(seed)
    target = random.normal(0, 400, (frames, 17, 3))
    prediction = target - target[:, 14:15] + random.normal(0, 60, target.shape)
    prediction[:4] = (target - target[:, 14:15])[:4] + np.array([50.0, 0, 0])  # exactly on a threshold
    prediction[4:8] = (target - target[:, 14:15])[4:8]
    sequence = np.sort(random.choice(["TS1", "TS2", "TS6"], frames))
    return prediction, target, sequence, random.choice([1, 2, 3, 5, 7], frames)


def test_the_vectorised_evaluation_equals_its_transcription_with_loops():
    prediction, target, sequence, activity = _poses()
    expected = reference.evaluate_with_loops(prediction.tolist(), target.tolist(), sequence.tolist(), activity.tolist())
    errors = scores.joint_errors_mm(prediction, target)
    for found, tables in zip(
        (scores.by_sequence(errors, sequence), scores.by_activity(errors, activity, facts.ACTIVITIES)),
        expected,
        strict=True,
    ):
        for columns, total, table in zip(
            (found.mpjpe, found.pck, found.auc),
            (found.mpjpe_mean, found.pck_total, found.auc_total),
            tables,
            strict=True,
        ):
            np.testing.assert_allclose(np.column_stack([columns, total]), table, rtol=0, atol=TOLERANCE)


def test_the_two_averages_differ_by_the_lengths_of_sequences():
    errors = np.concatenate([np.full((30, 17), 10.0), np.full((10, 17), 200.0)])
    by_sequence = scores.by_sequence(errors, np.repeat(["TS1", "TS2"], (30, 10)))
    of_sequences = scores.mean_of_rows(by_sequence)
    assert of_sequences == pytest.approx({"pck": 50.0, "auc": 50 * 28 / 31, "mpjpe": 105.0})
    of_frames = scores.score_sets(errors, {"All": np.ones(40, bool)}).headline(0)
    assert of_frames == pytest.approx({"pck": 75.0, "auc": 75 * 28 / 31, "mpjpe": 57.5})


def test_joints_that_are_not_scored_count_in_no_mean():
    random = np.random.default_rng(1)
    errors = random.uniform(0, 200, (20, 17))
    unknown = errors.copy()
    unknown[:, [0, 1, 14, 15, 16]] = np.nan  # what COCO's joints lack
    found = scores.score_sets(unknown, {"All": np.ones(20, bool)})
    whole = scores.score_sets(errors, {"All": np.ones(20, bool)})
    assert np.isnan(found.pck[0, :2]).all() and np.isnan(found.mpjpe[0, [0, 1, 14, 15, 16]]).all()
    np.testing.assert_allclose(found.pck[0, 2:], whole.pck[0, 2:])
    assert found.mpjpe_mean[0] == pytest.approx(errors[:, 2:14].mean())
    assert found.pck_total[0] == pytest.approx(100 * (errors[:, 2:14] < 150).mean())


def test_a_prediction_with_its_pelvis_off_the_origin_pays_for_it():
    _, target, *_ = _poses()
    errors = scores.joint_errors_mm(target - target[:, 14:15] + (3.0, 4.0, 0.0), target)
    np.testing.assert_allclose(errors, 5.0)


def test_the_benchmark_times_the_same_work_twice():
    timing = reference.speed_ratio(frames=60, repeats=1)
    assert timing["frames"] == 60
    assert timing["ratio"] == timing["loops_seconds"] / timing["vectorised_seconds"]
