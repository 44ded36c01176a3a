"""Processes: computations that belong together and pass a state on."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.templates.aggregation import AggregationProcess as AggregationProcess
    from hansa.templates.composition import chain_measured_processes as chain_measured_processes
    from hansa.templates.composition import concatenate_measured_processes as concatenate_measured_processes
    from hansa.templates.estimators import EstimatorProcess as EstimatorProcess
    from hansa.templates.iterative import IterativeProcess as IterativeProcess
    from hansa.templates.measured import MeasuredOutput as MeasuredOutput
    from hansa.templates.measured import MeasuredProcess as MeasuredProcess

_HOMES = {
    "hansa.templates.aggregation": ("AggregationProcess",),
    "hansa.templates.composition": (
        "chain_measured_processes",
        "concatenate_measured_processes",
    ),
    "hansa.templates.estimators": ("EstimatorProcess",),
    "hansa.templates.iterative": ("IterativeProcess",),
    "hansa.templates.measured": (
        "MeasuredOutput",
        "MeasuredProcess",
    ),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
