"""The loop of many rounds: checkpoints, metrics, callbacks and progress, for runs that may be stopped or killed."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.program.callbacks import BestModel as BestModel
    from hansa.program.callbacks import Callback as Callback
    from hansa.program.callbacks import EarlyStopping as EarlyStopping
    from hansa.program.checkpoints import Checkpoint as Checkpoint
    from hansa.program.checkpoints import CheckpointError as CheckpointError
    from hansa.program.checkpoints import load_checkpoint as load_checkpoint
    from hansa.program.checkpoints import save_checkpoint as save_checkpoint
    from hansa.program.data_plans import read_data_plan as read_data_plan
    from hansa.program.history import History as History
    from hansa.program.loop import TrainingResult as TrainingResult
    from hansa.program.loop import train as train
    from hansa.program.progress import Progress as Progress
    from hansa.program.report import write_report as write_report
    from hansa.program.run_file import RunError as RunError
    from hansa.program.sinks import CSV as CSV
    from hansa.program.sinks import JsonLines as JsonLines
    from hansa.program.sinks import Sink as Sink
    from hansa.program.trackers import MLflow as MLflow
    from hansa.program.trackers import TensorBoard as TensorBoard
    from hansa.program.trackers import WeightsAndBiases as WeightsAndBiases
    from hansa.program.verification import Spent as Spent
    from hansa.program.verification import read_privacy as read_privacy
    from hansa.program.verification import verify_privacy as verify_privacy

_HOMES = {
    "hansa.program.callbacks": (
        "BestModel",
        "Callback",
        "EarlyStopping",
    ),
    "hansa.program.checkpoints": (
        "Checkpoint",
        "CheckpointError",
        "load_checkpoint",
        "save_checkpoint",
    ),
    "hansa.program.data_plans": ("read_data_plan",),
    "hansa.program.history": ("History",),
    "hansa.program.loop": (
        "TrainingResult",
        "train",
    ),
    "hansa.program.progress": ("Progress",),
    "hansa.program.report": ("write_report",),
    "hansa.program.run_file": ("RunError",),
    "hansa.program.sinks": (
        "CSV",
        "JsonLines",
        "Sink",
    ),
    "hansa.program.trackers": (
        "MLflow",
        "TensorBoard",
        "WeightsAndBiases",
    ),
    "hansa.program.verification": ("Spent", "read_privacy", "verify_privacy"),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
