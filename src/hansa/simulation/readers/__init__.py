"""Readers: clients from data frames, files and datasets of other libraries. Each gives a `ClientData`."""

from hansa.simulation.readers.csv_files import from_csv
from hansa.simulation.readers.folders import from_folder
from hansa.simulation.readers.frames import from_frame
from hansa.simulation.readers.huggingface import from_huggingface
from hansa.simulation.readers.json_lines import from_json_lines
from hansa.simulation.readers.leaf import from_leaf
from hansa.simulation.readers.parquet import from_parquet
from hansa.simulation.readers.text_files import from_text_files
from hansa.simulation.readers.tf_datasets import from_tf_datasets
from hansa.simulation.readers.tff_hdf5 import from_tff_hdf5
from hansa.simulation.readers.tff_sqlite import from_tff_sqlite

__all__ = [
    "from_csv",
    "from_folder",
    "from_frame",
    "from_huggingface",
    "from_json_lines",
    "from_leaf",
    "from_parquet",
    "from_text_files",
    "from_tf_datasets",
    "from_tff_hdf5",
    "from_tff_sqlite",
]
