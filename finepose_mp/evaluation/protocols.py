"""The protocols by name, which of them fits a file, and the way from results back to the protocol that made them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finepose_mp import schema
from finepose_mp.evaluation import egohumans, tables
from finepose_mp.evaluation.human36m import protocol as human36m
from finepose_mp.evaluation.human36m import tables as human36m_tables
from finepose_mp.evaluation.mpi_inf_3dhp import protocol as mpi_inf_3dhp
from finepose_mp.evaluation.mpi_inf_3dhp import tables as mpi_inf_3dhp_tables
from finepose_mp.evaluation.options import Options
from finepose_mp.evaluation.preparation import Evaluation
from finepose_mp.evaluation.scoring import EvaluationError

_AS_THE_RUN_SAYS = Options()


@dataclass(frozen=True)
class Protocol:
    """How one kind of data is scored and reported.

    Attributes:
        evaluate: (run_dir, data_file, options) -> Evaluation, None on every process but the main one.
        render: results -> the whole report in Markdown.
        headline_table: results -> the table that answers first, in Markdown.
        datasets: names of data sets (root attribute of a file) that it is meant for, in lower case without punctuation.
    """

    evaluate: Callable[[Path, Path, Options], Evaluation | None]
    render: Callable[[dict], str]
    headline_table: Callable[[dict], str]
    datasets: tuple[str, ...] = ()


PROTOCOLS: dict[str, Protocol] = {
    "egohumans": Protocol(egohumans.evaluate, tables.render, tables.headline_table, ("egohumans",)),
    "human36m": Protocol(human36m.evaluate, human36m_tables.render, human36m_tables.headline_table, ("human36m",)),
    "mpi-inf-3dhp": Protocol(
        mpi_inf_3dhp.evaluate, mpi_inf_3dhp_tables.render, mpi_inf_3dhp_tables.headline_table, ("mpiinf3dhp",)
    ),
}
ANY_DATA = "egohumans"  # numbers per scene: fits every file of the contract


def evaluate(
    run_dir: Path, data_file: Path, options: Options = _AS_THE_RUN_SAYS, protocol: str | None = None
) -> Evaluation | None:
    """The evaluation of a trained model on one file; None on every process but the main one.

    Args:
        run_dir: of a training run. data_file: of the contract. options: see `Options`.
        protocol: a name in `PROTOCOLS`; None: the one that fits the file's data set.

    Raises:
        EvaluationError: unknown protocol, or what the protocol raises.
    """
    return _named(protocol or protocol_for(data_file)).evaluate(run_dir, data_file, options)


def protocol_for(data_file: Path) -> str:
    """Name of the protocol that fits a file's data set; one that reports scenes where no other does.

    Raises:
        FileNotFoundError, schema.SchemaError: the file cannot be read.
    """
    with schema.open_file(data_file) as file:
        dataset = re.sub(r"[^a-z0-9]", "", str(file.attrs.get("dataset", "")).lower())
    return next((name for name, protocol in PROTOCOLS.items() if dataset in protocol.datasets), ANY_DATA)


def render(results: dict) -> str:
    """The whole report in Markdown, from the contents of results.json."""
    return _named(results["protocol"]).render(results)


def headline_table(results: dict) -> str:
    """The table that answers first, in Markdown, from the contents of results.json."""
    return _named(results["protocol"]).headline_table(results)


def _named(protocol: str) -> Protocol:
    if protocol not in PROTOCOLS:
        raise EvaluationError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]
