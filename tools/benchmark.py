"""Measures what things cost: python tools/benchmark.py {convert,load,train,infer,all}.

Costs are ratios to a yardstick that runs between the repeats, so that they can be compared between machines and do not
move when somebody else uses this one.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from finepose_mp import benchmark
from finepose_mp.benchmark.arms import preset_arms
from finepose_mp.benchmark.measuring import BenchmarkError, has_compiler
from finepose_mp.config import DataConfig


def main() -> int:
    arguments = _parser().parse_args()
    try:
        found = run(arguments)
    except (OSError, ValueError, BenchmarkError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))
    return 0


def run(arguments: argparse.Namespace) -> dict:
    around = benchmark.surroundings(arguments.device, arguments.threads)
    print(", ".join(f"{key} {value}" for key, value in around.items() if value is not None))
    found, everything = dict(around), arguments.what == "all"
    if arguments.what == "convert" or (everything and arguments.raw):
        found["convert"] = asdict(benchmark.measure_conversion(arguments.raw, arguments.jobs))
        _print_values("convert", found["convert"])
    if arguments.what == "load" or (everything and arguments.data):
        found["load"] = [asdict(_loading(arguments, workers)) for workers in arguments.workers]
        for row in found["load"]:
            _print_values("load", row)
    if arguments.what in ("train", "infer", "all"):
        found |= benchmark.as_json(_measure(arguments), around)
    return found


def _measure(arguments: argparse.Namespace) -> list[benchmark.Measurement]:
    measurements = []
    for arm in _arms(arguments):
        measurements.append(benchmark.measure(arm, arguments.device, arguments.threads, arguments.repeats))
        if len(measurements) == 1:
            print(benchmark.table(measurements))
        else:
            print(benchmark.table(measurements).splitlines()[-1], flush=True)
    return measurements


def _arms(arguments: argparse.Namespace) -> list[benchmark.Arm]:
    sizes = benchmark.Sizes(
        *(arguments.width, arguments.depth, arguments.heads),
        *(arguments.text_width, arguments.text_depth, arguments.text_heads),
    )
    compiler, arms = has_compiler(), []
    if arguments.what in ("train", "all"):
        arms += benchmark.training_arms(sizes, arguments.windows, arguments.batches, compiler)
    if arguments.what in ("infer", "all"):
        arms += benchmark.inference_arms(
            sizes, arguments.windows, arguments.batches, arguments.hypotheses, arguments.steps, compiler
        )
        arms += preset_arms(sizes, arguments.windows[0]) if arguments.presets else []
    wanted = [arm for arm in arms if not arguments.only or any(part in arm.name for part in arguments.only)]
    if not wanted:
        raise ValueError(f"no arm is called like {arguments.only}; there are: {', '.join(arm.name for arm in arms)}")
    return wanted


def _loading(arguments: argparse.Namespace, workers: int) -> benchmark.data.Loading:
    if arguments.data is None:
        raise ValueError("load needs --data FILE.h5, a converted file")
    data = DataConfig(files=[arguments.data], window=arguments.windows[0], split_scheme=arguments.split_scheme)
    return benchmark.measure_loading(data, max([1, *arguments.batches]), workers)


def _print_values(title: str, values: dict) -> None:
    print(f"{title}: " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("convert", "load", "train", "infer", "all"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number, and where it is from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: 1, measured in CPU time)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="PART", help="only arms with one of these in their names")
    parser.add_argument("--presets", action="store_true", help="also measure the presets (the papers' is slow)")

    work = parser.add_argument_group("work; the first of several is what other arms are varied from")
    work.add_argument("--windows", type=int, nargs="+", default=[27, 81, 243], metavar="N", help="frames")
    work.add_argument("--batches", type=int, nargs="*", default=[4], metavar="B", help="beside 1")
    work.add_argument("--hypotheses", type=int, nargs="+", default=[5, 1, 20], metavar="H")
    work.add_argument("--steps", type=int, nargs="+", default=[5, 1], metavar="S")

    sizes, defaults = parser.add_argument_group("sizes of the network (default: the papers')"), benchmark.Sizes()
    for name, value in asdict(defaults).items():
        sizes.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help="default: %(default)s")

    data = parser.add_argument_group("data")
    data.add_argument("--raw", type=Path, metavar="DIR", help="EgoHumans takes, for convert")
    data.add_argument("--jobs", type=int, default=1, help="of the conversion (default: 1)")
    data.add_argument("--data", type=Path, metavar="FILE.h5", help="converted file, for load")
    data.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the loader (default: 0 2)")
    data.add_argument("--split-scheme", choices=("official", "within_scene"), default="official")
    return parser


if __name__ == "__main__":
    sys.exit(main())
