"""Bad input: what is left out is reported, what cannot be converted is skipped, nothing runs or is overwritten."""

import os
import pickle
import re
import shutil

import numpy as np
import pytest
from converted_take import TAGGING, convert_raw, convert_take, messages
from raw_take import CodeInAPickle, RawTake, npy

from finepose_mp import schema
from finepose_mp.preprocessing.conversion import ConversionError
from finepose_mp.preprocessing.egohumans import aria, dataset, discovery
from finepose_mp.preprocessing.egohumans.source import DirectorySource
from finepose_mp.preprocessing.unpickling import DamagedFileError

FIT = "processed_data/fit_poses3d"
WORKPLACE = "colmap/workplace"
GOOD = "01_tagging/002_tagging"


@pytest.fixture
def take_folder(tmp_path):
    return RawTake().write(tmp_path / "raw" / TAGGING)


def outcomes_with_a_good_take(tmp_path) -> dict[str, str | None]:
    """Error by name of all takes under raw/, to which a sound one is added; the file must hold the sound ones."""
    RawTake().write(tmp_path / "raw" / GOOD)
    outcomes = dataset.convert(dataset.find_takes(tmp_path / "raw"), tmp_path / "out.h5")
    with schema.open_file(tmp_path / "out.h5") as file:
        assert schema.sequence_names(file) == [o.name for o in outcomes if not o.error]
    return {outcome.name: outcome.error for outcome in outcomes}


def test_truncated_pose_file_costs_its_frame(take_folder, tmp_path):
    path = take_folder / FIT / "00003.npy"
    path.write_bytes(path.read_bytes()[:-100])
    sequence = convert_raw(tmp_path)
    np.testing.assert_array_equal(sequence.frame, [1, 2, 4, 5, 6])
    assert f"1 unreadable file left out; first: {FIT}/00003.npy" in messages(sequence, "poses", "error")


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_broken_link(path):
    path.unlink()
    path.symlink_to(path.parent / "elsewhere")


def a_link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


NO_FILES = {
    a_folder: "found a folder, pipe or device, expected a file",
    a_pipe: "found a folder, pipe or device, expected a file",
    a_broken_link: "No such file or directory; a link that leads nowhere?",
    a_link_to_itself: "Too many levels of symbolic links",
}


@pytest.mark.parametrize("become", NO_FILES)
def test_what_is_no_readable_file_costs_its_frame_and_is_named(take_folder, tmp_path, become):
    become(take_folder / FIT / "00003.npy")
    become(take_folder / "ego/aria02/calib/00005.txt")
    become(take_folder / "processed_data/poses2d/cam01/rgb/00002.npy")
    become(take_folder / "exo/cam01/images/00001.jpg")
    sequence = convert_raw(tmp_path)
    np.testing.assert_array_equal(sequence.frame, [1, 2, 4, 6])
    found = sequence.joints_2d_detected[sequence.camera.index("cam01")]
    assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2, 3]]).all()
    for check, path in (
        ("poses.unreadable", f"{FIT}/00003.npy"),
        ("ego_camera.unreadable", "ego/aria02/calib/00005.txt"),
        ("detections.unreadable", "processed_data/poses2d/cam01/rgb/00002.npy"),
    ):
        expected = f"1 unreadable file left out; first: {path} cannot be read ({NO_FILES[become]})"
        assert expected in messages(sequence, check, "error")
    assert "exo/cam01/images/00001.jpg: no readable image" in messages(sequence, "images.unreadable", "warning")
    assert sequence.source_files[FIT]["files"] == 5


@pytest.mark.parametrize("become", NO_FILES)
def test_a_fingerprint_holds_as_long_as_files_cannot_be_read(take_folder, become):
    become(take_folder / FIT / "00003.npy")
    files = DirectorySource(take_folder)
    asked = files.fingerprint()
    assert len(list(files.read_all(FIT, files.names(FIT)))) == 6
    assert files.fingerprint() == asked
    path = take_folder / FIT / "00003.npy"
    path.rmdir() if path.is_dir() else path.unlink()
    path.write_bytes(npy({}))
    assert files.fingerprint() != asked


def test_file_of_the_whole_take_that_is_a_pipe(take_folder, tmp_path):
    a_pipe(take_folder / WORKPLACE / "cameras.txt")
    errors = outcomes_with_a_good_take(tmp_path)
    assert f"{WORKPLACE}/cameras.txt cannot be read (found a folder, pipe" in errors[TAGGING] and errors[GOOD] is None


def test_frame_0_is_no_frame_and_said_to_be_left_out(take_folder, tmp_path):
    paths = [
        take_folder / folder / f"00000{ending}"
        for folder, ending in ((FIT, ".npy"), ("ego/aria01/calib", ".txt"), ("exo/cam01/images", ".jpg"))
    ]
    for path in paths:
        shutil.copy(path.with_name(f"00001{path.suffix}"), path)
    sequence = convert_raw(tmp_path)
    np.testing.assert_array_equal(sequence.frame, range(1, 7))
    (finding,) = (f for f in sequence.findings if f["check"] == "frames.zero")
    assert finding["severity"] == "warning"
    assert finding["found"] == [f"{FIT}/00000.npy", "ego/aria01/calib/00000.txt"]  # pictures are not needed
    assert f"frames count from 1: {FIT}/00000.npy and 1 more file" in finding["message"]


def test_numbers_of_six_digits_are_said_to_be_left_out(take_folder, tmp_path):
    for folder in (FIT, "processed_data/poses2d/cam01/rgb"):
        for path in (take_folder / folder).iterdir():
            path.rename(path.with_name(f"0{path.name}"))
    said = f"expected five digits (00001, 00002, ...): {FIT} 6 (000001.npy), processed_data/poses2d/cam01/rgb 6 (000001"
    assert said in outcomes_with_a_good_take(tmp_path)[TAGGING]


def _write_in_calibrations(take_folder, line, column, text):
    """Replaces one number in every calibration of aria02."""
    for path in (take_folder / "ego/aria02/calib").iterdir():
        lines = [row.split() for row in path.read_text().splitlines()]
        lines[line][column] = text
        path.write_text("\n".join(map(" ".join, lines)))


@pytest.mark.parametrize(
    "line, column, text, message",
    [
        (2, 0, "0.0", "line 3: focal length 0.0, expected 1 px or more"),
        (4, 0, "-240", "line 5: focal length -240.0, expected 1 px or more"),
        (6, 3, "1e200", "line 7: expected 15 finite numbers up to 100000, found 1e+200"),
        (3, 9, "1e300", "line 4: expected 12 finite numbers up to 100000, found 1e+300"),
    ],
)
def test_impossible_lenses_cost_an_aria_its_cameras_not_the_take(take_folder, tmp_path, line, column, text, message):
    _write_in_calibrations(take_folder, line, column, text)
    sequence = convert_raw(tmp_path)
    assert len(sequence.frame) == 6 and sequence.person == ["aria01", "aria02"]
    assert not [name for name in sequence.camera if name.startswith("aria02")]
    assert f"ego/aria02/calib/00001.txt, {message}" in messages(sequence, "ego_camera.unreadable", "error")


def test_calibration_of_seven_lines_costs_its_frame(take_folder, tmp_path):
    path = take_folder / "ego/aria02/calib/00005.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:7]))
    sequence = convert_raw(tmp_path)
    np.testing.assert_array_equal(sequence.frame, [1, 2, 3, 4, 6])
    assert "ego/aria02/calib/00005.txt: 7 lines, expected 8" in messages(sequence, "ego_camera", "error")


@pytest.mark.parametrize(
    "line, text, message",
    [
        (2, "610 704.5 702.25", r"line 3: expected 15 finite numbers, found 3"),
        (3, " ".join(["nan"] * 12), r"line 4: expected 12 finite numbers"),
        (5, "one " * 12, r"line 6: expected 12 numbers, found 'one one"),
        (7, " ".join(["0.5"] * 12), r"determinants.*expected rotations"),
    ],
)
def test_calibration_with_a_bad_line(take_folder, tmp_path, line, text, message):
    path = take_folder / "ego/aria01/calib/00001.txt"
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines))
    sequence = convert_raw(tmp_path)
    assert sequence.frame[0] == 2
    assert re.search(message, messages(sequence, "ego_camera", "error"))


@pytest.mark.parametrize("odd", ["0.1", "5", "+5", "5.", "-.5", "1e999", "1E-320", "9" * 30, "9" * 5000, " 1", "inf"])
def test_numbers_of_a_calibration_are_read_in_all_of_their_notations(odd):
    rng = np.random.default_rng(0)
    rows = [[repr(number) for number in rng.normal(size=count).tolist()] for count in (15, 12) * 3]
    rows[3][7] = odd
    data = "\n".join(["Serial", "aria", *map(" ".join, rows)]).encode()
    numbers = aria.parse_calibration(data, "a.txt")
    assert numbers == [float(number) for row in rows for number in row]
    assert {type(number) for number in numbers} == {float}


@pytest.mark.parametrize("odd", ["true", "null", "1,5", "[1]", '"1"', "0x1", "1 2", "", "nothing"])
def test_what_is_no_number_in_a_calibration_is_damage(odd):
    rows = [["0.5"] * count for count in (15, 12) * 3]
    rows[3][7] = odd
    data = "\n".join(["Serial", "aria", *map(" ".join, rows)]).encode()
    with pytest.raises(DamagedFileError, match=r"a\.txt, line 6: expected 12"):
        aria.parse_calibration(data, "a.txt")


def test_aria_without_any_calibration_loses_its_cameras_not_the_frames(take_folder, tmp_path):
    shutil.rmtree(take_folder / "ego/aria02/calib")
    sequence = convert_raw(tmp_path)
    assert len(sequence.frame) == 6 and sequence.person == ["aria01", "aria02"]
    assert "aria02_rgb" not in sequence.camera
    assert "no readable ego/aria02/calib" in messages(sequence, "ego_camera", "error")


def test_damaged_detections_are_no_detections(take_folder, tmp_path):
    folder = take_folder / "processed_data/poses2d/cam01/rgb"
    (folder / "00001.npy").write_bytes(b"")
    (folder / "00002.npy").write_bytes(npy(np.array([{"human_name": "aria01"}], dtype=object)))
    (folder / "00003.npy").write_bytes(
        npy(np.array([{"human_name": "aria01", "keypoints": np.zeros((21, 3))}], dtype=object))
    )
    sequence = convert_raw(tmp_path)
    found = sequence.joints_2d_detected[sequence.camera.index("cam01")]
    assert np.isnan(found[:3]).all() and np.isfinite(found[3:]).all()
    assert "3 unreadable files left out" in messages(sequence, "detections", "error")


@pytest.mark.parametrize(
    "path",
    [
        f"{FIT}/00002.npy",
        "processed_data/poses3d/00002.npy",
        "processed_data/poses2d/cam01/rgb/00002.npy",
        f"{WORKPLACE}/colmap_from_aria_transforms.pkl",
    ],
)
def test_take_with_code_in_a_file_is_refused_and_the_code_does_not_run(take_folder, tmp_path, path):
    content = {"aria01": CodeInAPickle(tmp_path / "ran")}
    data = pickle.dumps(content) if path.endswith(".pkl") else npy(content)
    (take_folder / path).write_bytes(data)
    errors = outcomes_with_a_good_take(tmp_path)
    assert path in errors[TAGGING] and "system" in errors[TAGGING] and "nothing was executed" in errors[TAGGING]
    assert errors[GOOD] is None
    assert not (tmp_path / "ran").exists()


def test_take_without_colmap_is_skipped_and_the_others_are_converted(take_folder, tmp_path):
    shutil.rmtree(take_folder / "colmap")
    errors = outcomes_with_a_good_take(tmp_path)
    assert f"{WORKPLACE}/cameras.txt, {WORKPLACE}/images.txt missing" in errors[TAGGING]
    assert errors[GOOD] is None


@pytest.mark.parametrize(
    "path, content, message",
    [
        (f"{WORKPLACE}/cameras.txt", b"1 OPENCV_FISHEYE wide high\n", "cameras.txt, line 1: found"),
        (f"{WORKPLACE}/cameras.txt", b"# nothing\n", "no camera in it"),
        (f"{WORKPLACE}/images.txt", b"\xff\xfe\x00", "images.txt: not a text file"),
        (f"{WORKPLACE}/images.txt", b"1 0 0 0 0 0 0 0 2 cam01/00001.jpg\n\n", "images.txt, line 1"),
        (f"{WORKPLACE}/colmap_from_aria_transforms.pkl", pickle.dumps([1]), "holds list, expected a dictionary"),
        (
            f"{WORKPLACE}/colmap_from_aria_transforms.pkl",
            pickle.dumps({"aria01": np.diag([1.0, 1, -1, 1])}),
            "no usable transform of aria01",
        ),
        ("SIMULATED.json", b"{", "SIMULATED.json is not JSON"),
    ],
)
def test_damage_that_concerns_the_whole_take(take_folder, tmp_path, path, content, message):
    (take_folder / path).write_bytes(content)
    errors = outcomes_with_a_good_take(tmp_path)
    assert message in errors[TAGGING] and errors[GOOD] is None


def test_take_with_no_readable_pose_says_what_the_first_problem_was(take_folder, tmp_path):
    for path in (take_folder / FIT).iterdir():
        path.write_bytes(npy({"aria01": np.zeros((17, 3))}))
    errors = outcomes_with_a_good_take(tmp_path)
    assert f"{FIT}/00001.npy: 'aria01' holds float64 (17, 3), expected numbers (17, 4)" in errors[TAGGING]


def test_empty_take_folder_is_reported(tmp_path):
    (tmp_path / "raw/01_tagging/003_tagging").mkdir(parents=True)
    assert f"{FIT}, ego" in outcomes_with_a_good_take(tmp_path)["01_tagging/003_tagging"]


def test_two_copies_of_a_take(tmp_path):
    for folder in ("02_lego", "02_legoassemble"):
        RawTake().write(tmp_path / "raw" / folder / "001_legoassemble")
    outcomes = dataset.convert(dataset.find_takes(tmp_path / "raw"), tmp_path / "out.h5")
    assert [bool(outcome.error) for outcome in outcomes] == [False, True]
    assert "02_legoassemble/001_legoassemble is a second copy" in outcomes[1].error.replace(os.sep, "/")


def test_nothing_is_written_when_no_take_can_be_converted(take_folder, tmp_path):
    shutil.rmtree(take_folder / FIT)
    with pytest.raises(ConversionError, match=rf"none of 1 sequences.*\n  {TAGGING}: {FIT} missing"):
        dataset.convert(dataset.find_takes(tmp_path / "raw"), tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_existing_output_is_kept_unless_told_otherwise(take_folder, tmp_path):
    out = tmp_path / "out.h5"
    out.write_bytes(b"years of work")
    with pytest.raises(FileExistsError, match="--overwrite"):
        dataset.convert(dataset.find_takes(tmp_path / "raw"), out)
    assert out.read_bytes() == b"years of work"
    dataset.convert(dataset.find_takes(tmp_path / "raw"), out, overwrite=True)
    with schema.open_file(out) as file:
        assert schema.sequence_names(file) == [TAGGING]


def test_raw_folder_that_is_not_there(tmp_path):
    with pytest.raises(dataset.RawDataError) as error:
        dataset.find_takes(tmp_path / "nowhere")
    text = str(error.value)
    for part in (str(tmp_path / "nowhere"), "DOWNLOAD.md", "001_tagging", "tools/simulate.py --out data/raw/egohumans"):
        assert part in text


@pytest.mark.parametrize("level", ["", "01_tagging", TAGGING])
def test_root_scene_and_take_are_accepted(take_folder, tmp_path, level):
    takes = dataset.find_takes(tmp_path / "raw" / level)
    assert [(take.facts.name, take.folder) for take in takes] == [(TAGGING, take_folder)]


@pytest.mark.parametrize(
    "root, better",
    [
        (".", "raw"),
        (f"raw/{TAGGING}/processed_data", f"raw/{TAGGING}"),
        (f"raw/{TAGGING}/ego/aria01/calib", f"raw/{TAGGING}"),
    ],
)
def test_wrong_level_is_recognised(take_folder, tmp_path, root, better):
    with pytest.raises(dataset.RawDataError, match=rf"pass --raw {tmp_path / better}$"):
        dataset.find_takes(tmp_path / root)


def test_folders_that_the_archives_put_above_a_take_are_seen_through(tmp_path):
    deep = tmp_path / "raw/01_tagging/media/rawalk/disk1/rawalk/datasets/ego_exo/camera_ready"
    RawTake().write(deep / TAGGING)
    with pytest.raises(dataset.RawDataError, match=f"pass --raw {deep}$"):
        dataset.find_takes(tmp_path / "raw")


@pytest.mark.parametrize("name", ["images.zip", "README.gz", "notes.json.gz", "001_tagging.tar.gz.aria2", "x.torrent"])
def test_files_of_other_kinds_do_not_say_which_level_is_meant(take_folder, tmp_path, name):
    for folder in (take_folder, tmp_path, take_folder.parent):
        (folder / name).write_bytes(b"")
    for raw in (take_folder, take_folder.parent, tmp_path / "raw"):
        assert [take.folder for take in dataset.find_takes(raw)] == [take_folder]
    with pytest.raises(dataset.RawDataError, match=rf"pass --raw {tmp_path / 'raw'}$"):
        dataset.find_takes(tmp_path)


@pytest.mark.parametrize(
    "name", ["001_tagging.zip", "002_tagging.tar.bz2", "01_tagging-20240131T-002.zip", "003_tagging.gz"]
)
def test_what_is_named_like_a_take_is_found_whatever_its_kind(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "drawings.zip").write_bytes(b"")
    assert [found.path.name for found in dataset.find_takes(tmp_path)] == [name]


def test_a_search_for_misplaced_takes_ends_after_so_many_folders(take_folder, tmp_path, monkeypatch):
    for number in range(100):
        (tmp_path / f"raw/holiday/{number}").mkdir(parents=True)
    takes, opened = dataset.find_takes(tmp_path / "raw"), []
    for name in ("scandir", "listdir"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, call=call: opened.append(path) or call(path))
    monkeypatch.setattr(discovery, "_SEARCH_FOLDERS", 5)
    assert discovery.find_misplaced(tmp_path / "raw", takes, ()) == {}
    assert len(opened) == 5


def test_folder_with_something_else(tmp_path):
    (tmp_path / "holiday").mkdir()
    with pytest.raises(dataset.RawDataError, match=r"no EgoHumans take in .*, which holds holiday"):
        dataset.find_takes(tmp_path)


def test_a_bad_take_leaves_no_trace_in_the_file(take_folder, tmp_path):
    (take_folder / FIT / "00002.npy").write_bytes(npy({"x": CodeInAPickle(tmp_path / "ran")}))
    outcomes_with_a_good_take(tmp_path)
    with schema.open_file(tmp_path / "out.h5") as file:
        assert list(file["01_tagging"]) == ["002_tagging"]


def test_corrupt_image_is_a_finding(take_folder, tmp_path):
    (take_folder / "exo/cam01/images/00001.jpg").write_bytes(b"<html>quota exceeded</html>")
    assert "exo/cam01/images/00001.jpg: no readable image" in messages(convert_raw(tmp_path), "images", "warning")


def test_every_take_is_announced(tmp_path):
    for name in (TAGGING, GOOD):
        RawTake().write(tmp_path / "raw" / name)
    seen = []
    dataset.convert(dataset.find_takes(tmp_path / "raw"), tmp_path / "out.h5", on_take=seen.append)
    assert [(o.name, o.frames, o.error) for o in seen] == [(TAGGING, 6, None), (GOOD, 6, None)]


def test_unreadable_take_is_reported_with_the_kind_of_error(tmp_path, monkeypatch):
    RawTake().write(tmp_path / "raw" / TAGGING)

    def fail(*_):
        raise PermissionError(13, "Permission denied", "00001.npy")

    monkeypatch.setattr(dataset, "read_take", fail)
    with pytest.raises(ConversionError, match=r"PermissionError.*00001\.npy"):
        dataset.convert(dataset.find_takes(tmp_path / "raw"), tmp_path / "out.h5")


def test_findings_of_many_frames_stay_short(tmp_path):
    take = RawTake(120)
    for k in range(2, 121, 2):
        take.fit[k]["aria01"][3, 0] = np.nan
    sequence = convert_take(take, tmp_path)
    finding = next(f for f in sequence.findings if f["severity"] == "error")
    assert finding["frame_count"] == 60 and len(finding["frames"]) == 20 and finding["frames"][0] == [2, 2]
