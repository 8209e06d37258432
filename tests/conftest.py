"""What the whole suite shares."""

import runpy
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data beside the project; tests that need it are skipped, and say so, where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}")
    return folder


def run_tool(monkeypatch, capsys, name: str, *arguments) -> tuple[int, str, str]:
    """Exit status, output and errors of a tool of the repository, run in this process."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    capsys.readouterr()
    try:
        runpy.run_path(str(REPOSITORY / "tools" / name), run_name="__main__")
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    captured = capsys.readouterr()
    return status, captured.out, captured.err
