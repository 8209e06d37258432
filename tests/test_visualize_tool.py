"""tools/visualize.py: every kind of output from one scene, what docs/VISUALIZE.md shows, and what cannot be done."""

import importlib.util
import re
import shlex
import shutil

import numpy as np
import pytest
from conftest import REPOSITORY
from contract_file import add_prediction, make_sequence, write_contract_file
from PIL import Image

from finepose_mp import schema

PAGE = (REPOSITORY / "docs/VISUALIZE.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set, a predicted scene under the name of the documentation, and a file without any sequence."""
    place = tmp_path_factory.mktemp("visualize")
    write_contract_file(place / "dataset.h5", takes_per_scene=1, frames=8)
    with schema.create(place / "empty.h5", "made-up", "coco17", licence="none", citation="none"):
        pass
    with schema.create(place / "tagging_scene.h5", "made-up", "coco17", licence="none", citation="none") as file:
        schema.write_sequence(file, add_prediction(make_sequence(name="01_tagging/001_tagging", frames=8)))
    return place


@pytest.fixture
def show(folder, monkeypatch, capsys):
    """Runs the tool in that folder; returns exit status, output and errors."""
    path = REPOSITORY / "tools/visualize.py"
    specification = importlib.util.spec_from_file_location("visualize", path)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    monkeypatch.chdir(folder)

    def run(arguments):
        monkeypatch.setattr("sys.argv", ["visualize.py", *shlex.split(arguments)])
        status = tool.main()
        return status, *capsys.readouterr()

    return run


BEGINNINGS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml", "gif": b"GIF89a", "html": b"<!doctype html>"}


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_the_suffix_decides_what_is_written(show, folder, suffix):
    status, said, errors = show(f"tagging_scene.h5 --out new/scene.{suffix} --cameras cam01")
    assert (status, errors) == (0, "")
    assert said.startswith(f"new/scene.{suffix}: 01_tagging/001_tagging, ")
    assert (folder / f"new/scene.{suffix}").read_bytes().startswith(BEGINNINGS[suffix])
    assert [path.name for path in (folder / "new").glob(".*")] == []


def test_frames_and_rate_of_an_animation(show, folder):
    """Without a step, 20 frames a second are thinned to the most that a GIF takes, in the time they took."""
    for options, count, duration in (("", 4, 100), ("--frames 2:20:3", 2, 150), ("--frames 1:4:1 --fps 5", 3, 200)):
        assert show(f"tagging_scene.h5 --out a.gif --overwrite --cameras {options}")[0] == 0
        with Image.open(folder / "a.gif") as gif:
            assert (gif.n_frames, gif.info["duration"]) == (count, duration)


def test_a_film_of_frames_with_holes_takes_the_time_they_took(show, folder):
    sequence = make_sequence(name="holes", frames=8)
    sequence.frame = np.r_[0:4, 14:18]
    with schema.create(folder / "holes.h5", "made-up", "coco17", licence="", citation="", overwrite=True) as file:
        schema.write_sequence(file, sequence)
    status, said, _ = show("holes.h5 --out holes.gif --cameras")
    assert status == 0 and "9 pictures, 10 a second" in said
    with Image.open(folder / "holes.gif") as gif:
        assert sum(gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)) == 900


def test_missing_images_are_said(show, folder):
    (folder / "take/cam01").mkdir(parents=True)
    Image.new("RGB", (8, 6), "red").save(folder / "take/cam01/00001.jpg")
    said = show("tagging_scene.h5 --out overlay.png --frame 0 --cameras cam01 aria01/rgb --images take")[1]
    assert said.endswith("views of cam01, aria01/rgb (no images of aria01/rgb)\n")


def test_nothing_is_overwritten_unasked(show, folder):
    (folder / "mine.png").write_text("mine")
    status, _, errors = show("dataset.h5 --out mine.png")
    assert status == 2 and "mine.png exists" in errors and "--overwrite" in errors
    assert (folder / "mine.png").read_text() == "mine"
    assert show("dataset.h5 --out mine.png --overwrite")[0] == 0
    assert (folder / "mine.png").read_bytes().startswith(BEGINNINGS["png"])


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("nothing.h5", "nothing.h5: no such file"),
        ("empty.h5", "empty.h5 holds no sequence"),
        ("dataset.h5 --sequence x", "no sequence 'x'; it has 01_basketball/001_basketball"),
        ("dataset.h5 --cameras periscope", "has cameras aria01/rgb, aria02/rgb, aria03/rgb, cam01; not periscope"),
        ("dataset.h5 --cameras periscope --out no.gif", "not periscope"),
        ("dataset.h5 --frame 8", "has frames 0 to 7, asked for 8"),
        ("dataset.h5 --frames 8: --out no.html", "has frames 0 to 7, none in --frames 8:"),
        ("dataset.h5 --frames 5:5 --out no.gif", "none in --frames 5:5"),
        ("dataset.h5 --frames ten --out no.gif", "--frames ten: expected START:STOP"),
        ("dataset.h5 --frames=-5: --out no.gif", "--frames -5:: expected START:STOP"),
        ("dataset.h5 --fps 0 --out no.gif", "--fps 0: expected more than 0"),
        ("dataset.h5 --frames 10 --out no.png", "--frames 10: .png shows one moment; choose it with --frame"),
        ("dataset.h5 --frame 3 --out no.gif", "--frame 3: .gif shows many; choose them with --frames START:STOP"),
        ("dataset.h5 --frame 3 --out no.html", "choose them with --frames START:STOP"),
        ("dataset.h5 --frame 3 --rerun no.rrd", "choose them with --frames START:STOP"),
        ("dataset.h5 --out no.tiff", "one of .png, .pdf, .svg, .gif, .mp4, .html"),
        ("dataset.h5 --out no", "one of .png, .pdf, .svg, .gif, .mp4, .html"),
        ("dataset.h5 --out no.rrd", "--rerun FILE.rrd"),
        ("dataset.h5 --rerun no.html", "--rerun no.html: its suffix should be .rrd"),
        ("dataset.h5 --out dataset.h5/no.png", "dataset.h5"),
        ("dataset.h5 --images nowhere", "no images (NUMBER.jpg or .png) in any of nowhere/"),
    ],
)
def test_what_cannot_be_done_is_said(show, folder, arguments, said):
    arguments += "" if "--out" in arguments or "--rerun" in arguments else " --out no.png"
    before = set(folder.rglob("*"))
    status, printed, errors = show(arguments)
    assert (status, printed) == (2, "")
    assert errors.startswith("visualize: ") and said in errors
    assert set(folder.rglob("*")) == before


def test_a_page_without_any_pose_is_not_written(show, folder):
    nobody = make_sequence(name="nobody", frames=3)
    nobody.joints_3d_world[:] = np.nan
    with schema.create(folder / "nobody.h5", "made-up", "coco17", licence="", citation="", overwrite=True) as file:
        schema.write_sequence(file, nobody)
    status, _, errors = show("nobody.h5 --out nobody.html")
    assert status == 2 and "nobody: no joint of anybody" in errors
    assert show("nobody.h5 --out nobody.png")[0] == 0  # its keypoints are there


def test_the_recording_of_the_page_is_written(show, folder):
    pytest.importorskip("rerun", reason="rerun-sdk is a large optional library")
    (command,) = re.findall(r"^\$ python tools/visualize\.py (.*)$", PAGE, flags=re.M)
    status, said, errors = show(command)
    assert (status, errors) == (0, "")
    assert f"$ {said.strip().split('`')[1]}\n" in PAGE  # how to open it


def test_the_python_of_the_page_runs(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "tagging_scene.h5", tmp_path)
    variables = {}
    exec(compile(re.search(r"```python\n(.*?)```", PAGE, flags=re.S)[1], "docs/VISUALIZE.md", "exec"), variables)
    assert (tmp_path / "moment.pdf").stat().st_size > 1000
    assert "01_tagging/001_tagging" in variables["page"]


def test_the_page_knows_every_suffix(show):
    with pytest.raises(SystemExit):
        show("--help")
    for suffix in BEGINNINGS:
        assert f"`.{suffix}`" in PAGE
