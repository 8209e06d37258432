"""The interactive page of a scene: what it carries, and that a browser shows and plays it."""

import base64
import json
import re
import zlib

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from contract_file import add_prediction, make_sequence

from finepose_mp.skeletons import joint_set
from finepose_mp.viewer import scene_page
from finepose_mp.visualization import layer

JOINTS = joint_set("coco17")


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


def _page_of(sequence, **layers):
    return scene_page(sequence, JOINTS, [layer(name, poses) for name, poses in layers.items()])


def test_positions_survive_to_the_millimetre_and_gaps_stay_gaps(sequence):
    truth = sequence.joints_3d_world.copy()
    truth[2, 0, 3] = np.nan
    scene = _data(_page_of(sequence, truth=truth, ghosts=np.stack([truth, truth + 0.1])))
    first, both = _positions(scene, 0)[:, 0], _positions(scene, 1)
    offset = np.nanmean(truth - first, axis=(0, 1, 2))
    np.testing.assert_allclose(first + offset, truth, atol=1.1e-3)
    np.testing.assert_allclose(both[:, 1] - both[:, 0], np.where(np.isnan(truth), np.nan, 0.1), atol=1.1e-3)


def test_a_part_of_the_frames_keeps_its_numbers_and_its_time(sequence):
    whole, part = (_data(scene_page(sequence, JOINTS, frames=frames)) for frames in (None, range(10, 40, 5)))
    assert part["frameNumbers"] == whole["frameNumbers"][10:40:5]
    assert part["seconds"] == whole["seconds"][10:40:5]
    assert part["fps"] == whole["fps"] / 5
    moved = _positions(part, 0) - _positions(whole, 0)[10:40:5]
    assert (np.isnan(moved) == np.isnan(sequence.joints_3d_world[10:40:5, None])).all()
    assert np.nanmax(np.abs(moved - np.nanmean(moved, axis=(0, 1, 2, 3)))) < 2e-3  # the origin is that of what is shown
    poses = [np.frombuffer(zlib.decompress(base64.b64decode(s["cameras"][0]["data"])), "<f4") for s in (whole, part)]
    turned = [each.reshape(-1, 3, 4)[..., :3] for each in poses]
    np.testing.assert_array_equal(turned[1], turned[0][10:40:5])


def test_time_goes_by_the_frames_numbers(sequence):
    sequence.frame = np.r_[1:31, 101:131]
    scene = _data(scene_page(sequence, JOINTS))
    assert scene["fps"] == 20
    assert [scene["seconds"][t] for t in (0, 29, 30, 59)] == [0, 1.45, 5, 6.45]
    sequence.frame = 5 * np.arange(60)
    every_fifth = _data(scene_page(sequence, JOINTS, frames=range(0, 60, 2)))
    assert (every_fifth["fps"], every_fifth["seconds"][1]) == (2, 0.5)


def test_ten_minutes_far_from_the_origin_do_not_overflow(sequence):
    scene = _data(_page_of(sequence, truth=sequence.joints_3d_world + np.array([500.0, -800.0, 90.0])))
    moved = _positions(scene, 0)[:, 0]
    bones = [np.linalg.norm(x[..., 5, :] - x[..., 6, :], axis=-1) for x in (moved, sequence.joints_3d_world)]
    np.testing.assert_allclose(*bones, atol=3e-3)


@pytest.mark.parametrize("up", ["+x", "-x", "+y", "-y", "+z", "-z"])
def test_nobody_is_mirrored_whichever_axis_points_up(sequence, up):
    sequence.world_up = up
    scene = _data(scene_page(sequence, JOINTS))
    upright = np.eye(3)[scene["axes"]] * np.array([1, 1, scene["upSign"]])[:, None]
    assert np.linalg.det(upright) == pytest.approx(1)
    assert (upright @ np.eye(3)["xyz".index(up[1])]).tolist() == [0, 0, scene["upSign"]]


def test_names_cannot_break_out_of_the_page(sequence):
    sequence.person = ["</script><script>alert(1)</script>", *sequence.person[1:]]
    sequence.name = "<b>take</b>"
    page = scene_page(sequence, JOINTS)
    assert page.count("</script>") == 1
    assert "<b>take" not in page.partition("const scene")[0]


def test_the_page_fetches_nothing(sequence):
    page = scene_page(sequence, JOINTS)
    assert not re.search(r"(src|href)=|https?:|fetch\(|import\(", page)


@pytest.mark.parametrize(
    "layers, message",
    [
        ({}, "no joint of anybody in any layer"),
        ({"truth": np.zeros((1, 1, 17, 3))}, "layer truth: expected shape"),
        ({"truth": None}, "no joint of anybody in truth"),
    ],
)
def test_what_cannot_be_shown_is_said(sequence, layers, message):
    layers = {k: np.full_like(sequence.joints_3d_world, np.nan) if v is None else v for k, v in layers.items()}
    with pytest.raises(ValueError, match=message):
        _page_of(sequence, **layers)


class TestPrediction:
    @pytest.fixture
    def scene(self, sequence):
        return _data(scene_page(add_prediction(sequence), JOINTS))

    def test_it_stands_beside_the_truth_with_its_hypotheses(self, scene, sequence):
        layers = {each["name"]: each for each in scene["layers"]}
        assert {name: (each["dashed"], each["hypotheses"]) for name, each in layers.items()} == {
            "ground truth": (False, 1),
            "prediction": (True, 1),
            "hypotheses": (True, 3),
        }
        status = np.frombuffer(zlib.decompress(base64.b64decode(layers["prediction"]["status"])), np.uint8)
        assert (status == sequence.predicted_status.ravel()).all()
        assert set(status) == {0, 1, 2}
        spread = np.frombuffer(zlib.decompress(base64.b64decode(layers["prediction"]["spread"])), "<u2")
        assert spread == pytest.approx(np.nan_to_num(sequence.predicted_spread).ravel() * 1000, abs=0.51)

    def test_what_predicted_and_what_was_assumed_is_said(self, scene, sequence):
        assert scene["prediction"] == "model runs/demo, checkpoint best, hypotheses 3, sampling steps 2"
        assert scene["assumed"] == sequence.prediction["assumed"]

    def test_people_without_a_place_stand_apart_and_it_is_said(self, sequence):
        predicted = add_prediction(sequence)
        predicted.joints_3d_world[:] = np.nan
        poses = predicted.predicted_3d_world
        poses -= JOINTS.root(poses)[..., None, :]
        predicted.prediction |= {"root_relative": sequence.person, "frame": "camera axes, root at origin"}
        scene = _data(scene_page(predicted, JOINTS))
        roots = JOINTS.root(_positions(scene, 0)[:, 0])
        apart = np.linalg.norm(roots[:, 0] - roots[:, 1], axis=-1)
        assert np.nanmin(apart) > 1
        assert "camera axes, root at origin" in scene["frameNote"]
        assert any("aria01, aria02, aria03 are drawn 1.2 m apart" in sentence for sentence in scene["assumed"])


_READY = (
    "(async () => { while (!document.body.dataset.ready) await new Promise(d => setTimeout(d, 10)); "
    "return document.body.dataset.ready; })()"
)
# Pixels of aria01's colour on the canvas.
_PAINTED = """(() => { const p = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  let n = 0; for (let i = 0; i < p.length; i += 4) if (p[i + 3] && p[i] < 20 && p[i + 2] > 150) n++; return n; })()"""


def _box(section: str, text: str) -> str:
    return f"[...document.querySelectorAll('#{section} label')].find(l => l.textContent.includes('{text}')).click()"


@pytest.fixture(scope="module")
def large():
    """A scene of the size that pages are made for: 4 people, 600 frames, 4 fixed cameras (and 4 worn), 5 hypotheses."""
    return add_prediction(make_sequence(frames=600, persons=4, exo=4), hypotheses=5)


@pytest.fixture(scope="module")
def page(large, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "scene.html"
    path.write_text(scene_page(large, JOINTS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(page):
    with Browser(page, page.parent) as browser:
        assert browser.evaluate(_READY) == "yes"
        yield browser


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium to open the page in")
class TestInABrowser:
    def test_it_is_small_enough_to_send(self, page):
        assert page.stat().st_size < 3_000_000

    def test_a_person_can_be_hidden(self, browser):
        everything = browser.evaluate(_PAINTED)
        browser.evaluate(_box("people", "aria01"))
        assert browser.evaluate(_PAINTED) < everything / 2
        browser.evaluate(_box("people", "aria01"))
        assert browser.evaluate(_PAINTED) == everything

    @pytest.mark.parametrize("box", ["ground truth", "prediction", "hypotheses", "spread"])
    def test_a_layer_can_be_hidden_and_shown(self, browser, box):
        before = browser.evaluate("canvas.toDataURL()")
        browser.evaluate(_box("layers", box))
        assert browser.evaluate("canvas.toDataURL()") != before
        browser.evaluate(_box("layers", box))
        assert browser.evaluate("canvas.toDataURL()") == before

    def test_seen_inferred_and_missing_look_different_and_are_said(self, browser, large):
        person = 1
        styles, words = set(), []
        for status in (1, 2, 0):
            frames = np.flatnonzero(large.predicted_status[:, person] == status)
            frame = int(frames[len(frames) // 2])
            browser.evaluate(f"show({frame})")
            words.append(browser.evaluate(f"$('state{person}').textContent"))
            styles.add(browser.evaluate(f"JSON.stringify(styleOf(mainLayer, {status}))"))
            # A row of the strip, seven pixels high, at the middle of the frame's place in time.
            x = f"Math.floor({frame + 0.5} / {len(large.frame)} * painted.width)"
            column = browser.evaluate(
                f"[...painted.getContext('2d').getImageData({x}, {7 * person}, 1, 5).data].filter((v, i) => i % 4 == 3)"
            )
            assert sum(value > 0 for value in column) == {1: 5, 2: 2, 0: 0}[status]
        assert words[0].startswith("seen, ±") and words[1].startswith("inferred, ±") and words[2] == "no pose"
        assert len(styles) == 2 + (browser.evaluate("JSON.stringify(styleOf(mainLayer, 0))") not in styles)

    def test_time_can_be_stepped_scrubbed_and_played(self, browser):
        press = "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }))"
        assert browser.evaluate(f"show(7); {press}; frame") == 8
        assert browser.evaluate("$('scrub').value = 300; $('scrub').oninput(); $('time').value") == "frame 301, 15.00 s"
        before = browser.evaluate("$('play').click(); drawn")
        wait = f"const wait = () => drawn > {before + 5} || ++turns > 600 ? done(drawn) : setTimeout(wait, 50); wait()"
        after = browser.evaluate(f"new Promise(done => {{ let turns = 0; {wait} }})")
        browser.evaluate("$('play').click()")
        assert after > before + 5

    def test_frames_that_are_left_out_take_their_time(self, browser):
        """Six milliseconds before frame 7 is due, and after it; the clock of the page is set, not waited for."""
        at = "playing = true; frame = 0; clock = 0; tick({}); playing = false; frame"
        late = browser.evaluate("scene.seconds = scene.seconds.map((s, i) => i < 7 ? s : s + 10); scene.seconds[7]")
        assert late == pytest.approx(10 + 7 / 20)
        assert browser.evaluate(at.format(1000 * late - 6)) == 6
        assert browser.evaluate(at.format(1000 * late + 6)) == 7

    def test_every_frame_is_drawn_and_what_one_costs_is_printed(self, browser):
        """Drawn by the processor; `pytest -rP` shows the cost, which decides nothing."""
        times, pictures = browser.evaluate("""(() => { const times = [], pictures = new Set();
          for (let i = 0; i < 60; i++) { const start = performance.now();
            show(i * 10); pen.getImageData(0, 0, 1, 1); times.push(performance.now() - start);
            pictures.add(canvas.toDataURL()); }
          return [times, pictures.size]; })()""")
        print(f"a frame of the page: {np.median(times):.1f} ms (median of {len(times)}), {max(times):.1f} ms at most")
        assert pictures == len(times) == 60

    def test_what_was_assumed_can_be_read(self, browser, large):
        assert browser.evaluate("$('assumed').innerText") == "\n".join(large.prediction["assumed"])
        assert "runs/demo" in browser.evaluate("$('prediction').innerText")
