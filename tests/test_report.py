"""The report of an evaluation: numbers by distance, time out of view and spread, and the page that shows them."""

import html
import json
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser

import lab_file
import mpi_inf_3dhp_raw
import numpy as np
import pytest
import test_mpi_inf_3dhp_evaluation
from contract_file import Oddities, write_contract_file
from lab_file import Clip, write_lab_file
from test_evaluation import SCENES, make_run

from finepose_mp import evaluation, report, schema
from finepose_mp.config import Config
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.evaluation import breakdown, egohumans, summary
from finepose_mp.evaluation.moments import worst_of_takes
from finepose_mp.files import check_free

FRAMES = 40


class Page(HTMLParser):
    """What a reader's browser would see: text, links, picture sources, and whether tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.sources, self.anchors, self.alternatives = [], [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.anchors |= {attrs["id"]} if "id" in attrs else set()
        self.links += [attrs["href"]] if "href" in attrs else []
        if tag == "img":
            self.sources.append(attrs["src"])
            self.alternatives.append(attrs["alt"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "people.h5"
    return write_contract_file(path, scenes=SCENES, test_scenes=("Fencing",), takes_per_scene=4, frames=FRAMES)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, data_file):
    run = make_run(tmp_path_factory.mktemp("runs") / "d3dp", data_file)
    return evaluation.evaluate(run, data_file, evaluation.Options(sampling_steps=1))


@pytest.fixture(scope="module")
def written(tmp_path_factory, outcome):
    paths = evaluation.results_paths(tmp_path_factory.mktemp("out"), "test", "people.h5")
    evaluation.write_results(outcome.results, paths)
    return report.write_report(outcome, paths[0])


def score(data_file, predict):
    """Scores of made-up predictions: `predict(sample, take's truth (T, J, 3))` gives hypotheses (H, T, J, 3)."""
    config = Config.model_validate(
        {
            "run_dir": "unused",
            "data": {"files": [data_file], "split_scheme": "within_scene", "camera_kinds": ["ego_rgb", "exo"]},
        }
    )
    tracks = sorted(list_tracks(config.data, "test"), key=lambda track: (track.take, track.person))
    lifted = []
    with TrackReader(config.data) as reader:
        for track in tracks:
            sample, scene = reader.read(track), reader.read_scene(track)
            world = scene["joints_3d_world"].astype(float)
            root = (world[:, 11] + world[:, 12])[:, None] / 2
            truth = np.nan_to_num((world - root) @ scene["world_to_camera"][..., :3].swapaxes(-1, -2))
            lifted.append((track, sample, predict(sample, truth), np.ones(track.length, int)))
    rows = evaluation.scoring.aggregations_for(len(lifted[0][2]))
    return egohumans.score_tracks(lifted, config.data, rows, np.zeros((17, 3)))


def shifted(truth, metres):
    """Every joint but the hips moved away from the camera: the root stays."""
    return truth + np.where(np.isin(np.arange(17), (11, 12)), 0, 1)[:, None] * np.array([0, 0, 1]) * metres


def test_errors_by_distance_are_those_of_the_joints_at_that_distance(data_file):
    """Predictions whose error is known, 10 mm a metre of distance, land in the bin of their distance."""

    def predict(sample, truth):
        distance = np.linalg.norm(sample["root_camera"], axis=-1)
        return shifted(truth, 0.01 * distance[:, None, None])[None]

    scores, *_ = score(data_file, predict)
    tables = summary.breakdowns(summary.Scored(scores, ["single", "training_mean_pose"]))
    kinds = tables["distance_to_camera"]["kinds"]
    assert set(kinds) == {"all", "ego_rgb", "exo"}
    for rows in kinds.values():
        for row in rows:
            assert 10 * row["from"] * 0.7 < row["mpjpe"] < 10 * row["to"] * 0.95  # two of 17 joints have none
    total = sum(row["joints"] for row in kinds["all"])
    assert total == sum(score.tally["joints scored"] for score in scores)
    assert total == sum(row["joints"] for kind in ("ego_rgb", "exo") for row in kinds[kind])


def test_the_spread_stands_beside_the_error_it_came_with(data_file):
    """Two hypotheses 60 mm to either side of a mean that is 100 mm off: spread 60, error 100."""

    def predict(_sample, truth):
        return np.stack([shifted(truth, 0.1 + side) for side in (-0.06, 0.06)])

    scores, *_ = score(data_file, predict)
    rows = evaluation.scoring.aggregations_for(2)
    calibration = summary.breakdowns(summary.Scored(scores, rows))["calibration"]
    assert [row["from"] < 60 < row["to"] for row in calibration["rows"]] == [True]
    assert calibration["spread"] == pytest.approx(60, abs=0.01)
    assert calibration["error"] == pytest.approx(100, abs=0.01)
    assert calibration["ratio"] == pytest.approx(100 / 60, abs=1e-3)
    assert calibration["honest ratio"] == pytest.approx(np.sqrt(3), abs=1e-6)


def test_honest_hypotheses_are_found_to_be_honest():
    """The truth as one more draw: the error is the honest ratio times the spread."""
    random = np.random.default_rng(0)
    draws = random.normal(0, 0.05, (6, 4000, 5, 3))
    spread = 1000 * breakdown.spread_of(draws[:5])
    error = 1000 * np.linalg.norm(draws[:5].mean(axis=0) - draws[5], axis=-1)
    sums = breakdown.by_spread(error, spread).sum(axis=1)
    assert np.sqrt(sums[1] / sums[0]) == pytest.approx(breakdown.honest_ratio(5), rel=0.02)


def test_frames_since_a_person_was_seen_count_by_the_source():
    seen = np.array([False, True, False, False, True, False])
    frame = np.array([7, 8, 9, 12, 13, 14])  # two frames are not in the file
    assert breakdown.frames_unseen(seen, frame).tolist() == [-1, 0, 1, 4, 0, 1]


def test_errors_out_of_view_count_frames_that_no_table_scores(data_file):
    """The wearer of the first camera looks away, so that its frames leave the view one after the other."""
    away = Oddities(FRAMES).turned_away

    def predict(sample, truth):
        error = np.zeros(len(truth))
        error[away] = 0.1
        return shifted(truth, error[:, None, None])[None]

    scores, *_ = score(data_file, predict)
    first = [score for score in scores if score.track.camera == "aria01/rgb"]
    part = summary.breakdowns(summary.Scored(first, ["single", "training_mean_pose"]))["time_out_of_view"]
    by_start = {row["from"]: row for row in part["rows"]}
    assert by_start[0]["mpjpe"] < 20
    assert set(by_start) == {0, 1, 2, 3, 5}  # it looks away for eight frames
    for start in (1, 2, 3, 5):
        assert by_start[start]["mpjpe"] == pytest.approx(100 * 15 / 17, abs=8)
    scored = sum(score.tally["joints scored"] for score in first)
    beyond = sum(row["joints"] for start, row in by_start.items() if start)
    assert beyond > 0
    assert by_start[0]["joints"] <= scored


def test_the_worst_moment_is_where_the_error_is_largest(data_file):
    def predict(_sample, truth):
        error = np.full(len(truth), 0.01)
        error[17] = 0.3
        return shifted(truth, error[:, None, None])[None]

    *_, moments = score(data_file, predict)
    assert len(moments) == 3  # one a take
    for moment in moments:
        assert moment.frame_index == 17
        assert moment.error_mm == pytest.approx(300 * 15 / 17, abs=3)
        with schema.open_file(data_file) as file:
            sequence = schema.read_sequence(file, moment.sequence)
        camera, person = sequence.camera.index(moment.camera), sequence.person.index(moment.person)
        stored = sequence.joints_2d_projected[camera, 17, person]
        seen = np.isfinite(stored).all(axis=-1) & np.isfinite(moment.true_3d).all(axis=-1)
        np.testing.assert_allclose(moment.seen_px(moment.true_3d)[seen], stored[seen], atol=0.5)


def test_the_worst_moments_do_not_depend_on_the_order_they_come_in(outcome):
    moments = list(outcome.worst.values())
    tied = [replace(moments[0], camera="a"), replace(moments[0], camera="b"), *moments[1:]]
    for order in (tied, tied[::-1]):
        worst = worst_of_takes(order)
        assert list(worst) == sorted(worst)
        assert worst[moments[0].take].camera == "a"


def test_the_page_needs_nothing_but_itself(written):
    text = written.read_text()
    page = Page(text)
    assert page.open == []
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert len(page.sources) >= 9  # six charts, three worst takes
    assert all(page.alternatives)
    assert not re.search(r"https?://|@import|url\(|<script", text)
    for link in page.links:
        assert link[1:] in page.anchors if link.startswith("#") else (written.parent / link).exists()


def test_the_page_says_every_number_choice_and_kind(outcome, written):
    text = html.unescape(re.sub(r"<[^>]+>", " ", written.read_text()))
    results = outcome.results
    first = f"{results['scenes']['mean of scenes']['mpjpe']['p_agg']:,.1f}"
    assert text.index("SIMULATED DATA") < text.index(first)
    for scene in results["scenes"].values():
        for row, about in results["aggregations"].items():
            assert f"{scene['mpjpe'][row]:,.1f}" in text
            assert about["title"].removesuffix(" (baseline)") in text
    for kind in ("deployable", "oracle", "baseline"):
        assert text.count(f" {kind} ") >= sum(about["kind"] == kind for about in results["aggregations"].values())
    for name, value in results["choices"].items():
        assert name in text
        assert not isinstance(value, str) or value in text
    for version in results["choices"]["versions"].values():
        assert str(version or "-") in text


def test_names_from_files_cannot_break_the_page(outcome):
    strange = json.loads(json.dumps(outcome.results).replace("Fencing", "<script>alert(1)</script>"))
    text = report.report_page(strange, {}, {}, "results")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_the_pictures_are_files_too_with_enough_pixels_for_print(written):
    pictures = sorted((written.parent / "figures").iterdir())
    names = {picture.stem for picture in pictures}
    assert {"error_by_scene", "error_by_joint", "error_by_distance", "error_by_camera_kind"} < names
    assert {"error_by_time_out_of_view", "uncertainty", "worst_1", "worst_2", "worst_3"} < names
    for picture in pictures:
        width, _ = struct.unpack(">II", picture.read_bytes()[16:24])
        assert width >= 1200


def test_every_axis_says_its_unit(outcome):
    for chart in report.charts(outcome.results).values():
        for axes in chart.figure.axes:
            labels = axes.get_xlabel() + axes.get_ylabel()
            assert re.search(r"\((mm|m|%)|frames", labels), (chart.name, labels)


def test_an_earlier_report_is_replaced_whole(tmp_path, outcome):
    paths = evaluation.results_paths(tmp_path, "test", "people.h5")
    page = report.write_report(outcome, paths[0])
    stale = page.parent / "figures" / "scene_of_an_earlier_file.png"
    stale.write_bytes(b"")
    with pytest.raises(FileExistsError, match="--overwrite"):
        check_free(*paths, report.report_folder(paths[0]), overwrite=False)
    assert report.write_report(outcome, paths[0]) == page
    assert page.is_file() and not stale.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["results_test_people"]


def test_one_hypothesis_and_one_kind_of_camera_are_said(outcome):
    results = json.loads(json.dumps(outcome.results))
    results["breakdowns"]["calibration"], results["choices"]["hypotheses"] = None, 1
    del results["per_camera_kind"]["exo"]
    charts = report.charts(results)
    assert not {"uncertainty", "error_by_camera_kind"} & charts.keys()
    text = report.report_page(results, {}, {}, "results")
    assert "One hypothesis has no spread" in text
    assert "--camera-kinds ego_rgb exo" in text


def test_the_report_of_human36m_has_actions_distances_and_spread(tmp_path):
    clips = [Clip(f"{subject}/Eating", "Eating", frames=12, split="train") for subject in ("S1", "S5")]
    clips += [Clip("S9/Greeting 1", "Greeting", frames=12), Clip("S9/Walking", "Walking", frames=12)]
    file = write_lab_file(tmp_path / "lab.h5", clips)
    outcome = evaluation.evaluate(lab_file.make_run(tmp_path / "run", file), file)
    charts = report.charts(outcome.results)
    assert set(charts) == {"error_by_scene", "error_by_joint", "error_by_distance", "uncertainty"}
    page = report.write_report(outcome, tmp_path / "results.json", {})
    text = html.unescape(page.read_text())
    for words in ("Greeting", "Walking", "Mean of actions", "human36m protocol", "oracle", "incomplete"):
        assert words in text
    assert "Worst takes" not in text and "Out of view" not in text


def test_the_report_of_mpi_inf_3dhp_has_sequences_and_joints(tmp_path):
    mpi_inf_3dhp_raw.write_test(tmp_path / "TS1" / "annot_data.mat", mpi_inf_3dhp_raw.official_test("TS1", frames=30))
    file = test_mpi_inf_3dhp_evaluation.converted(tmp_path, tmp_path / "test.h5")
    outcome = evaluation.evaluate(test_mpi_inf_3dhp_evaluation.make_run(tmp_path / "run"), file)
    charts = report.charts(outcome.results)
    assert set(charts) == {"error_by_scene", "error_by_joint"}
    labels = [label.get_text() for label in charts["error_by_joint"].figure.axes[0].get_yticklabels()]
    assert "left wrist" in labels and len(labels) == 17
    text = report.write_report(outcome, tmp_path / "results.json").read_text()
    for words in ("TS1", "Mean of sequences", "PCK@150 mm (%)", "mpi-inf-3dhp protocol"):
        assert words in text
