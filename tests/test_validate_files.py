"""What the validator says about files that are damaged, hostile, incomplete or described wrongly; and its tool."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import REPOSITORY
from contract_file import write_contract_file

from finepose_mp import schema
from finepose_mp.preprocessing.egohumans import catalogue, dataset
from finepose_mp.preprocessing.egohumans.benchmark_oracles import compare_file
from finepose_mp.preprocessing.simulation.dataset import simulate
from finepose_mp.validation import Report, attributes, isolated, validate, validate_isolated
from finepose_mp.validation.take import Spread

NAME = "01_tagging/001_tagging"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.h5"
    return write_contract_file(path, scenes=("Tagging",), takes_per_scene=1, frames=20, persons=2)


@pytest.fixture
def edited(sound, tmp_path) -> Path:
    path = tmp_path / "edited.h5"
    path.write_bytes(sound.read_bytes())
    return path


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "tools/validate.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def messages(report: Report, check: str) -> str:
    return "\n".join(str(f) for f in report.findings if f.check == check)


def test_exit_statuses_and_json(sound, edited, tmp_path):
    done = run(sound, "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and answer["verdict"] == "sound" and answer["checked"]["frames"] == 20
    assert {entry["camera"] for entry in answer["measured"]} == {"aria01/rgb", "aria02/rgb", "cam01"}
    with h5py.File(edited, "r+") as file:
        file[NAME]["joints_3d_world"][10:12, 1] *= 1.5
    done = run(edited)
    assert done.returncode == 1 and "findings; checked 1 sequences, 20 frames, 2 people" in done.stdout
    assert f"{NAME}/joints_3d_world" in done.stdout and "person aria02, frames 11-12 (2)" in done.stdout
    answer = validate(edited).as_dict()
    finding = next(f for f in answer["findings"] if f["check"] == "reprojection")
    assert json.loads(json.dumps(finding))["frames"] == [[11, 12]] and finding["group"] == NAME
    assert {"expected", "found", "camera"} <= set(finding) and answer["counts"]["error"] >= 1
    done = run(tmp_path / "nothing.h5")
    assert done.returncode == 2 and "no such file" in done.stderr and "Traceback" not in done.stderr


def test_what_is_no_file_of_the_contract(tmp_path, edited):
    (tmp_path / "page.h5").write_text("<html>quota exceeded</html>")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    with schema.create(tmp_path / "empty.h5", "nothing", "coco17", "none", "none"):
        pass
    (tmp_path / "cut.h5").write_bytes(edited.read_bytes()[:-5000])
    for name, words in (
        ("page.h5", "not a readable HDF5 file"),
        ("other.h5", "schema"),
        ("empty.h5", "no sequence"),
        ("cut.h5", "truncated"),
    ):
        report = validate(tmp_path / name)
        assert report.verdict == "unusable" and words in report.unusable and name in report.unusable
    assert validate(tmp_path).verdict == "unusable"  # a folder
    with h5py.File(edited, "r+") as file:
        file.attrs["schema_version"] = "9.0"
    assert "9.0" in validate(edited).unusable


def test_a_variable_or_attribute_that_is_missing(edited):
    with h5py.File(edited, "r+") as file:
        del file[NAME]["detection_score"]
        del file[NAME].attrs["fps"]
        file[NAME].attrs["subjects"] = "not json"
        file[NAME]["extra"] = np.zeros(3)
    report = validate(edited)
    assert report.verdict == "unusable" and "not one of 1 sequences" in report.unusable
    assert "detection_score: missing" in messages(report, "variables")
    assert "extra" in messages(report, "variables")
    assert "subjects" in messages(report, "attributes") and "fps" in messages(report, "fps")


def test_names_units_types_and_scales(edited):
    with h5py.File(edited, "r+") as file:
        group = file[NAME]
        group["joints_3d_world"].attrs["units"] = "mm"
        group["in_view"].attrs["coordinate_frame"] = "somewhere"
        group["joint_status"].dims[2].detach_scale(file["joint"])
        status = group["detection_score"][...]
        del group["detection_score"]
        group["detection_score"] = status.astype("f8")
        group["frame"][5:] = group["frame"][5:] + 3
        group["camera_kind"][0] = "drone"
        group.attrs["split"] = "holdout"
        group.attrs["findings"] = json.dumps([{"check": "x", "severity": "error", "message": "shifted in time"}])
    report = validate(edited)
    assert "error: 01_tagging/001_tagging/joints_3d_world: attribute units; expected 'm', found 'mm'" in messages(
        report, "units"
    )
    assert "detection_score" in messages(report, "units")  # the new one says nothing
    assert "in_view" in messages(report, "coordinate_frame")
    assert "joint_status" in messages(report, "scales") and "detection_score" in messages(report, "scales")
    assert "float64" in messages(report, "type")
    assert "frames 9 (1)" in messages(report, "frames") and "3 numbers missing" in messages(report, "frames")
    assert "'drone'" in messages(report, "camera_kind") and "'holdout'" in messages(report, "split")
    assert "shifted in time" in messages(report, "converter")
    assert report.verdict == "findings"


def test_joint_names_and_frame_numbers_that_go_back(edited):
    with h5py.File(edited, "r+") as file:
        file[NAME]["frame"][7] = 2
        file.attrs["joint_parents"] = np.zeros(17, "i4")
    report = validate(edited)
    assert "frames 2 (1)" in messages(report, "frames") and "joint_parents" in messages(report, "joint_set")
    with h5py.File(edited, "r+") as file:
        file["joint"][0] = "pelvis"
    assert "no known joint set" in validate(edited).unusable


def test_wrong_shapes_do_not_stop_the_other_checks(edited):
    with h5py.File(edited, "r+") as file:
        del file[NAME]["camera_params"]
        file[NAME]["camera_params"] = np.zeros((3, 15))
        file[NAME]["joints_3d_world"][3, 0, 4] = np.nan
    report = validate(edited)
    assert "(3, 15)" in messages(report, "shape") and "person aria01, frames 4" in messages(report, "masks")


def test_a_file_may_not_lead_to_other_files(edited, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 20 * 2 * 17 * 3))
    with h5py.File(edited, "r+") as file:
        group = file[NAME]
        shape = group["joints_3d_world"].shape
        del group["joints_3d_world"], group["in_view"]
        group.create_dataset("joints_3d_world", shape, "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        group["in_view"] = h5py.ExternalLink(str(edited.with_name("other.h5")), "/in_view")
    report = validate(edited)
    assert "joints_3d_world: its numbers lie in another file" in messages(report, "storage")
    assert "in_view: missing" in messages(report, "variables")


def test_a_soft_link_may_not_lead_to_other_files_either(edited, tmp_path):
    with h5py.File(edited, "r+") as file, h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = file[NAME]["in_view"][...]
        del file[NAME]["in_view"]
        file["away"] = h5py.ExternalLink("other.h5", "/x")
        file[NAME]["in_view"] = h5py.SoftLink("/away")
    assert "in_view: missing" in messages(validate(edited), "variables")


@pytest.mark.parametrize("kind", [None, np.zeros(3, "i4")])
def test_cameras_of_no_kind_are_said_and_the_rest_is_checked(edited, kind):
    with h5py.File(edited, "r+") as file:
        file.copy(file[NAME], "02_lego/001_lego")
        del file[NAME]["camera_kind"]
        if kind is not None:
            file[NAME]["camera_kind"] = kind
        file["02_lego/001_lego"].attrs["fps"] = 0.0
    report = validate(edited)
    assert f"{NAME}/camera_kind: " + ("missing" if kind is None else "wrong type") in str(report.findings[0])
    assert "02_lego/001_lego: attribute fps" in messages(report, "fps")
    assert not messages(report, "damage") and "not one of 2 sequences" in report.unusable


def test_an_error_in_one_sequence_does_not_stop_the_others(edited, monkeypatch):
    with h5py.File(edited, "r+") as file:
        file.copy(file[NAME], "02_lego/001_lego")
        file["02_lego/001_lego"].attrs["fps"] = 0.0

    def stumble(take):
        if take.name == NAME:
            raise KeyError("camera_kind")

    monkeypatch.setattr(attributes, "check_camera_words", stumble)
    report = validate(edited)
    assert report.verdict == "unusable" and str(edited) in report.unusable
    assert f"{NAME}: cannot be checked (KeyError: 'camera_kind')" in messages(report, "damage")
    assert "02_lego/001_lego: attribute fps" in messages(report, "fps") and messages(report, "duplicate")
    assert len(report.measured) == 6  # the other checks of the sequence are done


def test_attributes_as_xarray_writes_them(edited):
    with h5py.File(edited, "r+") as file:
        file[NAME].attrs.update(fps=[20.0], simulated=np.ones(1, "u1"))
    assert validate(edited).verdict == "sound"
    with h5py.File(edited, "r+") as file:
        file[NAME].attrs.update(fps=[20.0, 20.0], simulated=[1, 1])
    report = validate(edited)
    assert "array([20., 20.])" in messages(report, "fps") and "simulated" in messages(report, "attributes")


@pytest.mark.parametrize(
    "name, value",
    [
        ("prediction", 5),
        ("prediction", "[]"),
        ("activity_names", "{bad"),
        ("scene", b"\xff\xfe"),
        ("simulated", [1, 0]),
    ],
)
def test_attributes_that_no_reader_can_use(edited, name, value):
    with h5py.File(edited, "r+") as file:
        text = h5py.string_dtype("utf-8") if isinstance(value, bytes) else None
        file[NAME].attrs.create(name, value, dtype=text)
    report = validate(edited)
    assert f"attribute {name}" in messages(report, "attributes") and "not one of 1 sequences" in report.unusable


def test_subjects_have_names(edited):
    with h5py.File(edited, "r+") as file:
        file[NAME].attrs["subjects"] = '["anna", {"y": 1}]'
    report = validate(edited)
    assert "attribute subjects; expected a list of names, found {'y': 1}" in messages(report, "attributes")
    assert report.verdict == "findings"


def test_claims_of_endless_data_are_refused_without_reading(edited):
    with h5py.File(edited, "r+") as file:
        group = file[NAME]
        del group["frame"]
        group.create_dataset("frame", (10**12,), "i4", chunks=(10**6,))
    report = validate(edited)
    assert "1000000000000 entries" in messages(report, "coordinates") and report.verdict == "unusable"


def test_damaged_data_is_named(edited):
    with h5py.File(edited, "r") as file:
        place = file[NAME]["joints_2d_projected"].id.get_chunk_info(0)
    data = bytearray(edited.read_bytes())
    data[place.byte_offset + 20 : place.byte_offset + 60] = bytes(40)
    edited.write_bytes(data)
    report = validate(edited)
    assert report.verdict == "unusable"
    assert "joints_2d_projected, frames 1 to 20: cannot be read" in messages(report, "damage")


def test_mutated_bytes_never_end_in_a_traceback(sound, tmp_path):
    original, chance, path = sound.read_bytes(), random.Random(0), tmp_path / "mutated.h5"
    verdicts = set()
    for _ in range(60):
        data = bytearray(original)
        for _ in range(chance.randrange(1, 20)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.choice([len(data), len(data), chance.randrange(len(data))])])
        report = validate(path)
        verdicts.add(report.verdict)
        assert report.verdict != "unusable" or str(path) in report.unusable
    assert "unusable" in verdicts


def test_a_crash_while_reading_makes_a_file_unusable(tmp_path, monkeypatch):
    monkeypatch.setattr(isolated, "_work", _die)
    report = validate_isolated(tmp_path / "deadly.h5")
    assert report.verdict == "unusable" and "deadly.h5" in report.unusable and "-11" in report.unusable


def test_a_file_that_never_ends_is_unusable(tmp_path, monkeypatch):
    monkeypatch.setattr(isolated, "_work", _wait)
    monkeypatch.setattr(isolated, "_LEAST_PATIENCE_S", 0.1)
    report = validate_isolated(tmp_path / "endless.h5")
    assert report.verdict == "unusable" and "endless.h5" in report.unusable and "silent" in report.unusable


def _wait(path: str, connection: object) -> None:
    time.sleep(600)


def _die(path: str, connection: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_simulated_take_is_sound_and_equals_its_benchmark(tmp_path):
    take = catalogue.take("01_tagging", "007_tagging")  # with a camera placed by hand
    simulate(tmp_path / "raw", [take], frames=12, seed=3, benchmark=True)
    outcomes = dataset.convert(dataset.find_takes(tmp_path / "raw"), tmp_path / "out.h5")
    assert [outcome.error for outcome in outcomes] == [None]
    report = validate(tmp_path / "out.h5")
    assert report.verdict == "sound", [str(f) for f in report.findings]
    compared = compare_file(tmp_path / "out.h5", tmp_path / "raw/benchmark")
    assert compared.problems == []
    assert all(camera.joints for camera in compared.takes[0].cameras if camera.camera.startswith("cam"))


def test_quantiles_in_fixed_memory():
    random = np.random.default_rng(0)
    values, kinds = random.lognormal(2, 1.5, 20_000), random.integers(0, 3, 20_000)
    spread = Spread(4)
    for part in np.array_split(np.arange(20_000), 7):
        spread.add(values[part], kinds[part])
    for kind in range(3):
        own = values[kinds == kind]
        assert spread.quantile(0.5)[kind] == pytest.approx(np.median(own), rel=0.02)
        assert spread.highest[kind] == own.max()
    assert np.isnan(spread.quantile(0.5)[3]) and spread.merged().total()[0] == 20_000
    zeros = Spread(1)
    zeros.add(np.zeros(5), 0)
    assert zeros.quantile(0.5)[0] == 0
