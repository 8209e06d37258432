"""The commands in the documentation: finding them in its pages, and running them on small data without a new process.

A command is a line of a fenced block that begins with one of `LAUNCHERS`; in blocks marked `bash` or `sh` every line
has to be one, and in blocks marked `console` those that begin with `$` are. The tools are run by their `main`, in a
folder that looks to them like the project's own with small data in it. What cannot run here stands in `NOT_RUN` with
the reason, and is checked as far as its arguments go.
"""

import argparse
import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState
from conftest import REPOSITORY
from matplotlib.figure import Figure
from torch.distributed.run import get_args_parser

from finepose_mp.config import Config, load_config

LAUNCHERS = ("python", "python3", "accelerate", "torchrun", "make", "pip", "rerun")
PAGES = sorted(path.name for path in (REPOSITORY / "docs").glob("*.md"))

# Page and command -> why it is not run. The arguments of our own programs, and of launchers, are parsed all the same.
_MEASURED = "was measured at its full size; the same programs run from other pages"
NOT_RUN = {
    ("*", "make *"): "tests/test_whole_path.py runs what it runs; the target must exist",
    ("*", "python3 -m venv *"): "makes a virtual environment",
    ("*", "pip install *"): "downloads",
    ("*", "accelerate launch *two_nodes*"): "needs a second machine",
    ("*", "accelerate launch *eight_gpus*"): "needs eight GPUs",
    ("*", "*.mp4*"): "needs the extra `video`",
    ("*", "*--rerun *"): "needs the extra `rerun`",
    ("*", "rerun *"): "opens a window",
    ("CONVERT.md", "python convert_on_dask.py"): "is the page's own script, for a cluster",
    ("CONVERT.md", "* --catalogue harmony4d.yaml *"): "needs its takes; tests/test_convert_catalogue.py makes some",
    ("RESULTS.md", "*"): _MEASURED,
    ("SCALING.md", "*"): _MEASURED,
    ("*", "python tools/benchmark*"): "measures time, for minutes",
    ("*", "python tools/measure_scene.py*"): "measures takes of full length, for minutes",
}

# Program -> arguments that make its work small. They come last, where they replace those of the page.
_SMALL_RUN = (
    "model.width=16 model.depth=1 model.heads=2 model.prompt.text_weights=random data.window=9 data.num_workers=0 "
    "training.batch_size=4 training.epochs=1 training.max_steps=2 evaluation.hypotheses=2 evaluation.sampling_steps=1 "
    'evaluation.flip=false training.mixed_precision="no"'
)
SMALL = {
    "train.py": f"--set {_SMALL_RUN}",
    "tools/simulate.py": "--scenes tagging basketball --takes 2 --frames 9 --benchmark",
    "tools/convert.py": "--jobs 1 --overwrite",
    "tools/evaluate.py": "--overwrite",
    "tools/visualize.py": "--overwrite",
    "tools/predict.py": "--overwrite",
    "tools/export.py": "--overwrite",
}


class Parsed(Exception):
    """Arguments were accepted; nothing else was to be done."""


@dataclass(frozen=True)
class Command:
    """One command of a page, its comment and variables dropped."""

    page: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def program(self) -> str | None:
        """Our own program that it runs, such as tools/evaluate.py; None for others."""
        return next((word for word in self.words if re.fullmatch(r"(tools/\w+|train)\.py", word)), None)

    @property
    def arguments(self) -> list[str]:
        """What that program is given."""
        return list(self.words[self.words.index(self.program) + 1 :])

    @property
    def reason_not_to_run(self) -> str | None:
        """Out of `NOT_RUN`."""
        return next((why for (page, text), why in NOT_RUN.items() if self.is_meant_by(page, text)), None)

    def is_meant_by(self, page: str, text: str) -> bool:
        """Whether an entry of `NOT_RUN` is about this command."""
        return fnmatch(self.page, page) and fnmatch(self.text, text)


def commands_of(page: str) -> list[Command]:
    """The commands of a page in its order, those in shell loops once for every value."""
    path = REPOSITORY / ("README.md" if page == "README.md" else f"docs/{page}")
    found = []
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", path.read_text(), flags=re.S | re.M):
        if language == "console":
            block = "\n".join(line.strip()[2:] for line in block.splitlines() if line.strip().startswith("$ "))
        if language in ("", "bash", "sh", "console"):
            found += _commands(page, _loops_unrolled(block.replace("\\\n", " ")), every_line=language != "")
    return found


def _loops_unrolled(block: str) -> str:
    def unrolled(match: re.Match) -> str:
        name, values, body = match.groups()
        return "".join(re.sub(rf"\$\{{?{name}\b\}}?", value, body) for value in values.split())

    return re.sub(r"for (\w+) in ([^;\n]*); do\n(.*?)done", unrolled, block, flags=re.S)


def _commands(page: str, block: str, every_line: bool) -> Iterator[Command]:
    for line in block.splitlines():
        if not every_line and not re.match(rf"\s*([A-Z_]+=\S+ )*({'|'.join(LAUNCHERS)})\s", line):
            continue
        words = shlex.split(line, comments=True)
        for part in " ".join(shlex.quote(word) for word in words).split(" '&&' ") if words else ():
            words = [word for word in shlex.split(part) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
            if words[0] in (".", "cd"):
                continue
            assert words[0] in LAUNCHERS, f"{page}: {line.strip()!r} begins with none of {', '.join(LAUNCHERS)}"
            yield Command(page, tuple(words))


@dataclass
class Runner:
    """Runs commands in a folder; each once, however often it is asked for."""

    folder: Path
    done: set[str] = field(default_factory=set)

    def run(self, command: Command) -> None:
        """Runs a command, or parses it where it is not to be run."""
        self._check_launcher(command)
        if command.program is None:
            assert command.reason_not_to_run, f"{command.page}: {command.text!r} is neither run nor in NOT_RUN"
            return
        if command.reason_not_to_run:
            self._parse(command)
        elif command.text not in self.done:
            arguments = [*self._globbed(command.arguments), *SMALL.get(command.program, "").split()]
            if command.program == "train.py" and "--resume" not in arguments:
                self._forget(_config(arguments).run_dir)
            status = self._main(command.program, arguments)
            assert status in (0, None), f"{command.page}: {command.text!r} ended with {status}"
            self.done.add(command.text)

    def _forget(self, run_dir: Path) -> None:
        """Makes room for a run, and drops what was done with an earlier one of that name."""
        shutil.rmtree(self.folder / run_dir, ignore_errors=True)
        self.done = {text for text in self.done if str(run_dir) not in text}

    def _check_launcher(self, command: Command) -> None:
        words = list(command.words)
        if words[0] == "make":
            targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), flags=re.M)
            assert {word for word in words[1:] if "=" not in word} <= set(targets), command.text
        elif words[:2] == ["accelerate", "launch"]:
            launch_command_parser().parse_args(words[2:])
        elif words[0] == "torchrun":
            get_args_parser().parse_args(words[1:])

    def _parse(self, command: Command) -> None:
        """Checks that the program takes these arguments, and for training that the configuration is valid."""

        def stop(parser: argparse.ArgumentParser, *_args: object, **_more: object) -> None:
            parsed = original(parser)
            if command.program == "train.py":
                load_config(parsed.config, parsed.overrides)
            raise Parsed

        original = argparse.ArgumentParser.parse_args
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Parsed):
            patch.setattr(argparse.ArgumentParser, "parse_args", stop)
            self._main(command.program, command.arguments)
            raise AssertionError(f"{command.text}: its arguments were not parsed")

    def _main(self, program: str, arguments: list[str]) -> int | None:
        path = REPOSITORY / program
        specification = importlib.util.spec_from_file_location(f"run_{path.stem}", path)
        module = importlib.util.module_from_spec(specification)
        heard = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.folder):
            patch.setattr(Figure, "savefig", _save_empty)
            patch.setattr(sys, "argv", [program, *arguments])
            patch.setenv("ACCELERATE_USE_CPU", "true")
            patch.setitem(sys.modules, specification.name, module)
            try:
                with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
                    specification.loader.exec_module(module)
                    return module.main()
            except SystemExit as end:
                raise AssertionError(f"{program} {' '.join(arguments)}: {end}\n{heard.getvalue()}") from end
            finally:
                AcceleratorState._reset_state(reset_partial_state=True)
                self.heard = heard.getvalue()

    def _globbed(self, words: list[str]) -> list[str]:
        matches = {word: sorted(self.folder.glob(word)) for word in words if "*" in word}
        return [
            str(each)
            for word in words
            for each in ([os.path.relpath(path, self.folder) for path in matches[word]] if word in matches else [word])
        ]


_save = Figure.savefig


def _save_empty(_figure: Figure, *where: object, **how: object) -> None:
    """Saves a picture without anything in it: drawing would be most of the work, and the tests of the tools draw."""
    _save(Figure(figsize=(0.1, 0.1)), *where, **how)


def _config(arguments: list[str]) -> Config:
    """The configuration that train.py would use."""
    file = arguments[arguments.index("--config") + 1] if "--config" in arguments else "configs/egohumans.yaml"
    return load_config(REPOSITORY / file, [word for word in arguments if "=" in word])
