"""Sampling presets: names for settings that belong together."""

import pytest

from finepose_mp.config import PRESETS, Config, ConfigError, dump_config, load_config, sampling_asked_for

FILE = "run_dir: runs/x\ndata: {files: [data/x.h5]}\n"


def load(tmp_path, text: str = "", *overrides: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(FILE + text)
    return load_config(path, list(overrides))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_stands_for_its_settings(tmp_path, name):
    evaluation = load(tmp_path, "", f"evaluation.preset={name}").evaluation
    assert (evaluation.hypotheses, evaluation.sampling_steps, evaluation.flip) == PRESETS[name]


def test_the_papers_preset_is_the_papers_and_fast_takes_a_twentieth_of_its_passes():
    assert PRESETS["paper"] == (20, 10, True) and PRESETS["paper"].passes == 400
    assert PRESETS["fast"].passes * 20 <= PRESETS["paper"].passes
    assert PRESETS["fast"].passes < PRESETS["balanced"].passes < PRESETS["paper"].passes


def test_a_preset_is_written_out_so_that_a_run_does_not_change_with_it(tmp_path):
    config = load(tmp_path, "evaluation: {preset: fast, batch_size: 3}\n")
    dump_config(config, tmp_path / "dumped.yaml")
    assert "preset" not in (tmp_path / "dumped.yaml").read_text()
    assert load_config(tmp_path / "dumped.yaml") == config


def test_settings_that_agree_with_the_preset_are_fine_and_others_are_not(tmp_path):
    assert load(tmp_path, "evaluation: {preset: fast, hypotheses: 5}\n").evaluation.hypotheses == 5
    with pytest.raises(ConfigError, match="preset fast says otherwise than hypotheses 7; leave out the one"):
        load(tmp_path, "evaluation: {preset: fast, hypotheses: 7}\n")


def test_an_unknown_preset_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="unknown preset 'quick'; known: fast, balanced, paper"):
        load(tmp_path, "", "evaluation.preset=quick")
    assert load(tmp_path, "evaluation: {preset: null}\n").evaluation.hypotheses == 5


def test_a_caller_gives_a_preset_or_single_settings():
    assert sampling_asked_for("fast", None, None, None) == PRESETS["fast"]._asdict()
    assert sampling_asked_for(None, 3, None, False) == {"hypotheses": 3, "flip": False}
    with pytest.raises(ValueError, match="give the one or the others"):
        sampling_asked_for("fast", None, None, False)
    with pytest.raises(ValueError, match="unknown preset 'quick'; known: fast, balanced, paper"):
        sampling_asked_for("quick", None, None, None)
