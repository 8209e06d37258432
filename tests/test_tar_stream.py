"""Archives read forwards: every member arrives whole, or the archive is named as cut or damaged."""

import gzip
import os
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
from raw_archive import add, write_archive

from finepose_mp.preprocessing.tar_stream import (
    ArchiveCutError,
    ArchiveError,
    ArchiveRestError,
    compressed_stem,
    is_archive_name,
    members,
)

FILES = {
    "a/short.txt": b"hello",
    "a/empty": b"",
    "b/block": bytes(range(256)) * 2,
    "b/" + "long" * 60 + ".bin": b"x" * 1500,
    "c/ünïcödé.txt": b"y" * 513,
}
SMALL_FILES = {f"{i}": bytes([i, 7, i]) * 300 for i in range(20)}


def contents(path) -> dict[str, bytes]:
    return {member.path: member.read() for member in members(path) if member.is_file}


@pytest.mark.parametrize("ending, mode", [(".tar.gz", "w:gz"), (".tar", "w")])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_everything_comes_back_in_order(tmp_path, ending, mode, form):
    path = tmp_path / f"x{ending}"
    with tarfile.open(path, mode, format=form) as archive:
        for name, content in FILES.items():
            add(archive, name, content)
    assert contents(path) == FILES
    assert [member.path for member in members(path)] == list(FILES)


def test_content_may_be_skipped_or_read_in_part(tmp_path):
    path = write_archive(tmp_path / "x.tar.gz", FILES)
    seen = [member.read(4) if i % 2 else b"" for i, member in enumerate(members(path))]
    assert seen == [b"", b"", b"", b"xxxx", b""]


def test_an_archive_is_read_forwards_only(tmp_path):
    data = write_archive(tmp_path / "x.tar.gz", FILES).read_bytes()
    pipe = tmp_path / "pipe.tar.gz"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert contents(pipe) == FILES
    writer.join()


@pytest.mark.parametrize(
    "pack",
    [
        lambda first, second: first + second,
        lambda first, second: gzip.compress(first) + gzip.compress(second),
        lambda first, second: gzip.compress(first + bytes(512 * 50) + second),
        lambda first, second: first + second[: second.rindex(b"z") + 1] + bytes(512),  # a short end mark
    ],
)
def test_archives_put_end_to_end_are_all_read(tmp_path, pack):
    first = write_archive(tmp_path / "a.tar", FILES, mode="w").read_bytes()
    second = write_archive(tmp_path / "b.tar", {"second": b"z" * 512}, mode="w").read_bytes()
    (tmp_path / "x.tar").write_bytes(pack(first, second))
    assert contents(tmp_path / "x.tar") == FILES | {"second": b"z" * 512}


@pytest.mark.parametrize(
    "rest", [b"x", b"garbage" * 1000, bytes(5000) + b"x" * 512, gzip.compress(b"one more", mtime=0)]
)
@pytest.mark.parametrize("compress", [gzip.compress, bytes])
def test_what_is_no_archive_after_the_end_of_one_is_named(tmp_path, rest, compress):
    (tmp_path / "x.tar").write_bytes(compress(write_archive(tmp_path / "a.tar", FILES, mode="w").read_bytes() + rest))
    seen = []
    at, size = (tmp_path / "a.tar").stat().st_size + len(rest) - len(rest.lstrip(b"\0")), len(rest.lstrip(b"\0"))
    with pytest.raises(ArchiveRestError, match=rf"x\.tar: its end is followed by {size} bytes .* at {at}: "):
        for member in members(tmp_path / "x.tar"):
            seen.append(member.path)
    assert seen == list(FILES)


@pytest.mark.parametrize("between", [b"\n", b"x".ljust(512), b"x" * (3 << 20)])
def test_members_behind_something_else_are_not_given_up_silently(tmp_path, between):
    first = write_archive(tmp_path / "a.tar", FILES, mode="w").read_bytes()
    (tmp_path / "x.tar").write_bytes(first + between + first)
    with pytest.raises(ArchiveError, match=r"x\.tar: damaged, .* something else at 10240, then more members") as raised:
        contents(tmp_path / "x.tar")
    assert not isinstance(raised.value, ArchiveRestError)


@pytest.mark.parametrize("compress", [gzip.compress, bytes])
def test_zeros_behind_an_archive_are_read_in_large_pieces(tmp_path, compress):
    data = write_archive(tmp_path / "a.tar", FILES, mode="w").read_bytes() + bytes(8 << 20)
    (tmp_path / "x.tar").write_bytes(compress(data))
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        found = contents(tmp_path / "x.tar")
    finally:
        sys.setprofile(None)
    assert found == FILES and calls < 8000  # of Python's own functions; a call or more a block are 16384


@pytest.mark.parametrize(
    "form", ["--format=pax --sparse-version=1.0", "--format=pax --sparse-version=0.1", "--format=gnu"]
)
def test_files_stored_without_their_holes_are_marked_under_their_own_names(tmp_path, form):
    (tmp_path / "before").write_bytes(b"b")
    (tmp_path / "whole").write_bytes(b"w" * 600)
    with open(tmp_path / "holes", "wb") as file:
        for k in range(40):  # more than fit into the first block of GNU's list of pieces
            file.seek(k * 65536)
            file.write(b"h" * 4096)
    if (tmp_path / "holes").stat().st_blocks * 512 > 40 * 65536 // 2:
        pytest.skip("the disk of the temporary folder keeps no holes")
    command = ["tar", "-cSf", tmp_path / "x.tar", *form.split(), "-C", tmp_path, "before", "holes", "whole"]
    subprocess.run(command, check=True)
    found = [(member.path, member.is_sparse) for member in members(tmp_path / "x.tar")]
    assert found == [("before", False), ("holes", True), ("whole", False)]
    assert [member.read() for member in members(tmp_path / "x.tar") if member.path == "whole"] == [b"w" * 600]


@pytest.mark.parametrize(
    "name",
    ["a.tar", "001_tagging.TAR.GZ", "a.tgz", "a.tar (1).gz", "a (1).tar.gz", "a.tar.gz.1", "a.tgz(2)", "a.tar.gz.part"],
)
def test_names_of_archives(name):
    assert is_archive_name(name) and not is_archive_name(f"._{name}")
    for beside in "aria2 torrent meta4 par2 json html txt md5 sha256 sha512 asc sig".split():
        assert not is_archive_name(f"{name}.{beside}") and compressed_stem(f"{name}.{beside}") is None


@pytest.mark.parametrize("name", ["cameras.txt", "targz", ".tar", "README.gz", "notes.json.gz", "a.zip", "a.tar.bz2"])
def test_names_of_no_archives(name):
    assert not is_archive_name(name)


@pytest.mark.parametrize("ending", ["zip", "gz", "tar.bz2", "tar.xz", "7z", "zip.1", "tar.zst", "ZIP.part", "zip (1)"])
def test_names_of_compressed_files(ending):
    assert compressed_stem(f"01_tagging-2024-002.{ending}") == "01_tagging-2024-002"
    assert compressed_stem(f"._1.{ending}") is None


def test_links_and_folders_say_what_they_are(tmp_path):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "folder", type=tarfile.DIRTYPE)
        add(archive, "soft", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "hard", type=tarfile.LNKTYPE, linkname="a" * 200)
        add(archive, "pipe", type=tarfile.FIFOTYPE)
    found = [(member.path, member.link_to, member.is_file) for member in members(path)]
    assert found == [
        ("folder", None, False), ("soft", "/etc/passwd", False), ("hard", "a" * 200, False), ("pipe", None, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html><body>Quota exceeded</body></html>", "web page"),
        (b"\n\n<HTML>sign in</HTML>" + bytes(600), "web page"),
        (b"PK\x03\x04" + bytes(600), "is a zip file, which is not read; unpack it there or pack it again"),
        (b"BZh91AY&SY" + bytes(600), "is a bzip2 file"),
        (b"\xfd7zXZ\0" + bytes(600), "is an xz file"),
        (b"\0\5\26\7" + bytes(600), "neither a gzip nor a tar.*download it again"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path, content, message):
    path = tmp_path / "001_tagging.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=rf"001_tagging\.tar\.gz: .*{message}"):
        contents(path)


def test_a_cut_archive_gives_what_came_before_the_cut(tmp_path):
    path = write_archive(tmp_path / "x.tar.gz", {f"{i}": bytes([i]) * 2000 for i in range(100)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    seen = {}
    with pytest.raises(ArchiveCutError, match=r"x\.tar\.gz: ends too early"):
        for member in members(path):
            seen[member.path] = member.read()
    assert 0 < len(seen) < 100
    assert all(content == bytes([int(name)]) * 2000 for name, content in seen.items())


@pytest.mark.parametrize("keep", [512, 700, 1024, 3000])
def test_a_tar_that_was_cut_before_it_was_compressed(tmp_path, keep):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(write_archive(tmp_path / "x.tar", FILES, mode="w").read_bytes()[:keep]))
    with pytest.raises(ArchiveCutError, match="ends too early"):
        contents(path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = write_archive(tmp_path / "x.tar", FILES, mode="w")
    data = bytearray(path.read_bytes())
    data[1024 + 100] ^= 0xFF  # in the second header
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"damaged, the header at 1024"):
        contents(path)


def test_a_header_cannot_claim_memory(tmp_path):
    path = tmp_path / "x.tar"
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(ArchiveError, match="claims 1099511627776 bytes"):
        contents(path)


@pytest.mark.parametrize("record", [b"9 path=ab", b"999 path=x\n", b"0 path=x\n", b"x path=x\n", b"7 path\n"])
def test_extended_headers_with_bad_records(tmp_path, record):
    path = tmp_path / "x.tar"
    header = tarfile.TarInfo("PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + bytes(1024))
    with pytest.raises(ArchiveError, match=r"x\.tar: damaged"):
        contents(path)


@pytest.fixture(scope="module")
def gzipped(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("gz") / "x.tar.gz"
    return write_archive(path, SMALL_FILES).read_bytes()


def test_no_damaged_byte_of_a_gzip_goes_unnoticed(gzipped, tmp_path):
    path, rng = tmp_path / "mutated.tar.gz", np.random.default_rng(0)
    named = 0
    for _ in range(1500):
        data = bytearray(gzipped)
        data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        try:
            assert contents(path) == SMALL_FILES  # the time and name in gzip's header are nobody's data
        except ArchiveError as error:
            assert "mutated.tar.gz" in str(error)
            named += 1
    assert named > 1000


def test_a_mutated_tar_ends_or_names_itself(tmp_path):
    sound = write_archive(tmp_path / "x.tar", FILES, mode="w").read_bytes()
    path, rng = tmp_path / "mutated.tar", np.random.default_rng(0)
    named = 0
    for _ in range(1000):
        data = bytearray(sound)
        for _ in range(rng.integers(1, 5)):
            data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(data)
        try:
            contents(path)
        except ArchiveError as error:
            assert "mutated.tar" in str(error)
            named += 1
    assert named > 100


def test_headers_mean_what_they_mean_to_tarfile(tmp_path):
    info = tarfile.TarInfo("folder" * 20 + "/" + "name" * 20)  # in two fields of the header
    info.size = 0o1234567
    sound, path, rng = info.tobuf(tarfile.USTAR_FORMAT), tmp_path / "x.tar", np.random.default_rng(0)
    found = set()
    for _ in range(2000):
        block = bytearray(sound)
        block[rng.choice([0, 124, 130, 135, 156, 262, 345, 499])] = rng.choice(list(b"\0 017-_LZ/"))
        block[148:156] = b"%06o%c " % (sum(block[:148]) + sum(b" " * 8) + sum(block[156:]), rng.choice(list(b"\0 7")))
        path.write_bytes(bytes(block))
        try:
            member = next(members(path))
        except ArchiveCutError:  # a header that belongs to the next one
            continue
        except ArchiveError:
            member = None
        try:
            header = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError):
            header = None
        if header is None or header.size < 0:
            assert member is None
        else:
            assert (member.path, member.is_file) == (header.name, header.isreg())
            assert not member.is_file or member.size == header.size
            found.add((member.path, member.size))
    assert len(found) > 20
