"""Converts a raw data set into one HDF5 file: `python tools/convert.py egohumans`.

Exit status: 0 all takes converted, 1 some failed (the others are in the file), 2 nothing was written.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from finepose_mp.preprocessing.egohumans import dataset as egohumans


def main() -> int:
    arguments = _parse_arguments()
    try:
        return arguments.convert(arguments)
    except (ValueError, OSError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("convert: interrupted, nothing was written", file=sys.stderr)
        return 2


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    datasets = parser.add_subparsers(title="data sets", required=True, metavar="DATASET")
    _add_dataset(datasets, "egohumans", _convert_egohumans, "EgoHumans (ICCV 2023), unpacked takes")
    return parser.parse_args()


def _add_dataset(datasets, name: str, convert, title: str) -> None:
    parser = datasets.add_parser(name, help=title, description=title)
    parser.add_argument(
        "--raw",
        type=Path,
        default=Path("data/raw") / name,
        metavar="DIR",
        help="raw data: the folder of all big sequences, one big sequence, or one take (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data") / f"{name}.h5", metavar="FILE.h5", help="default: %(default)s"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.h5 if it exists")
    parser.set_defaults(convert=convert)


def _convert_egohumans(arguments: argparse.Namespace) -> int:
    takes = egohumans.find_takes(arguments.raw)
    frames, seconds = 0, 0.0
    with tqdm(total=len(takes), unit="take", desc="egohumans", dynamic_ncols=True) as progress:

        def show(outcome: egohumans.Outcome) -> None:
            nonlocal frames, seconds
            frames, seconds = frames + outcome.frames, seconds + outcome.seconds
            progress.set_postfix_str(f"{frames / seconds:.0f} frames/s, {outcome.take.facts.name}", refresh=False)
            progress.update()

        outcomes = egohumans.convert(takes, arguments.out, arguments.overwrite, on_take=show)
    _print_summary(outcomes, arguments.out)
    return int(any(outcome.error for outcome in outcomes))


def _print_summary(outcomes: list[egohumans.Outcome], out: Path) -> None:
    """Counts, then everything that needs attention: findings of severity error, and takes that failed."""
    good = [outcome for outcome in outcomes if not outcome.error]
    severities = Counter(finding["severity"] for outcome in good for finding in outcome.findings)
    counted = ", ".join(f"{severities[severity]} {severity}" for severity in ("error", "warning", "info"))
    print(f"{out}: {len(good)} takes, {sum(outcome.frames for outcome in good)} frames; findings: {counted}")
    for outcome in good:
        for finding in outcome.findings:
            if finding["severity"] == "error":
                print(f"  {outcome.take.facts.name}: {finding['message']}")
    for outcome in outcomes:
        if outcome.error:
            print(f"  FAILED {outcome.take.facts.name} ({outcome.take.folder}): {outcome.error}")


if __name__ == "__main__":
    sys.exit(main())
