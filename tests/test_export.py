"""What is exported reads back, by other means than what wrote it, to the poses that went in."""

import csv
import json
import struct
from dataclasses import replace

import h5py
import numpy as np
import pytest
from bvh_reader import read_bvh
from contract_file import make_sequence
from scipy.spatial.transform import Rotation

from finepose_mp import schema, variables
from finepose_mp.export import ExportError, Poses, export_poses, fit_rig, load_poses
from finepose_mp.skeletons import JOINT_SETS, joint_set

CM = 0.01


def write_file(path, sequence, **variables):
    """A file of the contract; `variables` are further ones as (dims, array)."""
    with schema.create(path, "made-up", "coco17", licence="none", citation="none", overwrite=True) as file:
        schema.write_sequence(file, sequence)
        group = file[sequence.name]
        for name, (dims, array) in variables.items():
            data = group.create_dataset(name, data=array)
            for axis, dim in enumerate(dims.split()):
                scale = group[dim] if dim in group else file.get(dim)
                if scale is None:
                    scale = group.create_dataset(dim, data=np.arange(array.shape[axis]))
                    scale.make_scale(dim)
                data.dims[axis].attach_scale(scale)
    return path


@pytest.fixture(scope="module")
def sequence():
    return make_sequence(name="hall/take 1", frames=40, persons=3, exo=1)


@pytest.fixture(scope="module")
def poses(sequence, tmp_path_factory):
    return load_poses(write_file(tmp_path_factory.mktemp("export") / "scene.h5", sequence))


def rigid_motion(joints, frames=25, seed=0):
    """One person (T, J, 3), +y up, whose bones keep their length: forward kinematics by chance turns of the body.

    Both hips turn together, and so do both shoulders, so that the middles that a rig may add keep their distances too.
    """
    random = np.random.default_rng(seed)
    rig = fit_rig(random.normal(0, 0.3, (1, len(joints), 3)), joints)
    clock = np.linspace(0, 3, frames)[:, None]
    together: dict[str, np.ndarray] = {}
    rotations = []
    for bone in rig.bones:
        key = bone.name.replace("right", "left") if "_to_" in bone.name else bone.name
        turn = together.setdefault(key, random.normal(0, 0.4, 3))
        rotations.append(Rotation.from_rotvec(np.sin(clock + turn[0]) * turn))
    moving = type(rig)(rig.bones, np.cumsum(random.normal(0, 0.02, (frames, 3)), axis=0), rotations)
    places = moving.joint_positions()
    return np.stack([places[name] for name in joints.joints], axis=1)


def alone(points, joints, up="+y"):
    """One person as poses to export."""
    return Poses(points[:, None], np.arange(len(points)), 25.0, ["anna"], joints, up, "lab", "made", "world")


class TestBvh:
    @pytest.mark.parametrize("name", ["h36m17", "mpi17", "coco17", "body25", "halpe26", "mpii16", "blazepose33"])
    def test_forward_kinematics_gives_the_joints_back(self, tmp_path, name):
        """Within a millimetre where bones keep their length; middles of hips and shoulders included."""
        joints = joint_set(name)
        points = rigid_motion(joints)
        export_poses(alone(points, joints), tmp_path, ["bvh"])
        places, frame_time = read_bvh(tmp_path / "lab_anna.bvh")
        for j, joint in enumerate(joints.joints):
            assert np.linalg.norm(places[joint] - points[:, j], axis=-1).max() < 0.001, joint
        assert frame_time == pytest.approx(1 / 25)

    def test_rest_pose_stands_facing_z_with_the_left_at_plus_x(self, tmp_path, poses):
        export_poses(poses, tmp_path, ["bvh"])
        rest, _ = read_bvh(tmp_path / "hall_take_1_aria01.bvh", at_rest=True)
        assert rest["left_wrist"][0] > 0.4 > -0.4 > rest["right_wrist"][0]
        assert rest["left_ankle"][1] < -0.6
        assert rest["nose"][2] > 0.05

    def test_twist_is_zero(self):
        """Every joint turns about an axis at right angles to its bone at rest."""
        joints = joint_set("coco17")
        rig = fit_rig(rigid_motion(joints), joints)
        for b, bone in enumerate(rig.bones):
            if bone.parent >= 0 and bone.turns_for >= 0:
                along = rig.bones[bone.turns_for].offset
                turn = rig.rotations[b].as_rotvec()
                assert turn @ along == pytest.approx(np.zeros(len(turn)), abs=1e-7)

    def test_real_motion_is_followed_and_the_distance_said(self, tmp_path, poses):
        export_poses(poses, tmp_path, ["bvh"])
        about = json.loads((tmp_path / "hall_take_1_export.json").read_text())["bvh"]
        places, _ = read_bvh(tmp_path / "hall_take_1_aria02.bvh")
        p = poses.person.index("aria02")
        truth = poses.points_y_up[:, p]
        error = np.linalg.norm(np.stack([places[n] for n in poses.joints.joints], axis=1) - truth, axis=-1)
        assert np.nanmax(error) * 1000 == pytest.approx(about["aria02"]["distance_from_joints_mm"]["largest"], abs=0.1)
        assert about["aria02"]["joints_filled_in"] == np.isnan(truth[..., 0]).sum() > 0
        assert about["aria01"]["joints_filled_in"] == 0

    def test_a_bone_that_turns_right_round_does_not_break(self, tmp_path):
        joints = joint_set("h36m17")
        points = np.repeat(rigid_motion(joints, frames=1), 3, axis=0)
        elbow, wrist = joints.index("left_elbow"), joints.index("left_wrist")
        points[1, wrist] = 2 * points[0, elbow] - points[0, wrist]
        export_poses(alone(points, joints), tmp_path, ["bvh"])
        places, _ = read_bvh(tmp_path / "lab_anna.bvh")
        assert places["left_wrist"] == pytest.approx(points[:, wrist], abs=1e-3)

    def test_joints_that_are_never_there_sit_on_their_parent(self, tmp_path):
        joints = joint_set("h36m17")
        points = rigid_motion(joints)
        points[:, joints.index("head_top")] = np.nan
        export_poses(alone(points, joints), tmp_path, ["bvh"])
        places, _ = read_bvh(tmp_path / "lab_anna.bvh")
        assert places["head_top"] == pytest.approx(places["head"])

    def test_without_hips_there_is_no_root(self, tmp_path, poses):
        points = poses.points.copy()
        points[:, 0, 11:13] = np.nan
        export_poses(Poses(**{**vars(poses), "points": points}), tmp_path, ["bvh"])
        assert sorted(path.name for path in tmp_path.glob("*.bvh")) == [
            "hall_take_1_aria02.bvh",
            "hall_take_1_aria03.bvh",
        ]
        about = json.loads((tmp_path / "hall_take_1_export.json").read_text())
        assert about["bvh_left_out_for_want_of_hips"] == ["aria01"]
        points[:, :, 11:13] = np.nan
        with pytest.raises(ExportError, match="nobody's hips are in any frame"):
            export_poses(Poses(**{**vars(poses), "points": points}), tmp_path / "none", ["bvh"])
        assert not (tmp_path / "none").exists()


class TestGlb:
    @pytest.fixture
    def document(self, poses, tmp_path):
        export_poses(poses, tmp_path, ["glb"])
        return read_glb(tmp_path / "hall_take_1.glb")

    def test_joints_move_as_the_poses_do(self, document, poses):
        truth = poses.points_y_up
        for p, person in enumerate(poses.person):
            for j, joint in enumerate(poses.joints.joints):
                known = np.isfinite(truth[:, p, j]).all(axis=-1)
                moved = document.track(f"{person} {joint}", "translation")
                assert moved[known] == pytest.approx(truth[known, p, j], abs=1e-5)
                assert (document.track(f"{person} {joint}", "scale")[:, 0] == known).all()

    def test_bones_reach_from_joint_to_joint(self, document, poses):
        truth = poses.points_y_up[:, 0]
        for i, j in poses.joints.bones:
            name = f"aria01 {poses.joints.joints[i]} to {poses.joints.joints[j]}"
            start, turn, size = (document.track(name, path) for path in ("translation", "rotation", "scale"))
            tip = start + Rotation.from_quat(turn).apply(size * [0, 1, 0])
            assert tip == pytest.approx(truth[:, j], abs=1e-5)

    def test_time_axes_and_meaning_are_written(self, document, poses):
        assert document.array(0) == pytest.approx(poses.time)
        said = document.json["scenes"][0]["extras"]
        assert (said["units"], said["up_axis"], said["fps"]) == ("metres", "+y", poses.fps)
        assert [document.json["nodes"][n]["name"] for n in document.json["scenes"][0]["nodes"]] == poses.person

    def test_a_second_library_reads_it(self, poses, tmp_path):
        trimesh = pytest.importorskip("trimesh")
        export_poses(poses, tmp_path, ["glb"])
        scene = trimesh.load(tmp_path / "hall_take_1.glb")
        drawn = 3 * (17 + len(poses.joints.bones))
        assert len(scene.graph.nodes_geometry) == drawn
        first = poses.points_y_up[0]
        low, high = scene.bounds
        assert low == pytest.approx(np.nanmin(first, axis=(0, 1)), abs=4 * CM)
        assert high == pytest.approx(np.nanmax(first, axis=(0, 1)), abs=4 * CM)
        assert all(part.is_watertight or part.volume > 0 for part in scene.geometry.values())


class TestTables:
    def test_csv(self, poses, tmp_path):
        export_poses(poses, tmp_path, ["csv"])
        lines = (tmp_path / "hall_take_1.csv").read_text().splitlines()
        assert "metres; +z points up" in lines[1]
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        assert len(rows) == np.isfinite(poses.points[..., 0]).sum()
        row = rows[100]
        t, p = poses.frame.tolist().index(int(row["frame"])), poses.person.index(row["person"])
        place = [float(row[axis]) for axis in ("x_m", "y_m", "z_m")]
        assert place == pytest.approx(poses.points[t, p, poses.joints.index(row["joint"])], abs=1e-6)
        assert float(row["time_s"]) == pytest.approx(t / poses.fps)

    def test_npz_loads_without_pickles(self, poses, tmp_path):
        export_poses(poses, tmp_path, ["npz"])
        with np.load(tmp_path / "hall_take_1.npz", allow_pickle=False) as archive:
            assert archive["joints_3d"] == pytest.approx(poses.points, nan_ok=True)
            assert (str(archive["units"]), str(archive["up_axis"])) == ("m", "+z")
            assert archive["person"].tolist() == poses.person
            assert archive["joint"].tolist() == list(poses.joints.joints)

    def test_trc(self, poses, tmp_path):
        export_poses(poses, tmp_path, ["trc"])
        lines = (tmp_path / "hall_take_1_aria02.trc").read_text().split("\n")
        meaning = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
        assert (meaning["Units"], meaning["DataRate"], meaning["NumMarkers"]) == ("m", "20", "17")
        assert [name for name in lines[3].split("\t")[2:] if name] == list(poses.joints.joints)
        p = poses.person.index("aria02")
        assert lines[0].split("\t") == ["PathFileType", "4", "(X/Y/Z)", "hall_take_1_aria02.trc"]
        for t, line in enumerate(lines[6:-1]):
            fields = line.split("\t")
            values = np.array([float(f) if f else np.nan for f in fields[2:]]).reshape(17, 3)
            assert values == pytest.approx(poses.points_y_up[t, p], abs=1e-6, nan_ok=True)


class TestHoles:
    """Frame numbers 1 to 5 and 9 to 12 at 20 a second: what was recorded at 0.4 s is there at 0.4 s."""

    @pytest.fixture
    def exported(self, sequence, tmp_path):
        folder = tmp_path
        poses = load_poses(write_file(folder / "whole.h5", sequence))
        kept = np.r_[:5, 8:12]
        poses = Poses(**{**vars(poses), "points": poses.points[kept], "frame": poses.frame[kept]})
        export_poses(poses, folder, ["csv", "npz", "glb", "bvh", "trc"])
        return poses, folder

    def test_tables_and_glb_have_the_times_of_the_frames(self, exported):
        _, folder = exported
        lines = (folder / "hall_take_1.csv").read_text().splitlines()
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        assert {int(row["frame"]): float(row["time_s"]) for row in rows}[9] == pytest.approx(0.4)
        expected = [0, 0.05, 0.1, 0.15, 0.2, 0.4, 0.45, 0.5, 0.55]
        with np.load(folder / "hall_take_1.npz") as archive:
            assert archive["time_s"] == pytest.approx(expected)
        glb = read_glb(folder / "hall_take_1.glb")
        assert glb.array(glb.json["animations"][0]["samplers"][0]["input"]) == pytest.approx(expected, abs=1e-6)

    def test_trc_has_an_empty_row_for_every_frame_that_is_left_out(self, exported):
        poses, folder = exported
        lines = (folder / "hall_take_1_aria01.trc").read_text().split("\n")
        rows = [line.split("\t") for line in lines[6:-1]]
        assert lines[2].split("\t")[2] == "12" == rows[-1][0]
        assert [float(row[1]) for row in rows] == pytest.approx(np.arange(12) / 20)
        assert ["".join(row[2:]) == "" for row in rows] == [t in (5, 6, 7) for t in range(12)]
        assert [float(field) for field in rows[8][2:5]] == pytest.approx(poses.points_y_up[5, 0, 0], abs=1e-6)

    def test_bvh_goes_evenly_through_frames_that_are_left_out(self, exported):
        poses, folder = exported
        places, frame_time = read_bvh(folder / "hall_take_1_aria01.bvh")
        hips = poses.points_y_up[:, 0, poses.joints.index("left_hip")]
        assert frame_time == pytest.approx(1 / 20) and len(places["left_hip"]) == 12
        assert places["left_hip"][[4, 8]] == pytest.approx(hips[[4, 5]], abs=0.03)
        assert places["left_hip"][6] == pytest.approx(hips[[4, 5]].mean(axis=0), abs=0.03)
        about = json.loads((folder / "hall_take_1_export.json").read_text())
        assert about["bvh"]["aria01"]["joints_filled_in"] == 3 * 17

    def test_every_fifth_frame_is_a_fifth_of_the_rate(self, tmp_path):
        joints = joint_set("h36m17")
        poses = alone(rigid_motion(joints), joints)
        export_poses(Poses(**{**vars(poses), "frame": 5 * poses.frame + 2}), tmp_path, ["bvh", "trc"])
        places, frame_time = read_bvh(tmp_path / "lab_anna.bvh")
        assert (frame_time, len(places["pelvis"])) == (pytest.approx(5 / 25), 25)
        assert (tmp_path / "lab_anna.trc").read_text().split("\n")[2].startswith("5\t5\t25\t")

    def test_times_that_no_row_can_hold_are_refused(self, sequence, tmp_path):
        joints = joint_set("h36m17")
        poses = alone(rigid_motion(joints, frames=3), joints)
        far = Poses(**{**vars(poses), "frame": np.array([0, 1, 2_000_000_000])})
        with pytest.raises(ExportError, match=r"3 frames from 0 to 2000000000 are .* choose csv, npz or glb"):
            export_poses(far, tmp_path, ["trc"])
        backwards = replace(sequence, frame=sequence.frame[::-1])
        with pytest.raises(ExportError, match="take 1/frame: expected increasing numbers"):
            load_poses(write_file(tmp_path / "a.h5", backwards))


class TestChoices:
    def test_the_prediction_is_preferred_to_the_truth(self, sequence, tmp_path):
        shifted = sequence.joints_3d_world + 1
        path = write_file(tmp_path / "a.h5", sequence, guess=("frame person joint xyz", shifted))
        assert load_poses(path).variable == "guess"
        assert load_poses(path).points == pytest.approx(shifted, nan_ok=True)
        assert load_poses(path, variable="joints_3d_world").variable == "joints_3d_world"

    def test_several_predictions_want_a_choice_unless_one_has_the_usual_name(self, sequence, tmp_path):
        both = {n: ("frame person joint xyz", sequence.joints_3d_world) for n in ("one", "two")}
        path = write_file(tmp_path / "a.h5", sequence, **both)
        with pytest.raises(ExportError, match="several predictions, choose one: one, two"):
            load_poses(path)
        both["predicted_3d_world"] = both["one"]
        assert load_poses(write_file(tmp_path / "b.h5", sequence, **both)).variable == "predicted_3d_world"

    def test_more_dimensions_are_selected_by_name_or_position(self, sequence, tmp_path):
        array = np.stack([sequence.joints_3d_world + k for k in range(len(sequence.camera))])
        path = write_file(tmp_path / "a.h5", sequence, seen=("camera frame person joint xyz", array))
        with pytest.raises(ExportError, match=r"--select camera=0, found none; camera is aria01/rgb, .* or 0 to 3"):
            load_poses(path)
        assert load_poses(path, select={"camera": sequence.camera[2]}).points == pytest.approx(array[2], nan_ok=True)
        assert load_poses(path, select={"camera": "1"}).points == pytest.approx(array[1], nan_ok=True)
        with pytest.raises(ExportError, match="no camera 'cam77'; camera is aria01/rgb"):
            load_poses(path, select={"camera": "cam77"})

    def test_camera_coordinates_point_down(self, sequence, tmp_path):
        path = write_file(tmp_path / "a.h5", sequence, seen=("frame person joint xyz", sequence.joints_3d_world))
        with h5py.File(path, "r+") as file:
            file[sequence.name]["seen"].attrs["coordinate_frame"] = variables.CAMERA
        poses = load_poses(path)
        assert poses.up == "-y"
        assert poses.points_y_up == pytest.approx(poses.points * [1, -1, -1], nan_ok=True)

    @pytest.mark.parametrize("up", ["+x", "-x", "+y", "-y", "+z", "-z"])
    def test_every_up_axis_ends_up_at_plus_y_without_mirroring(self, up):
        axis = np.eye(3)["xyz".index(up[1])] * (1 if up[0] == "+" else -1)
        points = np.concatenate([np.eye(3), [axis]])[None, None]
        turned = alone(points[:, 0], joint_set("coco17"), up).points_y_up[0, 0]
        assert turned[3].tolist() == [0, 1, 0]
        assert np.linalg.det(turned[:3]) == pytest.approx(1)

    def test_missing_and_unknown_choices_are_named(self, sequence, tmp_path):
        path = write_file(tmp_path / "a.h5", sequence)
        with pytest.raises(ExportError, match="no 3D variable 'guess'; it has joints_3d_world"):
            load_poses(path, variable="guess")
        with pytest.raises(ExportError, match="no sequence 'x'; it has hall/take 1"):
            load_poses(path, "x")
        with pytest.raises(ExportError, match="unknown format fbx; known: csv, npz, glb, bvh, trc"):
            export_poses(load_poses(path), tmp_path / "out", ["fbx"])

    def test_nothing_but_missing_values(self, tmp_path):
        empty = make_sequence(frames=10)
        empty.joints_3d_world[:] = np.nan
        with pytest.raises(ExportError, match="holds no pose of anybody"):
            load_poses(write_file(tmp_path / "a.h5", empty))

    def test_files_are_not_overwritten_unasked(self, poses, tmp_path):
        export_poses(poses, tmp_path, ["csv"])
        (tmp_path / "hall_take_1.csv").write_text("mine")
        with pytest.raises(FileExistsError, match="pass --overwrite to replace it"):
            export_poses(poses, tmp_path, ["glb", "csv"])
        assert (tmp_path / "hall_take_1.csv").read_text() == "mine"
        assert not (tmp_path / "hall_take_1.glb").exists()
        export_poses(poses, tmp_path, ["csv"], overwrite=True)
        assert (tmp_path / "hall_take_1.csv").read_text() != "mine"

    def test_people_without_any_pose_are_said_and_left_out(self, poses, tmp_path):
        points = poses.points.copy()
        points[:, 1] = np.nan
        without = Poses(**{**vars(poses), "points": points})
        export_poses(without, tmp_path, ["bvh", "glb"])
        about = json.loads((tmp_path / "hall_take_1_export.json").read_text())
        assert about["people_without_any_pose"] == ["aria02"]
        assert not (tmp_path / "hall_take_1_aria02.bvh").exists()

    def test_everybody_has_files_of_their_own(self, poses, tmp_path):
        people = ["player 1", "player_1", "Player/1", "player_1_2"]
        four = replace(poses, points=poses.points[:, [0, 1, 2, 0]], person=people)
        written = export_poses(four, tmp_path, ["bvh", "trc"])
        names = ["player_1", "player_1_2", "Player_1_3", "player_1_2_2"]
        expected = {f"hall_take_1_{name}.{kind}" for name in names for kind in ("bvh", "trc")}
        assert {path.name for path in tmp_path.iterdir()} == {*expected, "hall_take_1_export.json"}
        assert len(written) == 9
        about = json.loads((tmp_path / "hall_take_1_export.json").read_text())
        assert (about["people"], about["people_in_file_names"]) == (people, names)

    def test_the_rate_of_what_has_regular_times_is_said(self, poses, tmp_path):
        every_fifth = replace(poses, points=poses.points[:3], frame=np.array([10, 15, 25]))
        export_poses(every_fifth, tmp_path, ["csv", "trc"])
        about = json.loads((tmp_path / "hall_take_1_export.json").read_text())
        assert about["fps"] == poses.fps and about["frames"] == 3
        assert about["bvh, trc"] == {"fps": poses.fps / 5, "frames": 4}

    def test_one_frame(self, poses, tmp_path):
        first = Poses(**{**vars(poses), "points": poses.points[:1], "frame": poses.frame[:1]})
        assert len(export_poses(first, tmp_path, ["csv", "npz", "glb", "bvh", "trc"])) == 3 + 2 * 3 + 1


def to_another_file(file, group):
    other = file.filename.replace("odd", "other")
    with h5py.File(other, "w") as target:
        target["x"] = group["joints_3d_world"][...]
    return other


def link_out(file, group):
    other = to_another_file(file, group)
    del group["joints_3d_world"]
    group["joints_3d_world"] = h5py.ExternalLink(other, "/x")


def link_out_by_way_of_a_soft_one(file, group):
    link_out(file, group)
    file["away"] = group.get("joints_3d_world", getlink=True)
    del group["joints_3d_world"]
    group["joints_3d_world"] = h5py.SoftLink("/away")


def gather_from_outside(file, group):
    other, shape = to_another_file(file, group), group["joints_3d_world"].shape
    del group["joints_3d_world"]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(other, "x", shape)
    group.create_virtual_dataset("joints_3d_world", layout)


def replace_dataset(group, name, data):
    del group[name]
    group[name] = data


class TestOddFiles:
    """Each is refused in one sentence that names the file and the place."""

    @pytest.mark.parametrize(
        "change, said",
        [
            (link_out, "take 1/joints_3d_world: .* in another file"),
            (link_out_by_way_of_a_soft_one, "take 1/joints_3d_world: .* in another file"),
            (gather_from_outside, "take 1/joints_3d_world: .* in another file"),
            (lambda file, group: group.pop("frame"), "take 1/frame: expected an array"),
            (lambda file, group: replace_dataset(group, "frame", [[1, 2]]), r"frame: expected a list.*\(1, 2\)"),
            (lambda file, group: replace_dataset(group, "frame", [1, 2]), r"expected shape \(2, 3, 17, 3\)"),
            (lambda file, group: group["person"].write_direct(np.array([b"\xff", b"b", b"c"], object)), "1/person"),
            (lambda file, group: group.attrs.update(fps=[20.0, 20.0]), "attribute fps: .* found array"),
            (lambda file, group: group.attrs.update(fps=np.nan), "attribute fps: .* found .*nan"),
            (lambda file, group: group.attrs.update(fps=h5py.Empty("f")), "attribute fps: .* found Empty"),
            (lambda file, group: group.attrs.pop("fps"), "attribute fps: .* found None"),
            (lambda file, group: group.attrs.update(world_up="up"), "attribute world_up: .* found 'up'"),
            (lambda file, group: file.attrs.update(joint_set=[1, 2]), r"attribute joint_set: .* found '\[1 2\]'"),
        ],
    )
    def test_is_refused(self, sequence, tmp_path, change, said):
        path = write_file(tmp_path / "odd.h5", sequence)
        with h5py.File(path, "r+") as file:
            change(file, file[sequence.name])
        with pytest.raises(schema.SchemaError, match=said) as refusal:
            load_poses(path)
        assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)

    def test_what_the_file_says_of_a_prediction_is_checked(self, sequence, tmp_path):
        predicted = {
            "predicted_3d_world": ("frame person joint xyz", sequence.joints_3d_world),
            "predicted_status": ("frame", np.ones(40)),
        }
        path = write_file(tmp_path / "odd.h5", sequence, **predicted)
        with pytest.raises(schema.SchemaError, match=r"predicted_status: expected shape \(40, 3\).* found \(40,\)"):
            load_poses(path)
        for text in ("[]", "{bad", 5):
            with h5py.File(path, "r+") as file:
                file[sequence.name].attrs["prediction"] = text
            with pytest.raises(schema.SchemaError, match="attribute prediction"):
                load_poses(path)

    def test_a_loop_of_links_that_is_not_asked_for_does_no_harm(self, sequence, tmp_path):
        path = write_file(tmp_path / "odd.h5", sequence)
        with h5py.File(path, "r+") as file:
            replace_dataset(file[sequence.name], "in_view", h5py.SoftLink("in_view"))
        assert load_poses(path).present == [0, 1, 2]

    def test_attributes_as_xarray_writes_them(self, sequence, tmp_path):
        path = write_file(tmp_path / "odd.h5", sequence)
        with h5py.File(path, "r+") as file:
            file[sequence.name].attrs["fps"] = [20.0]
        assert load_poses(path).fps == 20.0


class Glb:
    """A binary glTF read by its specification alone."""

    def __init__(self, data):
        magic, version, length, json_length, json_kind = struct.unpack("<IIIII", data[:20])
        assert (magic, version, length, json_kind) == (0x46546C67, 2, len(data), 0x4E4F534A)
        self.json = json.loads(data[20 : 20 + json_length])
        start = 20 + json_length
        bytes_length, kind = struct.unpack("<II", data[start : start + 8])
        assert kind == 0x004E4942
        self.bytes = data[start + 8 : start + 8 + bytes_length]

    def array(self, accessor):
        item = self.json["accessors"][accessor]
        view = self.json["bufferViews"][item["bufferView"]]
        assert view.get("byteOffset", 0) % 4 == 0
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[item["type"]]
        dtype = {5126: "<f4", 5123: "<u2"}[item["componentType"]]
        values = np.frombuffer(self.bytes, dtype, item["count"] * width, view.get("byteOffset", 0))
        return values.reshape(-1, width) if width > 1 else values

    def track(self, node, path):
        names = [n.get("name") for n in self.json["nodes"]]
        animation = self.json["animations"][0]
        (sampler,) = [
            c["sampler"] for c in animation["channels"] if c["target"] == {"node": names.index(node), "path": path}
        ]
        return self.array(animation["samplers"][sampler]["output"])


def read_glb(path):
    return Glb(path.read_bytes())


def test_all_joint_sets_have_a_rig():
    for joints in JOINT_SETS.values():
        rig = fit_rig(np.random.default_rng(0).normal(size=(2, len(joints), 3)), joints)
        assert set(joints.joints) <= {bone.name for bone in rig.bones}
        assert len({bone.name for bone in rig.bones}) == len(rig.bones)
