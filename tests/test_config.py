"""Configuration files and overrides."""

import pytest

from finepose_mp.config import Config, ConfigError, dump_config, load_config

MINIMAL = "run_dir: runs/x\ndata: {files: [data/x.h5]}\n"


@pytest.fixture
def write(tmp_path):
    def write_file(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write_file


def test_defaults_fill_what_a_file_leaves_out(write):
    config = load_config(write(MINIMAL))
    assert config.data.camera_kinds == ["ego_rgb"]
    assert config.data.coordinates == "rays"
    assert config.model.width == 512


def test_dumped_configuration_reads_back_equal(write, tmp_path):
    config = load_config(write(MINIMAL), ["training.learning_rate=1e-4", "data.scenes=[Tagging]"])
    dump_config(config, tmp_path / "dumped.yaml")
    assert load_config(tmp_path / "dumped.yaml") == config
    assert config.training.learning_rate == 1e-4
    assert config.data.scenes == ["Tagging"]


@pytest.mark.parametrize(
    "text, overrides, message",
    [
        (MINIMAL + "training: {learning_rat: 1}", [], "unknown key training.learning_rat; known here: epochs"),
        (MINIMAL, ["model.widht=64"], "unknown key model.widht; known here: name, width"),
        (MINIMAL, ["sede=1"], "unknown key sede; known here: seed, run_dir"),
        ("run_dir: x", [], "data: Field required"),
        (MINIMAL, ["data.window=0"], "data.window: Input should be greater than or equal to 1"),
        (MINIMAL, ["data.joint_set=coco18"], "data.joint_set: Input should be 'coco17', 'h36m17' or 'mpi17'"),
        (MINIMAL, ["data.camera_kinds=[helmet]"], "data.camera_kinds.0: Input should be 'ego_rgb'"),
        (MINIMAL, ["model.width=100"], "model.width 100 is not a multiple of model.heads 8"),
        (MINIMAL, ["evaluation.sampling_steps=1001"], "sampling_steps 1001 exceeds diffusion.timesteps 1000"),
        (MINIMAL, ["seed"], "expected key=value"),
        (MINIMAL, ["seed.x=1", "seed.x.y=2"], "x is a value, not a section"),
        ("- a list", [], "expected a mapping of sections, found list"),
        ("a: [", [], "not valid YAML"),
    ],
)
def test_what_cannot_be_used_is_named(write, text, overrides, message):
    with pytest.raises(ConfigError) as error:
        load_config(write(text), overrides)
    assert message in str(error.value)


def test_missing_file_points_to_the_shipped_ones(tmp_path):
    with pytest.raises(ConfigError, match="no such configuration file; the shipped ones are in configs/"):
        load_config(tmp_path / "nothing.yaml")


def test_every_shipped_configuration_loads_and_says_its_command():
    from conftest import REPOSITORY

    paths = sorted((REPOSITORY / "configs").rglob("*.yaml"))
    configurations = [p for p in paths if "accelerate" not in p.parts]
    assert {p.name for p in configurations} >= {"egohumans.yaml", "demo.yaml"}
    for path in configurations:
        assert isinstance(load_config(path), Config)
        assert f"--config {path.relative_to(REPOSITORY)}" in path.read_text() or path.name == "egohumans.yaml"
        assert "accelerate launch train.py" in path.read_text().splitlines()[1] + path.read_text().splitlines()[0]
