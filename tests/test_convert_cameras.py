"""Cameras of a converted take against poses and pixels computed by hand."""

import numpy as np
import pytest
from converted_take import convert_take, messages, of_camera
from raw_take import (
    CAM01_POSE,
    CAM01_QUATERNION,
    CAM01_TRANSLATION,
    EGO_LENS,
    EXO_LENS,
    NOSE_PIXEL_IN_ARIA01,
    NOSE_PIXELS_IN_CAM01,
    RawTake,
    rotation_z,
    similarity,
)

from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.egohumans import aria, colmap, rig
from finepose_mp.preprocessing.unpickling import DamagedFileError

MANUAL_TAKE = "01_tagging/008_tagging"  # cam06 is placed by hand there, aria02 invalid


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    return convert_take(RawTake(), tmp_path_factory.mktemp("take"))


def test_cameras_of_a_take(sequence):
    ego = [f"aria0{i}_{lens}" for i in (1, 2) for lens in ("rgb", "left", "right")]
    assert sequence.camera == [*ego, "cam01", "cam02"]
    assert sequence.camera_kind == ["ego_rgb", "ego_slam", "ego_slam"] * 2 + ["exo"] * 2
    assert sequence.camera_wearer == ["aria01"] * 3 + ["aria02"] * 3 + ["", ""]
    assert sequence.camera_model == ["aria_fisheye624"] * 6 + ["opencv_fisheye"] * 2
    np.testing.assert_array_equal(sequence.camera_is_moving, [1] * 6 + [0] * 2)
    sizes = [[1408, 1408], [480, 640], [480, 640]] * 2 + [[3840, 2160], [1920, 1080]]
    np.testing.assert_array_equal(sequence.image_size, sizes)


def test_exo_pose_is_metric_in_the_world_of_aria01(sequence):
    poses = of_camera(sequence, "world_to_camera", "cam01")
    np.testing.assert_allclose(poses, np.broadcast_to(CAM01_POSE, (6, 3, 4)), atol=1e-12)
    centre = -poses[0, :, :3].T @ poses[0, :, 3]
    np.testing.assert_allclose(centre, (-6.812178, 2.200962, -0.25), atol=1e-6)
    np.testing.assert_allclose(poses[0] @ (1, 2, 0.5, 1), (6.866025, -0.75, 3.732051), atol=1e-6)


def test_exo_lens_is_padded_to_the_contract(sequence):
    params = of_camera(sequence, "camera_params", "cam01")
    np.testing.assert_allclose(params[3, :8], EXO_LENS)
    assert np.isnan(params[:, 8:]).all()


def test_ego_pose_of_another_aria_is_composed_scaled_and_upright(sequence):
    pose = of_camera(sequence, "world_to_camera", "aria02_rgb")[0]
    sensor = np.array([[0, -0.939693, 0.342020, 5.381528], [1, 0, 0, -0.497549], [0, 0.342020, 0.939693, 0.469997]])
    upright = np.stack([-sensor[1], sensor[0], sensor[2]])
    np.testing.assert_allclose(pose, upright, atol=1e-6)


@pytest.mark.parametrize("person", NOSE_PIXELS_IN_CAM01)
def test_projection_in_an_exo_camera(sequence, person):
    pixels = of_camera(sequence, "joints_2d_projected", "cam01")[0, sequence.person.index(person), 0]
    np.testing.assert_allclose(pixels, NOSE_PIXELS_IN_CAM01[person], atol=1e-3)


def test_projection_in_an_upright_ego_camera(sequence):
    u_sensor, v_sensor = NOSE_PIXEL_IN_ARIA01
    pixels = of_camera(sequence, "joints_2d_projected", "aria01_rgb")[0, sequence.person.index("aria02"), 0]
    np.testing.assert_allclose(pixels, (1407 - v_sensor, u_sensor), atol=1e-3)
    assert of_camera(sequence, "camera_params", "aria01_rgb")[0, 0] == EGO_LENS[0]


def test_wearer_is_not_in_view_of_the_own_cameras(sequence):
    for k, wearer in enumerate(sequence.camera_wearer):
        if wearer:
            person = sequence.person.index(wearer)
            assert not sequence.in_view[k, :, person].any()
            assert np.isnan(sequence.joints_2d_projected[k, :, person]).all()
    assert of_camera(sequence, "in_view", "aria01_rgb")[:, sequence.person.index("aria02")].any()


def test_pixels_are_given_exactly_where_in_view(sequence):
    is_given = np.isfinite(sequence.joints_2d_projected).all(axis=-1)
    np.testing.assert_array_equal(is_given, sequence.in_view.astype(bool))
    size = sequence.image_size[:, None, None, None]
    inside = (sequence.joints_2d_projected >= 0) & (sequence.joints_2d_projected < size)
    assert inside[is_given].all()


def test_people_behind_a_camera_are_not_in_view(tmp_path):
    take = RawTake()
    for poses in take.fit.values():
        poses["aria02"][:, :3] -= 20 * CAM01_POSE[2, :3]  # along the viewing direction, to the other side
    sequence = convert_take(take, tmp_path)
    seen = of_camera(sequence, "in_view", "cam01")
    assert seen[:, 0].any() and not seen[:, 1].any()


def test_of_several_registered_poses_the_central_one_is_stored_and_the_spread_reported(tmp_path):
    take = RawTake()
    shifts_cm = (0.3, -0.4, 0.0, -0.1, 300.0)  # the last image was registered to the wrong place
    take.images_txt = [image for image in take.images_txt if "cam01" not in image[3]]
    for i, shift in enumerate(shifts_cm):
        x, y, z = CAM01_TRANSLATION
        translation = (x + 0.1 * shift / 100, y, z)  # COLMAP units are a tenth of a metre
        take.images_txt.append((CAM01_QUATERNION, translation, 2, f"cam01/{100 * i + 1:05d}.jpg", ""))
    sequence = convert_take(take, tmp_path)
    np.testing.assert_allclose(of_camera(sequence, "world_to_camera", "cam01")[0], CAM01_POSE, atol=1e-12)
    assert "cam01: 5 registered poses within 300.00 cm and 0.000 degrees" in messages(sequence, "exo_camera", "warning")


def test_names_of_cameras_come_from_their_images_whatever_the_ids(tmp_path):
    take = RawTake()
    take.cameras_txt[1], take.cameras_txt[2] = (7, *take.cameras_txt[1][1:]), (2, *take.cameras_txt[2][1:])
    take.images_txt = [(q, t, {1: 1, 2: 7, 7: 2}[i], name, points) for q, t, i, name, points in take.images_txt]
    take.images_txt.append(((1, 0, 0, 0), (0, 0, 0), 2, "mobile/00001.jpg", "1 2 3"))
    take.images_txt.append(((1, 0, 0, 0), (0, 0, 0), 90, "mobile/00002.jpg", ""))
    take.cameras_txt += [(camera_id, "OPENCV_FISHEYE", 3840, 2160, EXO_LENS) for camera_id in (9, 90)]
    sequence = convert_take(take, tmp_path)
    np.testing.assert_array_equal(of_camera(sequence, "image_size", "cam01"), (3840, 2160))
    assert "COLMAP camera 9 has no registered image" in messages(sequence, "exo_camera", "warning")
    assert "COLMAP camera 90 took the images in mobile" in messages(sequence, "exo_camera", "info")


def test_quaternions_are_normalised(tmp_path):
    take = RawTake()
    take.images_txt[1] = (2 * np.array(CAM01_QUATERNION), *take.images_txt[1][1:])
    pose = of_camera(convert_take(take, tmp_path), "world_to_camera", "cam01")[0]
    np.testing.assert_allclose(pose, CAM01_POSE, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_manual_camera_is_placed_in_the_colmap_frame(tmp_path, scale):
    take = RawTake()
    take.cameras_txt.append((8, "OPENCV_FISHEYE", 3840, 2160, EXO_LENS))
    take.images_txt.append(((1, 0, 0, 0), (9, 9, 9), 8, "cam06/00001.jpg", ""))  # a registration that failed
    by_hand = np.array([[1, 0, 0, 0.2], [0, 0, -1, 0.1], [0, 1, 0, 0.4]])  # Rx(90 degrees), as that of cam01
    take.manual["cam06"] = np.vstack([scale * by_hand, [0, 0, 0, 1]])
    take.image_sizes["exo/cam06"] = (3840, 2160)
    sequence = convert_take(take, tmp_path, MANUAL_TAKE)
    np.testing.assert_allclose(of_camera(sequence, "world_to_camera", "cam06")[0], CAM01_POSE, atol=1e-12)
    assert "pose of cam06 was made by hand" in messages(sequence, "exo_camera", "info")


def test_manual_pose_missing_or_not_called_for(tmp_path):
    take = RawTake()
    take.manual["cam01"] = np.eye(4)
    take.image_sizes["exo/cam06"] = (3840, 2160)
    take.images_txt.append((CAM01_QUATERNION, CAM01_TRANSLATION, 2, "cam06/00001.jpg", ""))
    sequence = convert_take(take, tmp_path, MANUAL_TAKE)
    np.testing.assert_allclose(of_camera(sequence, "world_to_camera", "cam01")[0], CAM01_POSE, atol=1e-12)
    assert "cam01.npy ignored" in messages(sequence, "exo_camera", "warning")
    assert "cam06" not in sequence.camera
    assert "cam06.npy is missing" in messages(sequence, "exo_camera", "error")


def test_invalid_cameras_and_cameras_without_a_folder_are_left_out(tmp_path):
    take = RawTake()
    for camera_id, name in ((8, "cam08"), (9, "cam09")):
        take.cameras_txt.append((camera_id, "OPENCV_FISHEYE", 3840, 2160, EXO_LENS))
        take.images_txt.append((CAM01_QUATERNION, CAM01_TRANSLATION, camera_id, f"{name}/00001.jpg", ""))
    take.image_sizes["exo/cam08"] = (3840, 2160)  # declared invalid in this take
    sequence = convert_take(take, tmp_path, "03_fencing/005_fencing")
    assert [name for name in sequence.camera if name.startswith("cam")] == ["cam01", "cam02"]


def test_without_any_images_the_cameras_are_those_of_colmap(tmp_path):
    take = RawTake()
    take.image_sizes = {}
    sequence = convert_take(take, tmp_path)
    assert sequence.camera[-2:] == ["cam01", "cam02"]
    assert "no image to check the calibrated size with: cam01, cam02" in messages(sequence, "images", "info")


def test_image_size_that_contradicts_the_calibration_is_reported(tmp_path):
    take = RawTake()
    take.image_sizes["exo/cam01"] = (1920, 1080)
    sequence = convert_take(take, tmp_path)
    assert "images of cam01 are 1920x1080" in messages(sequence, "images.size", "warning")


def test_lens_that_nobody_knows_costs_the_camera_only(tmp_path):
    take = RawTake()
    take.cameras_txt[2] = (7, "SIMPLE_RADIAL", 1920, 1080, (950, 960, 540, 0.02))
    sequence = convert_take(take, tmp_path)
    assert "cam01" in sequence.camera and "cam02" not in sequence.camera
    assert "SIMPLE_RADIAL with 4 parameters" in messages(sequence, "exo_camera", "error")


def test_aria_without_a_transform_loses_its_cameras_and_stays_a_person(tmp_path):
    take = RawTake()
    del take.transforms["aria02"]
    sequence = convert_take(take, tmp_path)
    assert sequence.person == ["aria01", "aria02"]
    assert not [name for name in sequence.camera if name.startswith("aria02")]
    assert "cameras of aria02 left out" in messages(sequence, "ego_camera", "error")


def test_arias_that_disagree_on_the_metre_are_reported(tmp_path):
    take = RawTake()
    take.transforms["aria02"] = similarity(0.12, rotation_z(-60), (0.3, 0.2, -0.1))
    assert "by a factor 0.833" in messages(convert_take(take, tmp_path), "transforms", "warning")


def test_calibration_that_changes_from_frame_to_frame_is_kept(tmp_path):
    take = RawTake()
    lenses, poses = take.calibrations["aria01", 4]
    take.calibrations["aria01", 4] = (lenses * [1.01] + 0 * lenses, poses + [[0, 0, 0, 0.7]] * 3)
    sequence = convert_take(take, tmp_path)
    focal = of_camera(sequence, "camera_params", "aria01_rgb")[:, 0]
    np.testing.assert_allclose(focal, 610 * np.where(np.arange(6) == 3, 1.01, 1))
    assert "focal length varies by 6.100 px" in messages(sequence, "ego_camera.drift", "warning")
    assert "aria01's head jumps by up to 1.21 m" in messages(sequence, "ego_camera", "warning")


def test_points_lines_may_be_empty_and_blank_lines_may_follow():
    pose = "3 1 0 0 0 0.1 0.2 0.3 2 cam01/00001.jpg"
    for text in (
        f"# comment\n{pose}\n\n{pose}\n\n",
        f"{pose}\n1 2 -1\n{pose}\n",
        f"{pose}\r\n\r\n{pose}\r\n\r\n\r\n\r\n",
    ):
        assert len(colmap.parse_images(text.encode(), "images.txt")) == 2


def test_images_file_whose_empty_lines_were_dropped_is_damaged():
    pose, points = "1 1 0 0 0 0 0 0 2 cam01/00001.jpg\n", "10.5 20.5 -1 30.5 40.5 7\n"
    with pytest.raises(DamagedFileError, match=r"images\.txt, line 2.*expected 2D points"):
        colmap.parse_images((pose + pose).encode(), "images.txt")
    with pytest.raises(DamagedFileError, match=r"images\.txt, line 3.*expected IMAGE_ID QW"):
        colmap.parse_images((pose + points + points).encode(), "images.txt")


def test_black_corners_of_the_round_aria_image_are_not_in_view():
    params = np.array([610.0, 704.0, 704.0, *[0.0] * 12])
    joints_3d = np.array([[[[0.9, 0.9, 1.0], [2.0, 2.0, 1.0]]]])  # both project into the square image
    camera = Camera("aria_fisheye624", params, (1408, 1408), np.eye(3, 4))
    inside = rig.TakeCamera("aria01_rgb", "ego_rgb", "", camera, "", image_circle=aria.LENSES[0].image_circle)
    square = rig.TakeCamera("aria01_rgb", "ego_rgb", "", camera, "")
    assert rig.project_people(square, joints_3d)[1].tolist() == [[[rig.IN_VIEW, rig.IN_VIEW]]]
    projected, places = rig.project_people(inside, joints_3d)
    assert places.tolist() == [[[rig.IN_VIEW, rig.OUTSIDE_CIRCLE]]]
    assert np.isnan(projected[0, 0, 1]).all()
