"""The structure of the house: who may import whom, and what may not be imported at all."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, run_tool

# Ground floor first; a room may import rooms named before its colon's right side says so, and itself.
_FLOOR = {"skeletons", "geometry", "lenses", "cameras", "schema", "variables", "tracking", "metrics", "config"}
_FLOOR |= {"chunks", "files"}
MAY_IMPORT = {
    **{room: _FLOOR for room in _FLOOR},
    "aggregation": _FLOOR,
    "prompts": _FLOOR,
    "models": _FLOOR | {"prompts"},
    "diffusion": _FLOOR | {"models"},
    "datasets": _FLOOR,
    "preprocessing": _FLOOR,
    "runs": _FLOOR | {"models"},
    "released": _FLOOR | {"models", "prompts", "runs"},
    "inference": _FLOOR | {"models", "diffusion", "prompts", "runs", "datasets", "aggregation"},
    "training": _FLOOR | {"models", "diffusion", "prompts", "runs", "datasets", "inference"},
    "evaluation": _FLOOR | {"runs", "datasets", "inference", "aggregation"},
    "validation": _FLOOR,
    "benchmark": _FLOOR
    | {"models", "diffusion", "prompts", "runs", "datasets", "inference", "training", "preprocessing"},
    "visualization": _FLOOR,
    "viewer": _FLOOR | {"visualization"},
    "export": _FLOOR,
    "report": _FLOOR | {"evaluation"},
}
_WITHOUT_TORCH = _FLOOR | {"preprocessing", "validation", "visualization", "viewer", "export"}


def _modules() -> list[tuple[str, Path]]:
    """(dotted name, path) of every module of the package, the two mapped folders included."""
    modules = []
    for folder, package in (
        ("finepose_mp", "finepose_mp"),
        ("datasets", "finepose_mp.datasets"),
        ("preprocessing", "finepose_mp.preprocessing"),
    ):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            parts = path.relative_to(REPOSITORY / folder).with_suffix("").parts
            modules.append((".".join((package, *parts)).removesuffix(".__init__"), path))
    return modules


def _imports(path: Path, module: str) -> set[str]:
    """Dotted names that a file imports, relative imports resolved, `from a import b` as a.b."""
    found = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def _room(dotted: str) -> str | None:
    """The room of a module of ours, None for the package itself and for other libraries."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "finepose_mp" and len(parts) > 1 and not parts[1].startswith("__") else None


@pytest.mark.parametrize("module, path", _modules(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_rooms_import_only_what_lies_below_them(module, path):
    room = _room(module)
    if room is None:
        return
    assert room in MAY_IMPORT, f"{module} is in a room that this test does not know"
    imported = {_room(name) for name in _imports(path, module)} - {None, room}
    assert imported <= MAY_IMPORT[room], f"{module} imports {sorted(imported - MAY_IMPORT[room])}"


def test_ground_floor_has_no_cycles():
    edges = {
        _room(module): {_room(name) for name in _imports(path, module)} & _FLOOR - {_room(module)}
        for module, path in _modules()
        if _room(module) in _FLOOR
    }
    while edges:
        free = {room for room, below in edges.items() if not below & edges.keys()}
        assert free, f"cycle among {sorted(edges)}"
        edges = {room: below for room, below in edges.items() if room not in free}


@pytest.mark.parametrize(
    "path", sorted(p for d in ("tools", ".") for p in (REPOSITORY / d).glob("*.py")), ids=lambda p: p.name
)
def test_nobody_shadows_or_imports_the_datasets_library_or_the_tools(path):
    roots = {name.split(".")[0] for name in _imports(path, path.stem)}
    assert not roots & {"datasets", "preprocessing", "tools"}


@pytest.mark.parametrize("module, path", _modules(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_library_prints_nothing_and_parses_no_arguments(module, path):
    tree = ast.parse(path.read_text())
    calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    roots = {name.split(".")[0] for name in _imports(path, module)}
    assert "print" not in calls
    assert not roots & {"argparse", "datasets", "preprocessing", "tools"}


def test_files_stay_readable():
    for path in [p for _, p in _modules()] + sorted((REPOSITORY / "tools").glob("*.py")):
        assert len(path.read_text().splitlines()) <= 420, (
            f"{path.relative_to(REPOSITORY)} is too long to read in one go"
        )


def test_what_needs_no_network_works_where_torch_cannot_be_imported():
    modules = [m for m, _ in _modules() if _room(m) in _WITHOUT_TORCH]
    script = "import sys; sys.modules['torch'] = None\n" + "\n".join(f"import {m}" for m in modules)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("tool", sorted((REPOSITORY / "tools").glob("*.py")), ids=lambda path: path.name)
def test_tools_say_what_they_do(tool, monkeypatch, capsys):
    status, said, errors = run_tool(monkeypatch, capsys, tool.name, "--help")
    assert status == 0 and said.startswith("usage:") and not errors
