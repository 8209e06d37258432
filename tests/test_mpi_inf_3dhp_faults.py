"""Bad MPI-INF-3DHP input: each case says what is wrong, where, and what to do; nothing hostile runs."""

import os
import pickle
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from conftest import REPOSITORY
from mpi_inf_3dhp_raw import (
    calibration_text,
    training,
    write_community,
    write_mat,
    write_test,
    write_training,
)
from mpi_inf_3dhp_raw import official_test as make_test

from finepose_mp import schema
from finepose_mp.preprocessing.conversion import ConversionError
from finepose_mp.preprocessing.mpi_inf_3dhp import calibration, dataset, facts, matlab
from finepose_mp.preprocessing.unpickling import DamagedFileError, UnsafeFileError

HTML = "<!DOCTYPE html><html><body>404 Not Found</body></html>"


def outcomes_of(raw, out, camera_set="vnect"):
    return {outcome.name: outcome for outcome in dataset.convert(dataset.find_work(raw, camera_set), out)}


def only_error(raw, tmp_path):
    """The message when nothing could be converted."""
    with pytest.raises(ConversionError) as caught:
        dataset.convert(dataset.find_work(raw), tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()
    return str(caught.value)


def test_a_broken_sequence_is_reported_and_the_others_are_converted(tmp_path):
    write_test(tmp_path / "raw" / "TS1" / "annot_data.mat", make_test("TS1"))
    (tmp_path / "raw" / "TS2").mkdir()
    (tmp_path / "raw" / "TS2" / "annot_data.mat").write_text(HTML)
    found = outcomes_of(tmp_path / "raw", tmp_path / "out.h5")
    assert found["TS1"].error is None
    assert "TS2/annot_data.mat: not a MATLAB file, v5 to v7.3: it is a web page" in found["TS2"].error
    with schema.open_file(tmp_path / "out.h5") as file:
        assert schema.sequence_names(file) == ["TS1"]


def test_the_notes_that_macos_puts_beside_files_are_no_files(tmp_path):
    raw = tmp_path / "raw"
    write_test(raw / "TS1" / "annot_data.mat", make_test("TS1"))
    write_community(raw / "data_train_3dhp.npz", {"S1/Seq1": training(20)}, "metric")
    for path in [path for path in raw.rglob("*.*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
    (raw / "._TS2_annot_data.mat").write_bytes(b"\0\5\26\7")
    found = outcomes_of(raw, tmp_path / "out.h5")
    assert {name: outcome.error for name, outcome in found.items()} == {"S1/Seq1": None, "TS1": None}


@pytest.mark.parametrize(
    "content, message",
    [
        (HTML.encode(), "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of git-lfs"),
        (b"", "it is empty"),
        (b"PK\x03\x04 an archive", "it starts with b'PK"),
    ],
)
def test_files_that_are_no_matlab_files_say_what_they_look_like(tmp_path, content, message):
    (tmp_path / "annot.mat").write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"annot.mat: not a MATLAB file.*{message}"):
        matlab.read_variable(tmp_path / "annot.mat", "annot2")


@pytest.mark.parametrize("v73", [True, False])
def test_truncated_files_are_named(tmp_path, v73):
    whole = write_test(tmp_path / "annot_data.mat", make_test("TS6", frames=200), v73)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedFileError, match=r"annot_data.mat: annot3 cannot be read .*truncated or damaged"):
        matlab.read_variable(whole, "annot3")


@pytest.mark.parametrize("v73", [True, False])
@pytest.mark.parametrize("absent", ["annot3", "valid_frame", "activity_annotation", "univ_annot3"])
def test_missing_variables_of_a_test_sequence_are_named(tmp_path, v73, absent):
    write_test(tmp_path / "raw" / "TS6" / "annot_data.mat", make_test("TS6"), v73, **{absent: None})
    message = only_error(tmp_path / "raw", tmp_path)
    assert f"TS6/annot_data.mat: no variable {absent}; it has " in message


def test_missing_variables_of_a_training_sequence_are_named(tmp_path):
    write_training(tmp_path / "raw" / "S1" / "Seq1", training(frames=5), univ_annot3=None)
    assert "S1/Seq1/annot.mat: no variable univ_annot3; it has annot2, annot3" in only_error(tmp_path / "raw", tmp_path)


def test_a_training_file_in_place_of_a_test_file_is_recognised(tmp_path):
    path = write_training(tmp_path / "elsewhere", training(frames=5))
    (tmp_path / "raw" / "TS3").mkdir(parents=True)
    path.rename(tmp_path / "raw" / "TS3" / "annot_data.mat")
    assert "annot2 is no array of 2 x 17 x 1 x frames" in only_error(tmp_path / "raw", tmp_path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"cameras": np.array([[0.0, 1, 2]])}, "annot2 has 8 cells, expected 3 cells"),
        ({"cameras": np.array([[0.0, 0, 1, 2, 4, 5, 6, 7]])}, "cameras is .* expected different numbers from 0 to 13"),
        ({"frames": np.arange(4.0)[:, None]}, "rows differ, .*frames 4"),
        ({"annot3": [np.zeros((5, 51))] * 8}, r"cells of annot3 have shapes \[\(5, 51\)\], expected \(frames, 84\)"),
        ({"annot2": np.zeros((5, 56))}, r"annot2 has an array of shape \(5, 56\), expected 8 cells"),
    ],
)
def test_training_variables_of_other_shapes_are_refused(tmp_path, changes, message):
    path = write_training(tmp_path / "S1" / "Seq1", training(frames=5), **changes)
    with pytest.raises(DamagedFileError, match=message):
        dataset.read_training(path, "S1/Seq1", facts.CAMERA_SETS["vnect"])


def test_calibration_of_fewer_cameras_converts_those_it_has_and_says_so(tmp_path):
    folder = tmp_path / "raw" / "S1" / "Seq1"
    write_training(folder, training(frames=5), calibration_text((0, 2, 5)))
    outcome = outcomes_of(tmp_path / "raw", tmp_path / "out.h5")["S1/Seq1"]
    messages = {finding["check"]: finding["message"] for finding in outcome.findings}
    assert "has 3 cameras, expected 14 (or 8): 0, 2, 5" in messages["calibration.count"]
    assert messages["calibration.camera_absent"].startswith("camera 1, 4, 6, 7, 8 left out: no calibration in")
    with schema.open_file(tmp_path / "out.h5") as file:
        assert schema.read_sequence(file, "S1/Seq1").camera == ["0", "2", "5"]


def test_annotations_of_fewer_cameras_than_the_calibration_has(tmp_path):
    raw = training(frames=5, cameras=(0, 1, 4))
    write_training(tmp_path / "raw" / "S1" / "Seq1", raw, calibration_text(tuple(range(14))))
    outcome = outcomes_of(tmp_path / "raw", tmp_path / "out.h5")["S1/Seq1"]
    messages = {finding["check"]: finding["message"] for finding in outcome.findings}
    assert messages["cameras.absent"] == "no annotations of camera 2, 5, 6, 7, 8; the file has 3 cameras"


def test_calibration_without_any_wanted_camera_is_an_error(tmp_path):
    write_training(tmp_path / "raw" / "S1" / "Seq1", training(frames=5), calibration_text((9, 10)))
    message = only_error(tmp_path / "raw", tmp_path)
    assert "camera.calibration: has cameras [9, 10], none of the wanted [0, 1, 2, 4, 5, 6, 7, 8]" in message


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda text: HTML, "starts with '<!DOCTYPE html>.*expected 'Skeletool Camera Calibration File'"),
        (lambda text: text.splitlines()[0], "names no camera"),
        (lambda text: text.replace("extrinsic", "exposure", 1), "camera 0: intrinsic is .*expected 16 numbers"),
        (lambda text: text.replace("2048 2048", "2048", 1), "camera 0: size is 2048, expected 2 numbers"),
        (lambda text: text.replace("1497.693", "1497,693", 1), "camera 0: intrinsic is 1497,693"),
        (lambda text: text.replace("0.9650164", "1.9650164", 1), "camera 0: extrinsic is 0.* from a rotation"),
        (lambda text: text.replace("name          2", "name          0"), "camera 0 is there twice"),
        (lambda text: text.replace("name          2", "name          left"), "a camera's name is 'left'"),
        (lambda text: text.replace(" 0 0 1 0 ", " 0 0 0 0 ", 1), "camera 0: .* no pinhole"),
    ],
)
def test_spoiled_calibrations_are_refused(spoil, message):
    with pytest.raises(DamagedFileError, match=f"calibration.*{message}"):
        calibration.parse_calibration(spoil(calibration_text((0, 2))), "S1/Seq1/camera.calibration")


def test_a_calibration_of_another_recording_is_found_and_2d_projected_instead(tmp_path):
    text = calibration_text(facts.CAMERA_SETS["vnect"]).replace("1497.693", "1600.000", 1)
    write_training(tmp_path / "raw" / "S1" / "Seq1", training(frames=5), text)
    outcome = outcomes_of(tmp_path / "raw", tmp_path / "out.h5")["S1/Seq1"]
    errors = [finding for finding in outcome.findings if finding["severity"] == "error"]
    assert [error["camera"] for error in errors] == ["0"]
    assert "the calibration is another recording's; 2D is projected from the 3D instead" in errors[0]["message"]


def test_a_camera_whose_pose_contradicts_the_others_is_found(tmp_path):
    text = calibration_text(facts.CAMERA_SETS["vnect"]).replace("3852.623", "3952.623", 1)
    write_training(tmp_path / "raw" / "S1" / "Seq1", training(frames=5), text)
    outcome = outcomes_of(tmp_path / "raw", tmp_path / "out.h5")["S1/Seq1"]
    finding = next(finding for finding in outcome.findings if finding["check"] == "world.disagreement")
    assert finding["camera"] == "0" and "its 3D lies 100.0 mm" in finding["message"]


def test_one_file_under_two_names_is_found_before_anything_is_read(tmp_path):
    for name in ("Seq1", "Seq2"):
        write_training(tmp_path / "raw" / "S2" / name, training(frames=5))
    one, two = (tmp_path / "raw" / "S2" / name / "annot.mat" for name in ("Seq1", "Seq2"))
    two.write_bytes(one.read_bytes())
    with pytest.raises(dataset.RawDataError, match=r"are the same file: the sequences are mixed up; download S2/Seq2"):
        dataset.find_work(tmp_path / "raw")


def test_a_test_sequence_as_long_as_another_one_is_that_one(tmp_path):
    write_test(tmp_path / "raw" / "TS5" / "annot_data.mat", make_test("TS5", frames=492))
    message = only_error(tmp_path / "raw", tmp_path)
    assert "492 frames are those of TS6, TS5 has 320; the sequences are mixed up" in message


def test_a_test_sequence_seen_by_another_ones_camera_is_that_one(tmp_path):
    write_test(tmp_path / "raw" / "TS5" / "annot_data.mat", make_test("TS1"))
    message = only_error(tmp_path / "raw", tmp_path)
    assert "TS5: its annotations are of the camera of TS1; the sequences are mixed up" in message


def test_a_test_sequence_of_no_known_camera_is_projected_and_reported(tmp_path):
    raw = make_test("TS1")
    raw.pixels += 50
    write_test(tmp_path / "raw" / "TS1" / "annot_data.mat", raw)
    outcome = outcomes_of(tmp_path / "raw", tmp_path / "out.h5")["TS1"]
    assert any("this is not the known camera of TS1" in finding["message"] for finding in outcome.findings)
    with schema.open_file(tmp_path / "out.h5") as file:
        pixels = schema.read_sequence(file, "TS1").joints_2d_projected[0, :, 0]
    np.testing.assert_allclose(pixels[:, 0], raw.pixels[0, :, 0] - 50, atol=0.02)


def test_the_tool_says_by_its_exit_status_what_became_of_the_sequences(tmp_path):
    def run(out):
        command = [sys.executable, str(REPOSITORY / "tools" / "convert.py"), "mpi-inf-3dhp", "--cameras", "all"]
        command += ["--raw", str(tmp_path / "raw"), "--out", str(tmp_path / out)]
        return subprocess.run(command, capture_output=True, text=True)

    (tmp_path / "raw" / "TS2").mkdir(parents=True)
    (tmp_path / "raw" / "TS2" / "annot_data.mat").write_text(HTML)
    nothing = run("none.h5")
    assert nothing.returncode == 2 and "none of 1 sequences could be converted" in nothing.stderr
    write_test(tmp_path / "raw" / "TS1" / "annot_data.mat", make_test("TS1"))
    some = run("some.h5")
    assert some.returncode == 1 and "some.h5: 1 sequences, 40 frames" in some.stdout
    assert "FAILED TS2" in some.stdout and "it is a web page" in some.stdout


def test_nothing_found_says_what_is_there_and_what_is_expected(tmp_path):
    with pytest.raises(dataset.RawDataError, match=r"there is no such folder.\nGet the data: https"):
        dataset.find_work(tmp_path / "none")
    (tmp_path / "S1.zip").write_text("x")
    with pytest.raises(dataset.RawDataError, match=r"no MPI-INF-3DHP sequence in .*which holds S1.zip"):
        dataset.find_work(tmp_path)


class _Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_hostile_npz_is_refused_and_nothing_of_it_runs(tmp_path):
    trap = tmp_path / "trap"
    data = np.array({"TS1": _Hostile(str(trap))}, dtype=object)
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "data_test_3dhp.npz"
    np.savez(path, data=data)
    message = only_error(tmp_path / "raw", tmp_path)
    assert "data.npy: would call " in message and "mkdir on being read" in message
    assert not trap.exists()
    np.load(path, allow_pickle=True)["data"]  # the trap works where nothing restricts it
    assert trap.exists()


def test_a_hostile_pickle_behind_a_numpy_name_is_refused(tmp_path):
    payload = pickle.dumps({"TS1": _Hostile(str(tmp_path / "trap"))})
    header = b"\x93NUMPY\x01\x00" + (b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n")
    header = header[:8] + len(header[8:]).to_bytes(2, "little") + header[8:]
    path = tmp_path / "data_test_3dhp.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", header + payload)
    with pytest.raises(UnsafeFileError):
        list(dataset.read_community([path], frozenset(), (0,)))
    assert not (tmp_path / "trap").exists()


def _community(content):
    def write(path):
        np.savez(path, data=np.array(content, dtype=object))

    return write


def _poses(frames=5):
    return {"data_2d": np.ones((frames, 17, 2)), "data_3d": np.ones((frames, 17, 3)), "valid": np.ones(frames)}


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda path: path.write_text(HTML), "not a complete npz .*starts with b'<!DOCTYPE html>.*download it again"),
        (lambda path: np.savez(path, poses=np.ones(3)), "no array 'data'; it has poses.npy"),
        (lambda path: np.savez(path, data=np.ones(3)), "expected one dictionary of sequences"),
        (_community({"S9 Seq1": _poses()}), "sequence 'S9 Seq1', expected 'S1 Seq1' to 'S8 Seq2' or TS1 to TS6"),
    ],
)
def test_community_files_of_other_content_are_refused(tmp_path, write, message):
    path = tmp_path / "data_test_3dhp.npz"
    write(path)
    with pytest.raises(DamagedFileError, match=message):
        list(dataset.read_community([path], frozenset(), (0,)))


@pytest.mark.parametrize(
    "entry, message",
    [
        (_poses() | {"data_3d": np.ones((5, 16, 3))}, r"data_3d is float64 \(5, 16, 3\), expected \(frames, 17, 3\)"),
        (_poses() | {"data_2d": np.ones((4, 17, 2))}, "4 frames of 2D, 5 of 3D"),
        (_poses() | {"valid": np.ones(4)}, "valid is not one number for each of 5 frames"),
        ([1, 2], r"data_2d is object \(\), expected"),
        (_poses(), "projects onto its 2D neither as it is .* nor in its pelvis alone"),
    ],
)
def test_broken_sequences_of_a_community_file_are_reported_one_by_one(tmp_path, entry, message):
    path = write_community(tmp_path / "data_test_3dhp.npz", {"TS1": make_test("TS1")}, "metric")
    content = np.load(path, allow_pickle=True)["data"].item() | {"TS2": entry}
    np.savez(path, data=np.array(content, dtype=object))
    good, bad = list(dataset.read_community([path], frozenset(), (0,)))
    assert good.name == "TS1"
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(bad.error)


def test_two_community_files_of_one_kind_are_refused(tmp_path):
    paths = [
        write_community(tmp_path / f"data_test_3dhp{i}.npz", {"TS1": make_test("TS1")}, "metric") for i in range(2)
    ]
    (outcome,) = dataset.read_community(paths, frozenset(), (0,))
    assert "TS1 has metric poses, and so has" in outcome.error


def test_matlab_cells_and_numbers_are_told_apart(tmp_path):
    for v73 in (True, False):
        path = tmp_path / f"{v73}.mat"
        write_mat(path, {"cells": [np.ones((2, 3)), np.zeros((1, 4))], "numbers": np.arange(6.0).reshape(2, 3)}, v73)
        assert [cell.shape for cell in matlab.read_variable(path, "cells")] == [(2, 3), (1, 4)]
        np.testing.assert_array_equal(matlab.read_variable(path, "numbers"), np.arange(6.0).reshape(2, 3))
        assert matlab.variable_names(path) == ["cells", "numbers"]


def test_a_struct_is_no_variable(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_group("annot3")
    with pytest.raises(DamagedFileError, match="annot3 is a struct"):
        matlab.read_variable(tmp_path / "a.mat", "annot3")
