"""tools/evaluate.py on one process, which is this one, or on several."""

import os
import subprocess
import sys

import torch
from conftest import REPOSITORY, run_tool


def evaluate_with_processes(monkeypatch, capsys, processes: int, *arguments) -> str:
    """What the tool prints; one thread each, because how threads share a product shows in its last bits."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    if processes == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            status, said, errors = run_tool(monkeypatch, capsys, "evaluate.py", *arguments)
        finally:
            torch.set_num_threads(threads)
        assert status == 0, errors
        return said
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "--"]
    command = [*torchrun, REPOSITORY / "tools/evaluate.py", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout
