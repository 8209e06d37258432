"""The exported program gives what the network gives."""

import pytest
import torch
from conftest import run_tool
from test_inference_memory import JOINTS, WINDOW, config_of, network_of

from finepose_mp import runs
from finepose_mp.inference.deployment import ExportError, exported, write_exported


@pytest.mark.parametrize("name", ["finepose", "d3dp"])
def test_the_program_equals_the_network_for_any_number_of_windows_and_hypotheses(name, tmp_path):
    network = network_of(config_of(name))
    write_exported(network, tmp_path / "denoiser.pt2")
    program = torch.export.load(tmp_path / "denoiser.pt2").module()
    for windows, hypotheses in ((2, 3), (5, 2), (1, 1)):
        generator = torch.Generator().manual_seed(windows)
        keypoints = torch.randn(windows, WINDOW, JOINTS, 2, generator=generator)
        noisy = torch.randn(windows, hypotheses, WINDOW, JOINTS, 3, generator=generator)
        mask = torch.rand(windows, WINDOW, JOINTS, generator=generator) > 0.2
        mask[0, 0] = False
        t = torch.randint(1000, (windows,), generator=generator)
        with torch.no_grad():
            prompt = [network.encode_prompts(["fencing"])] if network.reads_prompts else []
            expected = network(keypoints, noisy, t, mask, *prompt)
            found = program(keypoints, noisy, t, mask, *(prompt[0][:3] if prompt else []))
        assert torch.allclose(found, expected, atol=1e-5)


def test_a_lifter_without_diffusion_is_refused():
    with pytest.raises(ExportError, match="only a denoiser"):
        exported(network_of(config_of("mixste")))


def test_the_command_exports_a_run_and_overwrites_nothing(tmp_path, monkeypatch, capsys):
    config = config_of("d3dp")
    config.run_dir = tmp_path / "run"
    runs.create_run(config)
    with runs.checkpoint(config.run_dir, "best") as folder:
        runs.save_weights(folder, network_of(config), config)
    out = tmp_path / "denoiser.pt2"
    command = ("export_model.py", "--run", config.run_dir, "--out", out)
    assert run_tool(monkeypatch, capsys, *command)[0] == 0
    assert torch.export.load(out).graph_signature.user_outputs
    status, _, errors = run_tool(monkeypatch, capsys, *command)
    assert status == 2 and "exists; choose another name" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["denoiser.pt2", "run"]
