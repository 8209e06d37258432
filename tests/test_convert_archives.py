"""The download as it comes: archives, folders or both give the same file; bad archives are named, the rest arrives."""

import re
import tarfile

import numpy as np
import pytest
from conftest import REPOSITORY
from converted_take import TAGGING
from raw_archive import PREFIX, add, files_of, under, write_archive
from raw_take import CodeInAPickle, RawTake, npy
from small_work import assert_same

from finepose_mp import schema
from finepose_mp.preprocessing.conversion import ConversionError
from finepose_mp.preprocessing.egohumans import catalogue, dataset, discovery
from finepose_mp.preprocessing.egohumans.archives import streamed
from finepose_mp.preprocessing.egohumans.source import TakeError

LEGO = "02_legoassemble/001_legoassemble"
FIT = "processed_data/fit_poses3d"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A take's files by path, with some that nobody needs."""
    folder = RawTake().write(tmp_path_factory.mktemp("take"))
    unneeded = {"processed_data/smpl/00001.npy": b"x" * 5000, "exo/cam01/images/00002.jpg": b"no image" * 9000}
    return files_of(folder) | unneeded | {"notes.txt": b"sunny"}


def convert(folder, **how) -> list:
    return dataset.convert(dataset.find_takes(folder / "raw"), folder / "out.h5", **how)


def errors(outcomes) -> dict[str, str | None]:
    return {outcome.name: outcome.error for outcome in outcomes}


@pytest.fixture(scope="module")
def from_folder(files, tmp_path_factory):
    """The file converted from the unpacked take."""
    folder = tmp_path_factory.mktemp("folder")
    for name, data in under(f"raw/{TAGGING}", files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert errors(convert(folder)) == {TAGGING: None}
    return folder / "out.h5"


@pytest.mark.parametrize(
    "name, prefix",
    [
        ("01_tagging/001_tagging.tar.gz", f"{PREFIX}/01_tagging/001_tagging"),
        ("01_tagging/001_tagging.tgz", "001_tagging"),
        ("001_tagging.tar.gz", "./001_tagging"),
        ("whatever.tar.gz", "a/999_b/01_tagging/001_tagging"),
        ("01_tagging/001_tagging.TAR.GZ", "001_tagging"),
        ("01_tagging/001_tagging.tar (1).gz", "001_tagging"),
        ("01_tagging/001_tagging", "."),
    ],
)
@pytest.mark.parametrize("shuffled", [None, 1])
def test_an_archive_gives_the_same_file_as_its_folder(files, from_folder, tmp_path, name, prefix, shuffled):
    write_archive(tmp_path / "raw" / name, under(prefix, files), shuffled)
    assert errors(convert(tmp_path)) == {TAGGING: None}
    assert_same(tmp_path / "out.h5", from_folder)


def test_an_archive_made_inside_the_take_is_known_by_its_name(files, from_folder, tmp_path):
    write_archive(tmp_path / "raw/001_tagging.tar", files, mode="w")
    convert(tmp_path)
    assert_same(tmp_path / "out.h5", from_folder)


def test_a_single_archive_may_be_named(files, tmp_path):
    path = write_archive(tmp_path / "001_tagging.tar.gz", under("001_tagging", files))
    assert errors(dataset.convert(dataset.find_takes(path), tmp_path / "out.h5")) == {TAGGING: None}


def test_archives_and_folders_mix_and_both_lego_names_are_one(files, tmp_path):
    write_archive(tmp_path / "raw/02_lego/001_legoassemble.tar.gz", under("x/02_legoassemble/001_legoassemble", files))
    write_archive(tmp_path / "raw/02_legoassemble/002_legoassemble.tar.gz", under("002_legoassemble", files))
    RawTake().write(tmp_path / "raw" / TAGGING)
    assert errors(convert(tmp_path)) == {TAGGING: None, LEGO: None, "02_legoassemble/002_legoassemble": None}


def test_archives_of_one_name_in_two_folders(files, tmp_path):
    write_archive(tmp_path / "raw/01_tagging/takes.tar.gz", under("001_tagging", files))
    write_archive(tmp_path / "raw/02_lego/takes.tar.gz", under("001_legoassemble", files))
    (tmp_path / "raw/03_fencing").mkdir()
    (tmp_path / "raw/03_fencing/takes.tar.gz").write_bytes(b"")
    found = errors(convert(tmp_path))
    assert found.pop("03_fencing/takes.tar.gz").endswith("03_fencing/takes.tar.gz: is an empty file; download it again")
    assert found == {TAGGING: None, LEGO: None}


def test_two_archives_put_end_to_end_hold_both_takes(files, tmp_path):
    parts = [
        write_archive(tmp_path / f"{i}.tar.gz", under(f"01_tagging/00{i}_tagging", files)).read_bytes() for i in (1, 2)
    ]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/both.tar.gz").write_bytes(b"".join(parts))
    assert errors(convert(tmp_path)) == {TAGGING: None, "01_tagging/002_tagging": None}


def test_what_macos_puts_beside_files_is_passed_over(files, from_folder, tmp_path):
    beside = {re.sub("([^/]+)$", r"._\1", name): b"\0\5\26\7 Mac OS X" for name in files}
    beside |= {"exo/cam01/images/00000.jpg": b"no frame", "exo/cam01/images/0.jpg": b"nor this"}
    write_archive(tmp_path / "raw/01_tagging/001_tagging.tar.gz", under("001_tagging", beside | files))
    (tmp_path / "raw/01_tagging/._001_tagging.tar.gz").write_bytes(b"\0\5\26\7 Mac OS X")
    (outcome,) = convert(tmp_path)
    assert not [finding for finding in outcome.findings if finding["check"] == "images.unreadable"]
    with schema.open_file(tmp_path / "out.h5") as file, schema.open_file(from_folder) as expected:
        np.testing.assert_array_equal(file[f"{TAGGING}/image_size"], expected[f"{TAGGING}/image_size"])


def test_one_archive_of_a_whole_scene(files, tmp_path):
    takes = under("01_tagging/001_tagging", files) | under("01_tagging/002_tagging", files)
    write_archive(tmp_path / "raw/01_tagging.tar.gz", takes, shuffled=3)
    assert errors(convert(tmp_path)) == {TAGGING: None, "01_tagging/002_tagging": None}


def test_takes_of_the_future_are_read_like_the_others(files, tmp_path):
    write_archive(tmp_path / "raw/08_soccer/001_soccer.tar.gz", under("y/08_soccer/001_soccer", files))
    write_archive(tmp_path / "raw/01_tagging/099_tagging.tar.gz", under("099_tagging", files))
    assert errors(convert(tmp_path)) == {"01_tagging/099_tagging": None, "08_soccer/001_soccer": None}
    with schema.open_file(tmp_path / "out.h5") as file:
        assert schema.read_sequence(file, "08_soccer/001_soccer").scene == "Soccer"


def test_nothing_is_unpacked_and_nothing_stays(files, tmp_path):
    write_archive(tmp_path / "raw/001_tagging.tar.gz", under("001_tagging", files))
    convert(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["001_tagging.tar.gz", "out.h5", "raw"]


def good_and(tmp_path, files, bad: bytes) -> dict[str, str | None]:
    """Errors by name of a sound take and of an archive with the given bytes."""
    write_archive(tmp_path / "raw/01_tagging/002_tagging.tar.gz", under("002_tagging", files))
    (tmp_path / "raw/01_tagging/001_tagging.tar.gz").write_bytes(bad)
    found = errors(convert(tmp_path))
    assert found["01_tagging/002_tagging"] is None
    return found


@pytest.mark.parametrize(
    "bad, message",
    [
        (b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>", "is a web page"),
        (b"", "empty file"),
        (b"\x1f\x8b\x08\x00" + b"garbage" * 100, "damaged"),
    ],
)
def test_what_is_no_archive_is_skipped_by_name(files, tmp_path, bad, message):
    error = good_and(tmp_path, files, bad)[TAGGING]
    assert "001_tagging.tar.gz" in error and message in error and "download it again" in error


def test_a_line_behind_the_end_of_an_archive_costs_nothing(files, from_folder, tmp_path):
    path = write_archive(tmp_path / "raw/001_tagging.tar", under("001_tagging", files), mode="w")
    path.write_bytes(path.read_bytes() + b"\n")
    (outcome,) = convert(tmp_path)
    (finding,) = [finding for finding in outcome.findings if finding["check"] == "archive.rest"]
    assert finding["severity"] == "warning" and f"{path}: its end is followed by 1 bytes" in finding["message"]
    with schema.open_file(tmp_path / "out.h5") as file, schema.open_file(from_folder) as expected:
        converted, sound = schema.read_sequence(file, TAGGING), schema.read_sequence(expected, TAGGING)
    np.testing.assert_array_equal(converted.joints_3d_world, sound.joints_3d_world)


def test_an_archive_without_a_take(files, tmp_path):
    other = write_archive(tmp_path / "other.tar.gz", {"123_music/song.mp3": b"la"})
    assert "no take in it" in good_and(tmp_path, files, other.read_bytes())[TAGGING]


def test_a_gzip_with_a_wrong_byte_is_not_trusted(files, tmp_path):
    data = bytearray(write_archive(tmp_path / "x.tar.gz", under("001_tagging", files)).read_bytes())
    data[len(data) // 2] ^= 1
    assert "damaged" in good_and(tmp_path, files, bytes(data))[TAGGING]


def test_a_cut_archive_is_skipped(files, tmp_path):
    data = write_archive(tmp_path / "x.tar.gz", under("001_tagging", files)).read_bytes()
    assert "ends too early" in good_and(tmp_path, files, data[: len(data) * 2 // 3])[TAGGING]


@pytest.mark.parametrize("shuffled, kept", [(None, 2), (5, 0)])
def test_takes_that_came_complete_before_a_cut_are_kept(files, tmp_path, shuffled, kept):
    takes = [under(f"01_tagging/00{i}_tagging", files) for i in (1, 2, 3)]
    path = write_archive(tmp_path / "raw/scene.tar.gz", takes[0] | takes[1] | takes[2], shuffled)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.9)])
    if not kept:  # members lie in disorder: nobody knows what is absent
        with pytest.raises(ConversionError, match="ends too early"):
            convert(tmp_path)
        return
    outcomes = convert(tmp_path)
    assert [bool(outcome.error) for outcome in outcomes] == [False, False, True]
    assert "scene.tar.gz" in outcomes[2].error and outcomes[2].name == "01_tagging/003_tagging"
    assert any(finding["check"] == "archive.cut" for finding in outcomes[0].findings)


@pytest.mark.parametrize(
    "name, fields, problem",
    [
        ("../../etc/cron.d/x", {}, "leads out of its folder"),
        ("001_tagging/processed_data/fit_poses3d/../../../../x.npy", {}, "leads out of its folder"),
        ("/001_tagging/processed_data/fit_poses3d/00001.npy", {}, "an absolute path"),
        (
            f"001_tagging/{FIT}/00007.npy",
            {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
            "a link to '/etc/passwd'",
        ),
        (f"001_tagging/{FIT}/00007.npy", {"type": tarfile.LNKTYPE, "linkname": "x"}, "a link to 'x'"),
    ],
)
def test_members_that_lead_elsewhere_are_refused_by_name(files, from_folder, tmp_path, name, fields, problem):
    path = tmp_path / "raw/001_tagging.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        add(archive, name, b"", **fields)
        for other, data in under("001_tagging", files).items():
            add(archive, other, data)
    (outcome,) = convert(tmp_path)
    (finding,) = [finding for finding in outcome.findings if finding["check"] == "archive.refused"]
    assert finding["severity"] == "error" and name in finding["message"] and problem in finding["message"]
    with schema.open_file(tmp_path / "out.h5") as file, schema.open_file(from_folder) as expected:
        converted, sound = schema.read_sequence(file, TAGGING), schema.read_sequence(expected, TAGGING)
    np.testing.assert_array_equal(converted.joints_3d_world, sound.joints_3d_world)
    assert not (tmp_path / "etc").exists() and not (tmp_path.parent / "x.npy").exists()


def test_code_in_an_archive_does_not_run(files, tmp_path):
    evil = {f"{FIT}/00003.npy": npy({"aria01": np.array([CodeInAPickle(tmp_path / "ran")], dtype=object)})}
    data = write_archive(tmp_path / "x.tar.gz", under("001_tagging", files | evil)).read_bytes()
    error = good_and(tmp_path, files, data)[TAGGING]
    assert f"{FIT}/00003.npy" in error and "nothing was executed" in error
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_twice_in_an_archive_counts_in_its_last_form(files, from_folder, tmp_path):
    path = tmp_path / "raw/001_tagging.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        add(archive, f"001_tagging/{FIT}/00001.npy", b"an earlier attempt")
        for other, data in under("001_tagging", files).items():
            add(archive, other, data)
    (outcome,) = convert(tmp_path)
    assert [f["message"] for f in outcome.findings if f["check"] == "archive.repeated"] == [
        f"001_tagging.tar.gz holds 1 files twice, first {FIT}/00001.npy; the last copy of each counts"
    ]
    assert outcome.frames == 6


def test_two_sources_of_one_take(files, tmp_path):
    RawTake().write(tmp_path / "raw" / TAGGING)
    write_archive(tmp_path / "raw/01_tagging/001_tagging.tar.gz", under("001_tagging", files))
    write_archive(tmp_path / "raw/zz.tar.gz", under("copy/001_tagging", files))
    outcomes = convert(tmp_path)
    assert [outcome.name for outcome in outcomes] == [TAGGING] * 3
    assert outcomes[0].error is None
    for outcome, name in zip(outcomes[1:], ("001_tagging.tar.gz", "zz.tar.gz"), strict=True):
        assert name in outcome.error and f"a second copy of {TAGGING}" in outcome.error


@pytest.mark.parametrize("left", [[], ["processed_data/poses3d/00001.npy"]])
@pytest.mark.parametrize("name", ["01_tagging/001_tagging.tar.gz", "takes.tar.gz"])
def test_a_folder_that_was_not_unpacked_to_its_end_does_not_hide_its_archive(files, from_folder, tmp_path, left, name):
    folder = tmp_path / "raw" / TAGGING
    for path in (folder / file for file in left):
        path.parent.mkdir(parents=True)
        path.write_bytes(files[left[0]])
    folder.mkdir(parents=True, exist_ok=True)
    path = write_archive(tmp_path / "raw" / name, under("001_tagging", files))
    outcomes = {outcome.source: outcome.error for outcome in convert(tmp_path)}
    assert outcomes[str(path)] is None
    assert "fit_poses3d" in outcomes[str(folder)] and outcomes[str(folder)].endswith(f"{path} was used instead")
    assert_same(tmp_path / "out.h5", from_folder)


def test_a_file_stored_without_its_holes_is_named(files, tmp_path):
    path = tmp_path / "raw/001_tagging.tar"
    path.parent.mkdir()
    holes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9000"}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in under("001_tagging", files).items():
            headers = holes | {"GNU.sparse.name": name} if name.endswith(f"{FIT}/00003.npy") else {}
            stored = name.replace("/00003", "/GNUSparseFile.1/00003") if headers else name
            add(archive, stored, data, pax_headers=headers)
    (outcome,) = convert(tmp_path)
    (finding,) = [finding for finding in outcome.findings if finding["check"] == "archive.refused"]
    assert finding["severity"] == "error" and f"'001_tagging/{FIT}/00003.npy' (a sparse file" in finding["message"]
    assert outcome.frames == 5


def test_a_pipe_where_a_file_should_be_costs_its_frame(files, tmp_path):
    path = tmp_path / "raw/001_tagging.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name, data in under("001_tagging", files).items():
            is_pipe = name.endswith(f"{FIT}/00003.npy")
            add(archive, name, b"" if is_pipe else data, type=tarfile.FIFOTYPE if is_pipe else tarfile.REGTYPE)
    (outcome,) = convert(tmp_path)
    assert outcome.frames == 5 and outcome.error is None
    assert any(f"{FIT}/00003.npy cannot be read (a folder, pipe" in finding["message"] for finding in outcome.findings)


def test_two_copies_of_a_take_in_one_archive(files, tmp_path):
    copies = under("a/001_tagging", files) | under("b/001_tagging", files)
    write_archive(tmp_path / "raw/scene.tar.gz", copies)
    found = convert(tmp_path)
    assert [bool(outcome.error) for outcome in found] == [False, True]
    assert "two takes have the same name" in found[1].error


def test_a_spooled_take_says_what_it_did_not_keep(files, tmp_path):
    path = write_archive(tmp_path / "001_tagging.tar.gz", under("001_tagging", files), shuffled=2)
    with streamed(path, tmp_path) as archive:
        (found,) = archive.takes
        assert "smpl" in found.source.names("processed_data")
        assert found.source.read("exo/cam01/images/00001.jpg", 4) == files["exo/cam01/images/00001.jpg"][:4]
        for passed_over in ("processed_data/smpl/00001.npy", "exo/cam01/images/00002.jpg", "notes.txt"):
            with pytest.raises(TakeError, match="was passed over"):
                found.source.read(passed_over, 4)
        with pytest.raises(FileNotFoundError):
            found.source.read("processed_data/smpl/00002.npy")


HARMONY = """
dataset: harmony4d
licence: ask the authors
citation: Harmony4D
fps: 30
scenes:
  01_hugging:
    suffix: hugging
    title: Hugging
    action: hugging each other
    split: train
    takes: 3
    arias: 2
    exo_cameras: 2
    invalid_arias: {aria02: 1-2}
"""


def test_another_dataset_of_the_layout_is_one_catalogue_away(files, tmp_path):
    path = tmp_path / "harmony.yaml"
    path.write_text(HARMONY)
    known = catalogue.load_catalogue(path)
    write_archive(tmp_path / "raw/01_hugging/001_hugging.tar.gz", under("train/01_hugging/001_hugging", files))
    takes = discovery.find_takes(tmp_path / "raw", known)
    dataset.convert(takes, tmp_path / "out.h5", catalogue=known)
    with schema.open_file(tmp_path / "out.h5") as file:
        sequence = schema.read_sequence(file, "01_hugging/001_hugging")
        assert (file.attrs["dataset"], file.attrs["citation"]) == ("harmony4d", "Harmony4D")
    assert (sequence.scene, sequence.action, sequence.fps) == ("Hugging", "hugging each other", 30)
    assert sequence.person == ["aria01"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("    takes: 3\n", "", r"scenes\.01_hugging\.takes\s+Field required"),
        ("arias: 2", "arrias: 2", r"scenes\.01_hugging\.arrias\s+Extra inputs"),
        ("1-2", "first", r"invalid_arias\.aria02"),
        ("split: train", "split: all", r"'train', 'val' or 'test'"),
        ("dataset: harmony4d", "dataset: [", "is no catalogue of takes"),
    ],
)
def test_a_catalogue_with_a_mistake(tmp_path, old, new, message):
    path = tmp_path / "harmony.yaml"
    path.write_text(HARMONY.replace(old, new))
    with pytest.raises(ValueError, match=rf"(?s)harmony\.yaml.*{message}"):
        catalogue.load_catalogue(path)


def test_reading_without_parsing_reads_what_a_conversion_reads(files, tmp_path):
    folder = RawTake().write(tmp_path / "raw" / TAGGING)
    heads = sum(len(data) for name, data in files_of(folder).items() if name.endswith(".jpg"))
    needed = sum(len(data) for name, data in files_of(folder).items() if not name.endswith(".jpg"))
    assert dataset.read_without_parsing(dataset.find_takes(tmp_path / "raw")[0]) == heads + needed
    path = write_archive(tmp_path / "001_tagging.tar.gz", under("001_tagging", files))
    assert dataset.read_without_parsing(*dataset.find_takes(path)) == sum(map(len, files.values()))


def test_the_catalogue_in_the_documentation_is_one(tmp_path):
    text = (REPOSITORY / "docs/CONVERT.md").read_text()
    (tmp_path / "c.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, flags=re.S)[1])
    take = catalogue.load_catalogue(tmp_path / "c.yaml").take("01_hugging", "002_hugging")
    assert take.known and take.invalid_cameras == ("cam08",) and take.arias == ("aria01", "aria02")
