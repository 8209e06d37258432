"""Checks any file of the HDF5 contract: `python tools/validate.py data/egohumans.h5`. docs/VALIDATE.md is its guide.

Exit status: 0 sound (no warning, no error), 1 findings, 2 unusable: it cannot be read, or not as this contract.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from finepose_mp import validation
from finepose_mp.preprocessing.egohumans import benchmark_oracles
from finepose_mp.validation.findings import INFO, Report

EXIT = {"sound": 0, "findings": 1, "unusable": 2}
_MOST_OF_A_KIND = 20  # lines of one check; --json has them all


def main() -> int:
    arguments = _parse_arguments()
    with tqdm(unit="sequence", desc="validate", dynamic_ncols=True, disable=arguments.json) as progress:
        report = validation.validate_isolated(arguments.file, on_sequence=lambda name: _show(progress, name))
    status, compared = EXIT[report.verdict], None
    if arguments.benchmark and status < 2:
        try:
            compared = benchmark_oracles.compare_file(arguments.file, arguments.benchmark)
        except (ValueError, OSError) as error:
            print(f"validate: {error}", file=sys.stderr)
            return 2
        status = max(status, int(bool(compared.problems)))
    if arguments.json:
        answer = report.as_dict() | ({"benchmark": compared.as_dict()} if compared else {})
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _print(report)
        if compared:
            _print_benchmark(compared)
    return status


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE.h5")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, info and measurements included")
    parser.add_argument(
        "--benchmark",
        type=Path,
        metavar="DIR",
        help="also compare with the published EgoHumans benchmark files: extrinsics, 3D joints and pixels",
    )
    return parser.parse_args()


def _show(progress: tqdm, name: str) -> None:
    progress.set_postfix_str(name, refresh=False)
    progress.update()


def _print(report: Report) -> None:
    """Warnings and errors one a line, then the verdict."""
    printed: Counter = Counter()
    for finding in report.findings:
        if finding.severity != INFO:
            printed[finding.check] += 1
            if printed[finding.check] <= _MOST_OF_A_KIND:
                print(finding)
    for check, count in printed.items():
        if count > _MOST_OF_A_KIND:
            print(f"... and {count - _MOST_OF_A_KIND} more findings of {check}; --json lists them")
    if report.unusable:
        print(f"validate: {report.unusable}", file=sys.stderr)
    checked = ", ".join(f"{count} {what}" for what, count in report.checked.items()) or "nothing"
    counts = ", ".join(f"{count} {severity}" for severity, count in report.counts.items())
    print(f"{report.path}: {report.verdict}; checked {checked}; {counts}")


def _print_benchmark(compared: benchmark_oracles.FileResult) -> None:
    """How every camera compares with the published files, and what is odd about those."""
    for take in compared.takes:
        print(take)
        for camera in take.cameras:
            print(f"  {camera}")
    print(*compared.notes, sep="\n")
    print(f"{compared.folder}: {len(compared.takes)} takes compared, {len(compared.problems)} beyond tolerance")


if __name__ == "__main__":
    sys.exit(main())
