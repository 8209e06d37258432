"""Where the results of an evaluation are written, and writing them whole."""

import json
from pathlib import Path

from finepose_mp.evaluation.protocols import render
from finepose_mp.files import appearing


def results_paths(folder: Path, split: str, data_file: Path, prompt_condition: str | None = None) -> tuple[Path, Path]:
    """Paths of the JSON and Markdown results: results_<split>_<name of the data file>.json and .md in the folder.

    An asked prompt condition is appended as _prompt-<condition>. Evaluations of one run on other data, another split or
    under another condition lie side by side; others need a folder of their own.
    """
    name = f"results_{split}_{Path(data_file).stem}{f'_prompt-{prompt_condition}' if prompt_condition else ''}"
    return Path(folder) / f"{name}.json", Path(folder) / f"{name}.md"


def write_results(results: dict, paths: tuple[Path, Path]) -> None:
    """Writes results.json and results.md under the given names; each appears whole or not at all."""
    texts = (json.dumps(results, indent=2, allow_nan=False) + "\n", render(results))
    for path, text in zip(paths, texts, strict=True):
        with appearing(path, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8")
