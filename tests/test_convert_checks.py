"""Every defect of a take's people and frames becomes exactly the finding that names it; a clean take has none."""

import ast
import json

import numpy as np
import pytest
from conftest import REPOSITORY
from converted_take import concerns, only
from simulated_take import FIT, TRIANGULATED, SimulatedTake

from finepose_mp.preprocessing.egohumans import plausibility
from finepose_mp.preprocessing.egohumans.findings import CHECKS
from finepose_mp.preprocessing.egohumans.source import TakeError
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.schema import MISSING
from finepose_mp.skeletons import COCO17

LEGO = "02_legoassemble/001_legoassemble"
FRAMES = 40
WRIST, ELBOW = COCO17.index("left_wrist"), COCO17.index("left_elbow")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return SimulatedTake.make(tmp_path_factory.mktemp("sound") / "raw", LEGO, FRAMES, seed=5)


@pytest.fixture(scope="module")
def sound_sequence(sound):
    return sound.convert()


@pytest.fixture
def take(sound):
    return sound.copy()


@pytest.mark.parametrize(
    "name", [LEGO, "01_tagging/008_tagging", "05_volleyball/001_volleyball", "07_tennis/001_tennis"]
)
def test_clean_take_has_nothing_to_look_at(tmp_path, name):
    findings = SimulatedTake.make(tmp_path / "raw", name, 30, seed=11).convert().findings
    assert [f["message"] for f in findings if f["severity"] != "info"] == []


def test_findings_are_for_programs_too(sound_sequence):
    assert json.loads(json.dumps(sound_sequence.findings, allow_nan=False)) == sound_sequence.findings
    for finding in sound_sequence.findings:
        assert finding["check"] in CHECKS
        assert set(finding) <= {
            "check", "severity", "message", "camera", "person", "frames", "frame_count", "expected", "found",
        }  # fmt: skip


def test_every_check_in_the_code_is_described_and_every_description_is_of_a_check():
    said = set()
    for path in (REPOSITORY / "preprocessing/egohumans").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name != "findings.py":
                said |= {node.value} & set(CHECKS)
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add" and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    assert name.value in CHECKS, f"{path.name}: {name.value} is not in findings.CHECKS"
    built = {f"catalogue.{what}_{how}" for what in ("people", "cameras") for how in ("missing", "unexpected")}
    assert set(CHECKS) == said | built


# --- poses -----------------------------------------------------------------------------------------------------------


def test_person_missing_from_a_fitted_frame(take):
    take.poses(FIT, lambda k, people: k == 7 and people.pop("aria02"))
    sequence = take.convert()
    assert concerns(sequence.findings) == {"poses.person_missing"}
    finding = only(sequence.findings, "poses.person_missing")
    assert (finding["person"], finding["frames"], finding["found"]) == ("aria02", [[7, 7]], 1)
    assert (sequence.joint_status[6, 1] == MISSING).all() and np.isnan(sequence.joints_3d_world[6, 1]).all()


def test_person_missing_from_a_triangulated_frame(take):
    take.poses(TRIANGULATED, lambda k, people: k in (7, 8) and people.pop("aria03"))
    findings = take.convert().findings
    assert concerns(findings) == {"poses.triangulation_person_missing"}
    assert only(findings, "poses.triangulation_person_missing")["frames"] == [[7, 8]]


@pytest.mark.parametrize("absences", [(12,), (12, 25)])
def test_trajectory_that_the_fit_shifts(tmp_path, absences):
    """What the authors' smoothing does where a person is absent: all that follows moves up."""
    take = SimulatedTake.make(tmp_path / "raw", "01_tagging/001_tagging", FRAMES, seed=2)
    take.poses(TRIANGULATED, lambda k, people: k in absences and people.pop("aria02"))
    fit = {}
    take.poses(FIT, lambda k, people: fit.update({k: people["aria02"]}))
    moments = [k for k in range(1, FRAMES + 1) if k not in absences]

    def shift(k, people):
        if k <= len(moments):
            people["aria02"] = fit[moments[k - 1]]
        else:
            del people["aria02"]

    take.poses(FIT, shift)
    sequence = take.convert()
    shifted = [f for f in sequence.findings if f["check"] == "alignment.shifted"]
    expected = {1: [[12, 40]]} if len(absences) == 1 else {1: [[12, 24]], 2: [[25, 40]]}
    assert {f["found"]["shift_frames"]: f["frames"] for f in shifted} == expected
    assert {f["person"] for f in shifted} == {"aria02"}
    assert concerns(sequence.findings) == {
        "alignment.shifted", "poses.triangulation_person_missing", "poses.person_missing",
    }  # fmt: skip
    missing = (sequence.joint_status[:, 1] == MISSING).all(axis=-1)
    np.testing.assert_array_equal(missing, np.arange(1, FRAMES + 1) >= 12)
    assert (sequence.joint_status[:, [0, 2, 3]] != MISSING).all()


def test_fit_that_is_somewhere_else(take):
    def move(_, people):
        people["aria01"][:, :3] += (0.1, 0, 0)

    take.poses(FIT, move)
    findings = take.convert().findings
    assert concerns(findings) == {"alignment.distance"}
    found = only(findings, "alignment.distance")
    assert found["person"] == "aria01" and found["found"]["median_m"] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, 5e6])
def test_fitted_joint_that_is_no_position(take, value):
    def spoil(k, people):
        if k == 9:
            people["aria01"][WRIST, 1] = value

    take.poses(FIT, spoil)
    sequence = take.convert()
    assert concerns(sequence.findings) == {"poses.no_position"}
    assert only(sequence.findings, "poses.no_position")["frames"] == [[9, 9]]
    assert np.argwhere(sequence.joint_status == MISSING).tolist() == [[8, 0, WRIST]]


def test_flags_that_contradict_positions(take):
    def unflag(k, people):
        people["aria01"][WRIST, 3] = k != 3

    def lose(k, people):
        if k == 4:
            people["aria02"][WRIST] = (0, 0, 0, 1)

    take.poses(FIT, unflag)
    take.poses(TRIANGULATED, lose)
    findings = take.convert().findings
    assert concerns(findings) == {"poses.flag_zero", "poses.flag_without_position"}
    assert only(findings, "poses.flag_zero")["frames"] == [[3, 3]]
    assert only(findings, "poses.flag_without_position")["person"] == "aria02"


def test_coverage_counts_what_was_not_observed(take):
    def lose(k, people):
        if 10 <= k < 20:
            people["aria02"][WRIST] = 0

    take.poses(TRIANGULATED, lose)
    sequence = take.convert()
    coverage = next(f for f in sequence.findings if f["check"] == "poses.coverage" and f["person"] == "aria02")
    assert coverage["found"]["longest_gap_frames"] >= 10
    assert coverage["found"]["not_observed_by_joint"]["left_wrist"] >= 10 / FRAMES
    counts = [coverage["found"][key] for key in ("missing", "observed", "interpolated")]
    assert counts == [int((sequence.joint_status[:, 1] == status).sum()) for status in (0, 1, 2)]


def test_no_triangulation_at_all(take):
    take.remove(TRIANGULATED)
    assert concerns(take.convert().findings) == {"poses.no_triangulation"}


def test_name_that_is_no_person(take):
    take.poses(FIT, lambda _, people: people.update(referee=people["aria01"]))
    findings = take.convert().findings
    assert concerns(findings) == {"people.unknown_name"}
    assert only(findings, "people.unknown_name")["found"] == ["referee"]


# --- frames ----------------------------------------------------------------------------------------------------------


def test_frame_numbers_with_a_hole(take):
    for folder in (FIT, TRIANGULATED, *(f"ego/aria0{i}/calib" for i in (1, 2, 3))):
        for k in (15, 16, 17):
            take.remove(f"{folder}/{k:05d}.{'txt' if 'calib' in folder else 'npy'}")
    sequence = take.convert()
    assert concerns(sequence.findings) == {"frames.gap"}
    assert only(sequence.findings, "frames.gap")["frames"] == [[15, 17]]
    assert len(sequence.frame) == FRAMES - 3 and {15, 16, 17}.isdisjoint(sequence.frame)


def test_folder_that_lacks_frames(take):
    take.remove("ego/aria02/calib/00031.txt")
    findings = take.convert().findings
    assert concerns(findings) == {"frames.lacking"}
    found = only(findings, "frames.lacking")
    assert (found["frames"], found["found"]["folder"]) == ([[31, 31]], "ego/aria02/calib")


def test_aria_with_few_calibrations_loses_its_cameras_not_the_frames(take):
    for k in range(10, FRAMES + 1):
        take.remove(f"ego/aria02/calib/{k:05d}.txt")
    sequence = take.convert()
    assert concerns(sequence.findings) == {"ego_camera.left_out"}
    assert "covers 9 of 40 fitted frames" in only(sequence.findings, "ego_camera.left_out")["message"]
    assert len(sequence.frame) == FRAMES and sequence.person == ["aria01", "aria02", "aria03"]
    assert not [name for name in sequence.camera if name.startswith("aria02")]


def test_take_without_a_valid_person(take):
    take.facts = type(take.facts)(**{**vars(take.facts), "invalid_arias": ("aria01", "aria02", "aria03")})
    with pytest.raises(TakeError, match="no valid person"):
        take.convert()


# --- plausibility ----------------------------------------------------------------------------------------------------


def test_teleport(take):
    def jump(k, people):
        if k == 20:
            people["aria03"][:, :3] += (2, 0, 0)

    take.poses(FIT, jump)
    findings = take.convert().findings
    assert concerns(findings) == {"plausibility.speed", "outliers.joint"}
    found = only(findings, "plausibility.speed")
    assert (found["person"], found["frames"]) == ("aria03", [[20, 21]])
    assert found["found"]["max_m_per_s"] == pytest.approx(40, abs=5)


def _longer_forearm(joints: np.ndarray, factor: float) -> None:
    joints[..., WRIST, :] = joints[..., ELBOW, :] + factor * (joints[..., WRIST, :] - joints[..., ELBOW, :])


def _late_growth(joints: np.ndarray) -> None:
    _longer_forearm(joints[25:, 0], 1.6)


def _one_long_arm_for_a_moment(joints: np.ndarray) -> None:
    _longer_forearm(joints[20:21, 1], 1.6)


def _one_long_arm(joints: np.ndarray) -> None:
    _longer_forearm(joints[:, 2], 1.5)


def _one_body_with_two_names(joints: np.ndarray) -> None:
    joints[:, 1] = joints[:, 0] + (0.05, 0, 0)


def _dwarf(joints: np.ndarray) -> None:
    feet = joints[:, 0, 15:].mean(axis=(0, 1))
    joints[:, 0] = feet + 0.5 * (joints[:, 0] - feet)


def _below(joints: np.ndarray) -> None:
    joints[10:, 2, :, 2] += np.minimum(0, -0.3 * np.arange(FRAMES - 10))[:, None]


def _upstairs(joints: np.ndarray) -> None:
    joints[:, 1, :, 2] += 1.5


@pytest.mark.parametrize(
    "spoil, person, checks",
    [
        (_late_growth, "aria01", {"plausibility.limb_length"}),
        (_one_long_arm_for_a_moment, "aria02", {"plausibility.limb_length"}),
        (_one_long_arm, "aria03", {"plausibility.asymmetry"}),
        (_one_body_with_two_names, "aria01", {"plausibility.overlap"}),
        (_dwarf, "aria01", {"plausibility.body_size"}),
        (_upstairs, None, {"plausibility.floor"}),
        (_below, "aria03", {"plausibility.height", "plausibility.floor"}),
    ],
)
def test_implausible_bodies(sound_sequence, spoil, person, checks):
    joints = sound_sequence.joints_3d_world.copy()
    spoil(joints)
    findings = Findings()
    plausibility.check_plausibility(joints, sound_sequence.frame, sound_sequence.person, 20.0, findings)
    assert concerns(findings.items) == checks
    assert {f.get("person") for f in findings.items if f["severity"] == "warning"} <= {person, None}


def test_world_upside_down(sound_sequence):
    joints = sound_sequence.joints_3d_world * (1, 1, -1)
    findings = Findings()
    plausibility.check_plausibility(joints, sound_sequence.frame, sound_sequence.person, 20.0, findings)
    assert "plausibility.upright" in concerns(findings.items)


def test_long_limb_names_its_frames(sound_sequence):
    joints = sound_sequence.joints_3d_world.copy()
    _one_long_arm_for_a_moment(joints)
    findings = Findings()
    plausibility.check_plausibility(joints, sound_sequence.frame, sound_sequence.person, 20.0, findings)
    found = only(findings.items, "plausibility.limb_length")
    assert found["frames"] == [[21, 21]] and set(found["found"]) == {"forearm"}


def test_missing_joints_are_not_implausible(sound_sequence):
    joints = sound_sequence.joints_3d_world.copy()
    joints[::2, 0, WRIST], joints[5:9, 1], joints[:, 2] = np.nan, np.nan, np.nan
    findings = Findings()
    plausibility.check_plausibility(joints, sound_sequence.frame, sound_sequence.person, 20.0, findings)
    assert concerns(findings.items) == set()
