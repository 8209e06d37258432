"""Configuration files and overrides."""

import pytest
from conftest import REPOSITORY

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
        (MINIMAL, ["data.joint_set=coco18"], "data.joint_set: Input should be 'coco17', 'h36m17', 'mpi17'"),
        (MINIMAL, ["data.camera_kinds=[helmet]"], "data.camera_kinds.0: Input should be 'ego_rgb'"),
        (MINIMAL, ["model.width=100"], "model.width 100 is not a multiple of model.heads 8"),
        (MINIMAL, ["evaluation.sampling_steps=1001"], "sampling_steps 1001 exceeds diffusion.timesteps 1000"),
        (MINIMAL, ["model.width=9", "model.heads=3"], "model.width 9 is odd; choose an even number"),
        (MINIMAL, ["data.files=x.h5"], "data.files: expected a list, such as [x.h5], found 'x.h5'"),
        (MINIMAL, ["data.camera_kinds=exo"], "data.camera_kinds: expected a list, such as [exo], found 'exo'"),
        (MINIMAL, ["training.epochs=one"], "training.epochs: Input should be a valid integer"),
        (MINIMAL, ["training.epochs=one"], "found 'one'"),
        (MINIMAL, ["data.split_scheme=ofical"], "Input should be 'official' or 'within_scene', found 'ofical'"),
        (MINIMAL, ["data.files=[x.h5"], "override value '[x.h5': not valid YAML"),
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


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "data.h5"
    path.write_bytes(b"\x89HDF\r\n")
    with pytest.raises(ConfigError, match=r"data.h5: not text; expected a YAML configuration"):
        load_config(path)


def test_missing_file_points_to_the_shipped_ones(tmp_path):
    with pytest.raises(ConfigError, match="no such configuration file; the shipped ones are in configs/"):
        load_config(tmp_path / "nothing.yaml")


def test_a_file_says_only_how_it_differs_from_its_base(write, tmp_path):
    (tmp_path / "wide.yaml").write_text(MINIMAL + "model: {width: 64, depth: 3}\n")
    (tmp_path / "middle.yaml").write_text("base: wide.yaml\nmodel: {depth: 2}\n")
    config = load_config(write("base: middle.yaml\nrun_dir: runs/y\nmodel: {heads: 4}\n"), ["model.mlp_ratio=1"])
    model = config.model
    assert (model.width, model.depth, model.heads, model.mlp_ratio) == (64, 2, 4, 1)
    assert str(config.run_dir) == "runs/y"


@pytest.mark.parametrize(
    "text, message",
    [
        ("base: nothing.yaml", r"nothing.yaml: no such configuration file \(base of .*config.yaml\)"),
        ("base: config.yaml", "is its own base"),
        ("base: [a, b]", "base: expected the name of a file"),
    ],
)
def test_a_base_that_cannot_be_read_is_named(write, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(text))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").rglob("*_d3dp.yaml")), ids=lambda path: path.stem)
def test_every_twin_differs_in_the_network_alone(path):
    twin, prompted = load_config(path), load_config(path.with_name(path.name.replace("_d3dp", "")))
    assert (twin.model.name, prompted.model.name) == ("d3dp", "finepose")
    assert twin.run_dir != prompted.run_dir
    same = {"run_dir": prompted.run_dir, "model": twin.model.model_copy(update={"name": "finepose"})}
    assert twin.model_copy(update=same) == prompted


def test_the_papers_settings_are_theirs():
    for name in ("egohumans", "human36m", "mpi_inf_3dhp"):
        config = load_config(REPOSITORY / "configs" / "paper" / f"{name}.yaml")
        assert (config.data.window, config.model.depth, config.model.width) == (243, 8, 512)
        assert (config.evaluation.hypotheses, config.evaluation.sampling_steps) == (20, 10)
        assert (config.data.missing, config.data.coordinates, config.diffusion.clip_m) == ("zeros", "screen", 1.1)


def test_every_shipped_configuration_loads_and_says_its_command():
    paths = sorted((REPOSITORY / "configs").rglob("*.yaml"))
    configurations = [p for p in paths if "accelerate" not in p.parts]
    assert {p.name for p in configurations} >= {"egohumans.yaml", "demo.yaml"}
    assert all(p.with_name(f"{p.stem}_d3dp.yaml").is_file() for p in configurations if not p.stem.endswith("_d3dp"))
    for path in configurations:
        assert isinstance(load_config(path), Config)
        assert f"--config {path.relative_to(REPOSITORY)}" in path.read_text() or path.name == "egohumans.yaml"
        assert path.read_text().startswith("# accelerate launch train.py")
