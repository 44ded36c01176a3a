"""The loop of many rounds: checkpoints, metrics, callbacks and progress, for runs that may be stopped or killed."""

from hansa.program.callbacks import BestModel, Callback, EarlyStopping
from hansa.program.checkpoints import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from hansa.program.history import History
from hansa.program.loop import TrainingResult, train
from hansa.program.progress import Progress
from hansa.program.report import write_report
from hansa.program.run_file import RunError
from hansa.program.sinks import CSV, JsonLines, Sink
from hansa.program.trackers import MLflow, TensorBoard, WeightsAndBiases

__all__ = [
    "CSV",
    "BestModel",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "EarlyStopping",
    "History",
    "JsonLines",
    "MLflow",
    "Progress",
    "RunError",
    "Sink",
    "TensorBoard",
    "TrainingResult",
    "WeightsAndBiases",
    "load_checkpoint",
    "save_checkpoint",
    "train",
    "write_report",
]
