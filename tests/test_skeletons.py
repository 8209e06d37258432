"""Joint sets and conversion by name."""

import numpy as np
import pytest

from finepose_mp.skeletons import COCO17, JOINT_SETS, convert, joint_set

# Order of the 17 joints when Human3.6M's are gathered into MPI-INF-3DHP's, as the literature lists it.
H36M_TO_MPI = [10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9]


@pytest.mark.parametrize("joints", JOINT_SETS.values(), ids=list(JOINT_SETS))
class TestEveryJointSet:
    def test_mirroring_twice_is_nothing(self, joints):
        mirror = np.array(joints.mirror)
        assert (mirror[mirror] == np.arange(len(joints))).all()

    def test_mirror_swaps_left_and_right_by_name(self, joints):
        for name, other in zip(joints.joints, joints.mirror, strict=True):
            assert joints.joints[other] == name.replace("left_", "X").replace("right_", "left_").replace("X", "right_")

    def test_tree_is_connected_and_mirror_symmetric(self, joints):
        assert joints.parents.count(-1) == 1
        for j, parent in enumerate(joints.parents):
            steps, ancestor = 0, j
            while joints.parents[ancestor] >= 0:
                ancestor, steps = joints.parents[ancestor], steps + 1
                assert steps <= len(joints)
            if parent >= 0:
                assert joints.parents[joints.mirror[j]] == joints.mirror[parent]

    def test_root_is_symmetric(self, joints):
        assert {joints.mirror[j] for j in joints.root_joints} == set(joints.root_joints)

    def test_conversion_to_itself_changes_nothing(self, joints):
        points = np.random.default_rng(0).normal(size=(4, len(joints), 3))
        converted, origin = convert(points, joints.name, joints.name)
        assert (converted == points).all()
        assert (origin == "copied").all()


def test_left_and_right_joints_of_coco_and_human36m_agree_with_the_papers():
    def side(name, prefix):
        return [i for i, joint in enumerate(joint_set(name).joints) if joint.startswith(prefix)]

    assert side("h36m17", "left_") == [4, 5, 6, 11, 12, 13]
    assert side("h36m17", "right_") == [1, 2, 3, 14, 15, 16]
    assert side("mpi17", "left_") == [5, 6, 7, 11, 12, 13]
    assert COCO17.index("left_hip") == 11


def test_human36m_to_mpi_is_the_known_gather():
    points = np.random.default_rng(1).normal(size=(3, 17, 2))
    converted, origin = convert(points, "h36m17", "mpi17")
    assert (converted == points[:, H36M_TO_MPI]).all()
    assert (origin == "copied").all()


def test_coco_gives_human36m_a_pelvis_between_the_hips_and_no_head_top():
    points = np.random.default_rng(2).normal(size=(5, 17, 3))
    converted, origin = convert(points, "coco17", "h36m17")
    assert converted[:, 0] == pytest.approx((points[:, 11] + points[:, 12]) / 2)
    assert origin[0] == "derived"
    assert origin[10] == "missing"
    assert np.isnan(converted[:, 10]).all()
    assert (converted[:, 3] == points[:, 16]).all()


def test_root_of_coco_is_the_middle_of_the_hips_in_numpy_and_torch():
    torch = pytest.importorskip("torch")
    points = np.random.default_rng(3).normal(size=(2, 17, 3))
    root = COCO17.root(points)
    assert root == pytest.approx((points[:, 11] + points[:, 12]) / 2)
    assert COCO17.root(torch.from_numpy(points)).numpy() == pytest.approx(root)
    assert COCO17.root(COCO17.root_relative(points)) == pytest.approx(np.zeros((2, 3)), abs=1e-15)


def test_unknown_names_and_shapes_are_said():
    with pytest.raises(KeyError, match="unknown joint set 'coco18'; known: coco17, h36m17, mpi17"):
        joint_set("coco18")
    with pytest.raises(KeyError, match="no joint 'pelvis'"):
        COCO17.index("pelvis")
    with pytest.raises(ValueError, match=r"expected 17 joints of coco17 on axis -2, found shape \(3, 16, 2\)"):
        convert(np.zeros((3, 16, 2)), "coco17", "h36m17")


def test_joints_of_detectors_are_where_their_documentation_says():
    for name, joint, position in (
        ("body25", "pelvis", 8), ("body25", "left_ear", 18), ("body25", "left_big_toe", 19),
        ("halpe26", "head_top", 17), ("halpe26", "pelvis", 19), ("halpe26", "right_big_toe", 21),
        ("mpii16", "right_ankle", 0), ("mpii16", "head_top", 9), ("mpii16", "left_wrist", 15),
        ("blazepose33", "left_shoulder", 11), ("blazepose33", "right_hip", 24), ("blazepose33", "right_foot_index", 32),
        ("wholebody133", "left_heel", 19), ("wholebody133", "left_hand_root", 91),
        ("wholebody133", "right_pinky_finger_4", 132), ("body25", "right_heel", 24),
    ):  # fmt: skip
        assert joint_set(name).index(joint) == position


def test_whole_body_mirrors_the_face_as_ibug_does():
    mirror = np.array(joint_set("wholebody133").mirror)[23:91] - 23
    assert [mirror[i] for i in (0, 8, 17, 27, 31, 36, 41, 48, 51, 60, 67)] == [
        16,
        8,
        26,
        27,
        35,
        45,
        46,
        54,
        51,
        64,
        65,
    ]
