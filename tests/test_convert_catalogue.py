"""What is known about the released takes, against the full catalogue where it is at hand."""

import pytest
import yaml

from finepose_mp.preprocessing.egohumans import catalogue


def test_seven_scenes_and_their_takes():
    assert [scene.title for scene in catalogue.scenes()] == [
        "Tagging", "Lego", "Fencing", "Basketball", "Volleyball", "Badminton", "Tennis",
    ]  # fmt: skip
    assert len(catalogue.takes()) == 133
    assert len({take.name for take in catalogue.takes()}) == 133


def test_every_released_take_agrees_with_the_full_catalogue(shared):
    path = shared / "formats" / "egohumans_catalogue.yaml"
    full = yaml.safe_load(path.read_text())["sequences"]
    for folder, scene in full.items():
        for name, facts in scene["subsequences"].items():
            take = catalogue.take(folder, name)
            assert (take.name, take.known) == (f"{folder}/{name}", True)
            assert take.frames == facts["frames"]
            assert list(take.arias) == facts["arias_valid"]
            assert list(take.invalid_arias) == facts["arias_invalid"]
            assert list(take.exo_cameras) == facts["exo_valid"]
            assert list(take.invalid_cameras) == facts["exo_invalid_cfg"]
            assert list(take.manual_cameras) == facts["exo_manual_extrinsics"]
            assert take.keypoints_2d == facts["pose2d_keypoints"]
            assert take.scene.split == scene["split"]


def test_official_split_holds_three_scenes_out():
    sides = {scene.title: scene.split for scene in catalogue.scenes()}
    assert {title for title, side in sides.items() if side == "test"} == {"Tagging", "Lego", "Fencing"}
    assert set(sides.values()) == {"train", "test"}


def test_within_scene_split_gives_every_scene_all_three_sides():
    assert [catalogue.within_scene_split(n) for n in range(1, 8)] == [
        "train", "test", "train", "val", "train", "train", "test",
    ]  # fmt: skip
    for scene in catalogue.scenes():
        sides = {catalogue.within_scene_split(n) for n in range(1, scene.take_count + 1)}
        assert sides == {"train", "val", "test"}


def test_both_lego_folders_are_one_scene():
    assert catalogue.take("02_lego", "003_legoassemble") == catalogue.take("02_legoassemble", "003_legoassemble")
    assert catalogue.take("02_lego", "003_legoassemble").name == "02_legoassemble/003_legoassemble"


@pytest.mark.parametrize(
    "folders, title, action, split",
    [
        (("01_tagging", "099_tagging"), "Tagging", "playing tag", "test"),
        (("01_tagging", "001_hopscotch"), "Tagging", "playing tag", "test"),
        (("08_soccer", "001_soccer"), "Soccer", "soccer", "train"),
    ],
)
def test_unknown_takes_get_defaults(folders, title, action, split):
    take = catalogue.take(*folders)
    assert (take.known, take.name) == (False, "/".join(folders))
    assert (take.scene.title, take.scene.action, take.scene.split) == (title, action, split)
    assert take.invalid_arias == take.manual_cameras == ()


def test_names_that_are_none():
    with pytest.raises(ValueError, match="'benchmark' is not the name of a big sequence"):
        catalogue.take("benchmark", "001_tagging")
    with pytest.raises(ValueError, match="'all' is not the name of a take"):
        catalogue.take("01_tagging", "all")
