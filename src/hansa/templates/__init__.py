"""Processes: computations that belong together and pass a state on."""

from hansa.templates.aggregation import AggregationProcess
from hansa.templates.composition import chain_measured_processes, concatenate_measured_processes
from hansa.templates.iterative import IterativeProcess
from hansa.templates.measured import MeasuredOutput, MeasuredProcess

__all__ = [
    "AggregationProcess",
    "IterativeProcess",
    "MeasuredOutput",
    "MeasuredProcess",
    "chain_measured_processes",
    "concatenate_measured_processes",
]
