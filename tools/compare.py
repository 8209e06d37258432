"""One table of several results: a checkpoint under several prompts, or several models on the same takes.

  python tools/compare.py runs/a/results_test_data.json runs/b/results_test_data.json

Rows are each result's first deployable row and its best oracle, columns are scenes. Below it stands every choice in
which the results differ. Results on other data, another split, other joints or another frame rate are refused.
"""

import argparse
import json
import sys
from pathlib import Path

from finepose_mp.evaluation.comparison import compare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS.json", help="written by tools/evaluate.py")
    parser.add_argument(
        "--metric", default="mpjpe", help="such as mpjpe, p_mpjpe, mpjve, pck_150, auc_150 (default: %(default)s)"
    )
    arguments = parser.parse_args()
    try:
        print(compare({str(path): read(path) for path in arguments.results}, arguments.metric))
    except (OSError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    return 0


def read(path: Path) -> dict:
    if path.is_dir():
        found = ", ".join(sorted(str(each) for each in path.glob("results_*.json"))) or "none: run tools/evaluate.py"
        raise ValueError(f"{path}: is a directory; give its results_*.json (found {found})")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); give the results_*.json of tools/evaluate.py") from error
    if not isinstance(results, dict) or not {"scenes", "choices", "headline"} <= results.keys():
        raise ValueError(f"{path}: not results of tools/evaluate.py")
    return results


if __name__ == "__main__":
    sys.exit(main())
