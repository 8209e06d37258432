"""Pictures and animations of scenes: what is drawn, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from contract_file import add_prediction, make_sequence
from PIL import Image, ImageColor

from finepose_mp import visualization
from finepose_mp.skeletons import COCO17
from finepose_mp.visualization import animation


@pytest.fixture(scope="module")
def sequence():
    return make_sequence()


@pytest.fixture(scope="module")
def predicted():
    return add_prediction(make_sequence())


def stage_of(sequence, cameras=(), frames=(0,), images=None):
    layers = visualization.layers_of(sequence)
    return visualization.Stage(sequence, COCO17, layers, list(cameras), list(frames), images)


def segments(line):
    """Pieces (n, 2, 3) of a 3D line that is interrupted after every second point; those that can be seen."""
    points = np.stack(line.get_data_3d(), axis=-1)
    pairs = points.reshape(-1, 3, points.shape[-1])[:, :2]
    return pairs[np.isfinite(pairs).all(axis=(1, 2))]


def lines_of(figure, axes=0, style=None):
    lines = [line for line in figure.axes[axes].lines if line.get_marker() in ("None", None)]
    return [line for line in lines if style is None or line.get_linestyle() == style]


class TestPicture:
    def test_every_visible_bone_of_every_person_is_drawn(self, sequence):
        figure = visualization.scene_figure(sequence, COCO17, 0, [])
        drawn = np.concatenate([segments(line) for line in lines_of(figure, style="-")[: len(sequence.person)]])
        bones = sequence.joints_3d_world[0][:, COCO17.bones].reshape(-1, 2, 3)
        bones = bones[np.isfinite(bones).all(axis=(1, 2))]
        assert len(bones) == len(drawn) > 0
        assert np.abs(drawn[:, None] - bones[None]).max(axis=(2, 3)).min(axis=0).max() < 1e-5

    def test_a_given_prediction_is_drawn_dashed_and_explained(self, sequence):
        prediction = visualization.Prediction(sequence.joints_3d_world[0] + 0.1, "placed at the true root")
        figure = visualization.scene_figure(sequence, COCO17, 0, [], prediction)
        dashed = np.concatenate([segments(line) for line in lines_of(figure, style="--")])
        assert len(dashed) == len(sequence.person) * len(COCO17.bones)
        assert "placed at the true root" in [text.get_text() for text in figure.legends[0].get_texts()]

    def test_views_have_the_cameras_pixels_and_a_title(self, sequence):
        cameras = visualization.cameras_with_most_people(sequence, 0, 2)
        figure = visualization.scene_figure(sequence, COCO17, 0, cameras)
        for axes, name in zip(figure.axes[1:], cameras, strict=True):
            k = sequence.camera.index(name)
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            width, height = sequence.image_size[k]
            assert -0.5 <= left < right <= width - 0.5 and -0.5 <= top < bottom <= height - 0.5
            assert (right - left) / (bottom - top) == pytest.approx(width / height)
            for pixels in (sequence.joints_2d_projected[k, 0], sequence.joints_2d_detected[k, 0]):
                assert np.nanmin(pixels[..., 0]) > left and np.nanmax(pixels[..., 0]) < right
            assert name in axes.get_title()

    def test_people_time_frame_and_units_are_named(self, predicted):
        figure = visualization.scene_figure(predicted, COCO17, 20, ["cam01"])
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert legend[:3] == predicted.person
        assert {"ground truth", "prediction", "hypotheses"} <= set(legend)
        assert "frame 21, 1.00 s" in figure.get_suptitle()
        assert "world frame, metres, +z up" in figure.axes[0].get_title()
        assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("x (m)", "y (m)")
        assert "COCO-17" in figure.get_supxlabel()

    def test_prediction_and_truth_differ_without_colour_and_what_is_inferred_looks_different(self, predicted):
        stage = stage_of(predicted, frames=[0, 31])
        looks = {}
        for frame in (0, 31):  # person 0 is inferred in the second
            stage.show(frame)
            blue = [line for line in lines_of(stage.figure) if line.get_color() == visualization.PERSON_COLOURS[0]]
            truth, prediction = (next(x for x in blue if len(segments(x)) and test(x)) for test in (_solid, _broken))
            looks[frame] = (truth._dash_pattern, prediction._dash_pattern)
        assert looks[0][0] == looks[31][0] != looks[0][1]
        assert looks[31][1] not in looks[0]

    def test_predictions_are_projected_into_the_views(self, predicted):
        k = predicted.camera.index("cam01")
        poses = predicted.joints_3d_world[None, 20].astype(float)
        pixels = visualization.layers.project(predicted, k, 20, poses)[0]
        truth = predicted.joints_2d_projected[k, 20]
        assert (np.isfinite(pixels) == np.isfinite(truth)).all() and np.isfinite(truth).any()
        assert np.nanmax(np.abs(pixels - truth)) < 0.01

    def test_detections_are_joined_to_skeletons_where_there_is_no_truth(self):
        scene = make_sequence(frames=2)
        with_truth = len(lines_of(visualization.scene_figure(scene, COCO17, 0, ["cam01"]), axes=1))
        scene.joints_2d_projected[:] = np.nan
        joined = lines_of(visualization.scene_figure(scene, COCO17, 0, ["cam01"]), axes=1)[with_truth:]
        detected = scene.joints_2d_detected[scene.camera.index("cam01"), 0][:, COCO17.bones]
        assert len(joined) == len(scene.person)
        for line, bones in zip(joined, detected, strict=True):
            pairs = np.stack(line.get_data(), axis=-1).reshape(-1, 3, 2)[:, :2]
            np.testing.assert_array_equal(pairs, bones)

    def test_nobody_is_projected_where_pose_or_place_is_unknown_nor_into_the_own_camera(self, predicted):
        poses = predicted.joints_3d_world[20].astype(float)
        own = visualization.layers.project(predicted, predicted.camera.index("aria01/rgb"), 20, poses)
        assert np.isnan(own[0]).all() and np.isfinite(own[1:]).any()
        lost = make_sequence()
        lost.world_to_camera[-1, 20] = np.nan
        assert np.isnan(visualization.layers.project(lost, len(lost.camera) - 1, 20, poses)).all()
        nowhere = add_prediction(make_sequence())
        nowhere.prediction["root_relative"] = ["aria02"]
        pixels = visualization.layers.project(nowhere, len(lost.camera) - 1, 20, poses)
        assert np.isnan(pixels[1]).all() and np.isfinite(pixels[[0, 2]]).any()

    @pytest.mark.parametrize("up, inverted", [("+z", False), ("-y", True)])
    def test_up_is_up(self, sequence, up, inverted):
        turned = make_sequence(frames=2)
        turned.world_up = up
        figure = visualization.scene_figure(turned, COCO17, 0, [])
        assert figure.axes[0].zaxis_inverted() == inverted

    def test_cameras_that_see_nobody_are_not_chosen(self, sequence):
        seen = sequence.in_view[:, 0].sum(axis=(1, 2))
        chosen = visualization.cameras_with_most_people(sequence, 0, 100)
        assert {sequence.camera.index(name) for name in chosen} == set(np.flatnonzero(seen))

    def test_people_have_different_colours(self):
        assert len(set(visualization.PERSON_COLOURS)) == len(visualization.PERSON_COLOURS) >= 8


def _solid(line):
    return line.get_linestyle() == "-" and line.get_linewidth() > 1


def _broken(line):
    return line.get_linestyle() == "--" and line.get_linewidth() > 1


class TestOddScenes:
    def test_what_does_not_exist_is_named(self, sequence):
        with pytest.raises(ValueError, match="has frames 0 to 59, asked for -1"):
            visualization.scene_figure(sequence, COCO17, -1, [])
        with pytest.raises(ValueError, match=r"has cameras aria01/rgb, .*cam01; not periscope"):
            visualization.scene_figure(sequence, COCO17, 0, ["periscope"])

    def test_a_scene_without_cameras_or_truth(self):
        scene = add_prediction(make_sequence(frames=3, persons=2))
        scene.joints_3d_world[:] = np.nan
        scene.prediction |= {"root_relative": scene.person, "frame": "camera axes, root at origin"}
        for name in ("world_to_camera", "joints_2d_projected", "joints_2d_detected", "in_view", "image_size"):
            setattr(scene, name, getattr(scene, name)[:0])
        scene.camera = scene.camera_kind = scene.camera_model = scene.camera_wearer = []
        frame = visualization.most_crowded_frame(scene)
        assert visualization.cameras_with_most_people(scene, frame, 4) == []
        figure = visualization.scene_figure(scene, COCO17, frame, [])
        assert "camera axes, root at origin; metres" in figure.axes[0].get_title()
        assert "aria01, aria02 are drawn 1.2 m apart: nothing says where they stood" in figure.get_supxlabel()
        with pytest.raises(ValueError, match="has no camera; not cam01"):
            visualization.scene_figure(scene, COCO17, frame, ["cam01"])

    def test_one_frame_one_person_and_nobody(self):
        alone = make_sequence(frames=1, persons=1)
        assert visualization.scene_figure(alone, COCO17, 0, ["cam01"]).axes
        alone.joints_3d_world[:] = np.nan
        figure = visualization.scene_figure(alone, COCO17, 0, [])
        assert "no 3D pose" in [text.get_text() for text in figure.axes[0].texts]

    def test_somebody_without_any_pose_is_named_so(self, sequence):
        scene = make_sequence()
        scene.joints_3d_world[:, 2] = np.nan
        figure = visualization.scene_figure(scene, COCO17, 0, [])
        assert "aria03 (no pose)" in [text.get_text() for text in figure.legends[0].get_texts()]


class TestTime:
    """Of a source that left frames out, or numbers every fifth frame only."""

    def test_the_title_says_when_a_frame_was(self, sequence):
        with_holes = replace(sequence, frame=np.r_[3 : 3 + 10, 103 : 103 + len(sequence.frame) - 10])
        title = visualization.scene_figure(with_holes, COCO17, 10, []).get_suptitle()
        assert f"frame 103, {100 / 20:.2f} s" in title

    def test_pictures_are_held_where_frames_are_left_out(self, sequence):
        with_holes = replace(sequence, frame=np.r_[0:10, 20 : 10 + len(sequence.frame)])
        assert visualization.frame_rate(with_holes) == 20
        assert visualization.pictures(with_holes, range(8, 12)) == [8, 9, *[9] * 10, 10, 11]
        assert visualization.pictures(with_holes, range(4, 14, 2)) == [4, 6, 8, *[8] * 5, 10, 12]
        assert visualization.pictures(sequence, range(4, 14, 3)) == [4, 7, 10, 13]

    def test_every_fifth_frame_is_a_fifth_of_the_rate(self, sequence):
        fifth = replace(sequence, frame=5 * sequence.frame + 2)
        assert visualization.frame_rate(fifth) == 4
        assert visualization.pictures(fifth, range(3, 6)) == [3, 4, 5]

    def test_numbers_that_are_no_times_are_named(self, sequence):
        with pytest.raises(ValueError, match="frame: expected increasing numbers"):
            visualization.pictures(replace(sequence, frame=sequence.frame[::-1]), range(3))
        far = sequence.frame.copy()
        far[-1] = 2_000_000_000
        with pytest.raises(ValueError, match="are 1999999999 pictures, more than 1000000"):
            visualization.pictures(replace(sequence, frame=far), range(1, len(far)))

    def test_a_held_picture_is_drawn_once(self, predicted, tmp_path, monkeypatch):
        stage, drawn = stage_of(predicted), []
        picture = stage.picture
        monkeypatch.setattr(stage, "picture", lambda: drawn.append(1) or picture())
        visualization.write_animation(stage, [0, 0, 0, 5, 5], 10.0, tmp_path / "a.gif")
        with Image.open(tmp_path / "a.gif") as gif:
            assert sum(gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)) == 500
        assert len(drawn) <= 2 + 4  # and those from which the colours are taken


class TestAnimation:
    def test_moved_lines_look_like_lines_drawn_anew(self, predicted):
        """The kept background and the order of drawing change nothing."""
        stage = stage_of(predicted, ["aria01/rgb"], [0, 40])
        stage.show(0)
        stage.picture()
        stage.show(40)
        fresh = stage_of(predicted, ["aria01/rgb"], [0, 40])
        fresh.show(40)
        assert (stage.picture() == fresh.picture()).all()

    def test_a_gif_holds_every_picture_at_its_time(self, predicted, tmp_path):
        frames = [0, 20, 21, 22, 41]
        stage = stage_of(predicted, ["cam01"], frames)
        visualization.write_animation(stage, frames, 12.5, tmp_path / "a.gif")
        with Image.open(tmp_path / "a.gif") as gif:
            assert gif.n_frames == len(frames)
            assert gif.info["loop"] == 0
            for i, frame in enumerate(frames):
                gif.seek(i)
                assert gif.info["duration"] == 80
                stage.show(frame)
                expected = stage.picture().astype(int)
                off = np.abs(np.asarray(gif.convert("RGB")).astype(int) - expected).max(axis=-1)
                assert (off > 60).mean() < 0.002  # of the thin lines' soft edges
                for colour in visualization.PERSON_COLOURS[:3]:
                    assert (np.asarray(gif.convert("RGB")) == ImageColor.getrgb(colour)).all(axis=-1).any()

    def test_rounded_times_add_up(self, predicted, tmp_path):
        stage = stage_of(predicted)
        visualization.write_animation(stage, [0] * 30, 30.0, tmp_path / "a.gif")
        with Image.open(tmp_path / "a.gif") as gif:
            durations = [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)]
        assert sum(durations) == 1000

    def test_mp4(self, predicted, tmp_path):
        ffmpeg = pytest.importorskip("imageio_ffmpeg")
        frames = list(range(0, 24, 2))
        stage = stage_of(predicted, ["cam01"], frames)
        visualization.write_animation(stage, frames, 10.0, tmp_path / "a.mp4")
        reader = ffmpeg.read_frames(str(tmp_path / "a.mp4"))
        about = next(reader)
        pictures = [np.frombuffer(data, np.uint8).reshape(*about["size"][::-1], 3) for data in reader]
        assert (len(pictures), about["fps"]) == (len(frames), 10)
        stage.show(frames[-1])
        assert np.abs(pictures[-1].astype(int) - stage.picture()).mean() < 3

    def test_mp4_without_its_library_says_what_to_install(self, predicted, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
        with pytest.raises(animation.MissingLibraryError, match="pip install imageio-ffmpeg"):
            visualization.write_animation(stage_of(predicted), [0], 10.0, tmp_path / "a.mp4")


class TestImages:
    @pytest.fixture
    def folder(self, tmp_path):
        for place in ("exo/cam01/images", "ego/aria01/images/rgb", "aria02_rgb"):
            (tmp_path / place).mkdir(parents=True)
            Image.new("RGB", (40, 30), "#0000FF").save(tmp_path / place / "00002.png")
        return tmp_path

    @pytest.mark.parametrize("camera", ["cam01", "aria01_rgb", "aria02_rgb"])
    def test_they_are_found_by_camera_and_number(self, folder, sequence, camera):
        images = visualization.Images(folder, sequence, [camera, "aria03_rgb"])
        assert images.missing == ["aria03_rgb"]
        assert images.read(camera, 2)[0, 0].tolist() == [0, 0, 255]
        assert images.read(camera, 3)[0, 0].tolist() == [255, 255, 255]

    def test_the_folder_itself_serves_one_camera(self, tmp_path):
        alone = make_sequence(frames=2, persons=1, exo=0)
        Image.new("RGB", (4, 4)).save(tmp_path / "clip_7.jpg")
        assert visualization.Images(tmp_path, alone, alone.camera).read(alone.camera[0], 7).shape == (4, 4, 3)

    def test_they_lie_behind_the_view(self, folder, sequence):
        images = visualization.Images(folder, sequence, ["cam01"])
        stage = stage_of(sequence, ["cam01"], [0, 1], images)
        bluish = []
        for frame in (0, 1):  # numbered 1 and 2
            stage.show(frame)
            picture = stage.picture().astype(int)
            bluish.append((picture[..., 2] - picture[..., 0] > 150).mean())
        assert bluish[1] > bluish[0] + 0.05

    def test_where_there_are_none_it_is_said_where_they_were_sought(self, tmp_path, sequence):
        with pytest.raises(ValueError, match=r"no images .*/cam01, .*/exo/cam01/images"):
            visualization.Images(tmp_path, sequence, ["cam01"])
