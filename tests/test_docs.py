"""What the documentation says is what the code does."""

import re

from conftest import REPOSITORY

from finepose_mp import schema
from finepose_mp.cameras import MODELS


def _code_blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / name).read_text(), flags=re.S)


def test_format_lists_every_variable_with_its_dimensions():
    text = (REPOSITORY / "docs" / "FORMAT.md").read_text()
    for name, variable in (schema.VARIABLES | schema.OPTIONAL_VARIABLES).items():
        assert f"| `{name}` | {' '.join(variable.dims)} |" in text
        assert variable.long_name in text


def test_format_lists_every_lens_model_with_its_parameters():
    text = (REPOSITORY / "docs" / "FORMAT.md").read_text()
    for name, model in MODELS.items():
        assert re.search(rf"\| `{name}`.* \| {' '.join(model.parameter_names)} \|", text)


def test_the_example_of_a_users_own_file_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = _code_blocks("FORMAT.md")[-1]
    exec(compile(example, "docs/FORMAT.md", "exec"), {})
    with schema.open_file(tmp_path / "office.h5") as file:
        assert schema.read_sequence(file, "office/take_1").person == ["anna", "ben"]


def test_every_test_that_the_method_names_exists():
    text = (REPOSITORY / "docs" / "METHOD.md").read_text()
    defined = "\n".join(path.read_text() for path in (REPOSITORY / "tests").glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 10
    assert not {name for name in named if f"def {name}(" not in defined}
    for name in re.findall(r"`(?:tests/)?(test_\w+\.py)`", text):
        assert (REPOSITORY / "tests" / name).is_file(), name
