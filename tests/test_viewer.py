"""The interactive page of a scene: what it carries, and that a browser shows and plays it."""

import base64
import json
import re
import shutil
import subprocess
import zlib

import numpy as np
import pytest
from contract_file import make_sequence

from finepose_mp.skeletons import joint_set
from finepose_mp.viewer import scene_page

JOINTS = joint_set("coco17")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def sequence():
    return make_sequence()


def _data(page: str) -> dict:
    return json.loads(re.search(r"const scene = (\{.*\});\n", page).group(1))


def _positions(scene: dict, layer: int) -> np.ndarray:
    """(T, H, P, J, 3) metres of a packed layer, relative to the page's origin; NaN where missing."""
    packed = scene["layers"][layer]
    differences = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), "<i2")
    shape = (scene["frames"], packed["hypotheses"], len(scene["people"]), len(scene["joints"]), 3)
    millimetres = np.cumsum(differences.reshape(shape), axis=0, dtype=np.int16)
    return np.where(millimetres == -32768, np.nan, millimetres / 1000)


def test_positions_survive_to_the_millimetre_and_gaps_stay_gaps(sequence):
    truth = sequence.joints_3d_world.copy()
    truth[2, 0, 3] = np.nan
    ghosts = np.stack([truth, truth + 0.1])
    scene = _data(scene_page(sequence, JOINTS, {"truth": truth, "hypotheses": ghosts}))
    first, both = _positions(scene, 0)[:, 0], _positions(scene, 1)
    offset = np.nanmean(truth - first, axis=(0, 1, 2))
    np.testing.assert_allclose(first + offset, truth, atol=1.1e-3)
    np.testing.assert_allclose(both[:, 1] - both[:, 0], np.where(np.isnan(truth), np.nan, 0.1), atol=1.1e-3)


def test_ten_minutes_far_from_the_origin_do_not_overflow(sequence):
    scene = _data(scene_page(sequence, JOINTS, {"truth": sequence.joints_3d_world + np.array([500.0, -800.0, 90.0])}))
    moved = _positions(scene, 0)[:, 0]
    bones = [np.linalg.norm(x[..., 5, :] - x[..., 6, :], axis=-1) for x in (moved, sequence.joints_3d_world)]
    np.testing.assert_allclose(*bones, atol=3e-3)


@pytest.mark.parametrize("up", ["+x", "-x", "+y", "-y", "+z", "-z"])
def test_nobody_is_mirrored_whichever_axis_points_up(sequence, up):
    sequence.world_up = up
    scene = _data(scene_page(sequence, JOINTS, {"truth": sequence.joints_3d_world}))
    upright = np.eye(3)[scene["axes"]] * np.array([1, 1, scene["upSign"]])[:, None]
    assert np.linalg.det(upright) == pytest.approx(1)
    assert (upright @ np.eye(3)["xyz".index(up[1])]).tolist() == [0, 0, scene["upSign"]]


def test_names_cannot_break_out_of_the_page(sequence):
    sequence.person = ["</script><script>alert(1)</script>", *sequence.person[1:]]
    sequence.name = "<b>take</b>"
    page = scene_page(sequence, JOINTS, {"truth": sequence.joints_3d_world})
    assert page.count("</script>") == 1
    assert "<b>take" not in page.partition("const scene")[0]


def test_the_page_fetches_nothing(sequence):
    page = scene_page(sequence, JOINTS, {"truth": sequence.joints_3d_world})
    assert not re.search(r"(src|href)=|https?:|fetch\(|import\(", page)


@pytest.mark.parametrize(
    "layers, message",
    [
        ({}, "no joint of anybody in no layer"),
        ({"truth": np.zeros((1, 1, 17, 3))}, "layer truth: expected shape"),
        ({"truth": None}, "no joint of anybody in truth"),
    ],
)
def test_what_cannot_be_shown_is_said(sequence, layers, message):
    layers = {k: np.full_like(sequence.joints_3d_world, np.nan) if v is None else v for k, v in layers.items()}
    with pytest.raises(ValueError, match=message):
        scene_page(sequence, JOINTS, layers)


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium to open the page in")
def test_a_browser_draws_plays_and_hides_people(sequence, tmp_path):
    page = scene_page(sequence, JOINTS, {"truth": sequence.joints_3d_world})
    # Drives the page as a person would, then writes what it saw where the browser prints it.
    script = """<script>
      const wait = ms => new Promise(done => setTimeout(done, ms));
      const painted = () => { const p = pen.getImageData(0, 0, canvas.width, canvas.height).data;
        let n = 0; for (let i = 0; i < p.length; i += 4) if (p[i + 3] && p[i] < 20 && p[i + 2] > 150) n++; return n; };
      (async () => {
        while (!document.body.dataset.ready) await wait(20);
        const before = painted();
        document.querySelector("#people input").click();
        const hidden = painted();
        document.querySelector("#people input").click();
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
        const stepped = frame;
        $("play").click(); const from = drawn, start = performance.now(); await wait(400);
        const rate = (drawn - from) / (performance.now() - start) * 1000;
        document.title = JSON.stringify({ ready: document.body.dataset.ready, before, hidden, stepped, rate });
      })();
    </script></body>"""
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", script))
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run".split()
    command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    result = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120)
    seen = json.loads(re.search(r"<title>(\{.*?\})</title>", result.stdout).group(1).replace("&quot;", '"'))
    assert seen["ready"] == "yes"
    assert seen["before"] > seen["hidden"] + 20
    assert seen["stepped"] == 1
    assert seen["rate"] > 0
