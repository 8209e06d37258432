"""Converts a raw dataset into one HDF5 file: `python tools/convert.py egohumans`. docs/CONVERT.md is its guide.

Exit status: 0 everything converted, 1 some sequences failed (the others are in the file), 2 nothing was written.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from finepose_mp.preprocessing.conversion import ConversionError, Outcome
from finepose_mp.preprocessing.egohumans import dataset as egohumans
from finepose_mp.preprocessing.egohumans.catalogue import load_catalogue, released
from finepose_mp.preprocessing.egohumans.discovery import find_misplaced
from finepose_mp.preprocessing.egohumans.findings import CHECKS
from finepose_mp.preprocessing.findings_report import write_report
from finepose_mp.preprocessing.human36m import dataset as human36m
from finepose_mp.preprocessing.human36m.archive import find_archive as find_human36m
from finepose_mp.preprocessing.human36m.findings import CHECKS as HUMAN36M_CHECKS
from finepose_mp.preprocessing.mpi_inf_3dhp import dataset as mpi_inf_3dhp
from finepose_mp.preprocessing.mpi_inf_3dhp.facts import CAMERA_SETS
from finepose_mp.preprocessing.mpi_inf_3dhp.facts import CHECKS as MPI_INF_3DHP_CHECKS


def main() -> int:
    arguments = _parse_arguments()
    try:
        outcomes, unused = arguments.convert(arguments)
    except (ValueError, OSError, ConversionError) as error:
        print(f"convert: {_in_words(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("convert: interrupted; the same command with --resume goes on from here", file=sys.stderr)
        return 2
    _print_summary(outcomes, arguments.out)
    for outcome in unused:
        print(f"  NOT USED {outcome.name}: {outcome.error}")
    try:
        print(f"Everything that was found: {write_report(arguments.out, outcomes + unused, arguments.checks)}")
    except OSError as error:  # the converted file is there all the same, with every finding in it
        print(f"convert: no report of the findings could be written ({error})", file=sys.stderr)
    return int(any(outcome.error for outcome in outcomes))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    datasets = parser.add_subparsers(title="datasets", required=True, metavar="DATASET")
    egohumans_parser = _add_dataset(
        datasets, "egohumans", _convert_egohumans, CHECKS, "EgoHumans (ICCV 2023): archives or folders"
    )
    egohumans_parser.add_argument(
        "--catalogue",
        type=Path,
        metavar="FILE.yaml",
        help="scenes and takes of another dataset of the same layout, such as Harmony4D; see docs/CONVERT.md",
    )
    egohumans_parser.add_argument(
        "--benchmark",
        type=Path,
        metavar="DIR",
        help="published benchmark files, or a detector's in their form: their keypoints become the detected 2D",
    )
    human36m_title = "Human3.6M: official CDF files, npz, or 3d-pose-baseline's tree"
    human36m_parser = _add_dataset(datasets, "human36m", _convert_human36m, HUMAN36M_CHECKS, human36m_title)
    human36m_parser.add_argument(
        "--detections",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="data_2d_h36m_*.npz, or a tree with StackedHourglass; of several the first that has a clip counts",
    )
    human36m_parser.add_argument(
        "--correct-shifted-takes",
        action="store_true",
        help="take out the 200 mm by which three takes of S9 are shifted",
    )
    mpi_title = "MPI-INF-3DHP: official .mat files, or community npz files"
    mpi_parser = _add_dataset(datasets, "mpi-inf-3dhp", _convert_mpi_inf_3dhp, MPI_INF_3DHP_CHECKS, mpi_title)
    mpi_parser.add_argument(
        "--cameras",
        choices=CAMERA_SETS,
        default="vnect",
        help="training cameras: the eight of the literature, or all (default: %(default)s)",
    )
    return parser.parse_args()


def _add_dataset(datasets, name: str, convert: Callable, checks: dict[str, str], title: str) -> argparse.ArgumentParser:
    """The parser of one dataset with the arguments that all have; `checks` says what each finding expects."""
    parser = datasets.add_parser(name, help=title, description=title)
    parser.add_argument(
        "--raw",
        type=Path,
        default=Path("data/raw") / name,
        metavar="DIR",
        help="raw data: the folder of all sequences, or a part of it (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data") / f"{name}.h5", metavar="FILE.h5", help="default: %(default)s"
    )
    parser.add_argument("--jobs", type=_job_count, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep what is finished, interrupted or not, and do the rest: what failed, is new or has changed",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.h5 if it exists")
    parser.set_defaults(convert=convert, checks=checks)
    return parser


def _job_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes; give 1 or more")
    return int(text)


# Each of these returns what became of the sequences, and what else lies there, unused, that nobody asked for.
def _convert_egohumans(arguments: argparse.Namespace) -> tuple[list[Outcome], list[Outcome]]:
    raw, catalogue = arguments.raw, load_catalogue(arguments.catalogue) if arguments.catalogue else released()
    takes = egohumans.find_takes(raw, catalogue)
    try:
        with _progress(catalogue.dataset, len(takes)) as show:
            outcomes = egohumans.convert(
                takes,
                arguments.out,
                on_take=show,
                catalogue=catalogue,
                benchmark=arguments.benchmark,
                **_how(arguments),
            )
    except ConversionError as error:
        unused = [f"  NOT USED {name}: {why}" for name, why in find_misplaced(raw, takes, (), catalogue).items()]
        raise ConversionError("\n".join([str(error), *unused])) from error
    converted = {outcome.name for outcome in outcomes if not outcome.error}
    misplaced = find_misplaced(raw, takes, converted, catalogue)
    return outcomes, [Outcome(name, str(raw / name), error=why) for name, why in misplaced.items()]


def _convert_human36m(arguments: argparse.Namespace) -> tuple[list[Outcome], list[Outcome]]:
    archive = find_human36m(arguments.raw)
    with _progress("human36m", len(archive.poses)) as show:
        report = human36m.convert(
            archive,
            arguments.out,
            detection_paths=arguments.detections,
            correct_shift=arguments.correct_shifted_takes,
            on_done=show,
            **_how(arguments),
        )
    print(*report.summary(), sep="\n")
    return report.outcomes, []


def _convert_mpi_inf_3dhp(arguments: argparse.Namespace) -> tuple[list[Outcome], list[Outcome]]:
    work = mpi_inf_3dhp.find_work(arguments.raw, arguments.cameras)
    with _progress("mpi-inf-3dhp", len(work)) as show:
        return mpi_inf_3dhp.convert(work, arguments.out, on_done=show, **_how(arguments)), []


def _how(arguments: argparse.Namespace) -> dict:
    """The arguments that go to every dataset's `convert` as they are."""
    return {"jobs": arguments.jobs, "resume": arguments.resume, "overwrite": arguments.overwrite}


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[Outcome], None]]:
    """A progress bar over sequences, as the function that moves it on; it shows how fast frames are converted."""
    frames = 0
    with tqdm(total=total, unit="sequence", desc=name, dynamic_ncols=True) as bar:

        def show(outcome: Outcome) -> None:
            nonlocal frames
            frames += outcome.frames
            rate = frames / max(bar.format_dict["elapsed"], 1e-3)
            bar.set_postfix_str(f"{rate:.0f} frames/s, {outcome.name}", refresh=False)
            bar.update()

        yield show


def _in_words(error: Exception) -> str:
    """An error's message; of the operating system's errors without their number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _print_summary(outcomes: list[Outcome], out: Path) -> None:
    """Counts, then everything that needs attention: findings of severity error, and sequences that failed."""
    good = [outcome for outcome in outcomes if not outcome.error]
    severities = Counter(finding["severity"] for outcome in good for finding in outcome.findings)
    counted = ", ".join(f"{severities[severity]} {severity}" for severity in ("error", "warning", "info"))
    print(f"{out}: {len(good)} sequences, {sum(outcome.frames for outcome in good)} frames; findings: {counted}")
    for outcome in good:
        for finding in outcome.findings:
            if finding["severity"] == "error":
                print(f"  {outcome.name}: {finding['message']}")
    for outcome in outcomes:
        if outcome.error:
            place = "" if outcome.source in outcome.error else f" ({outcome.source})"
            label = "NOT USED" if outcome.name in {other.name for other in good} else "FAILED"  # a copy of a good one
            print(f"  {label} {outcome.name}{place}: {outcome.error}")
    if len(good) < len(outcomes):
        print("Once that is put right, the same command with --resume tries again what failed and keeps all others.")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text; stderr is like that by itself
    sys.exit(main())
