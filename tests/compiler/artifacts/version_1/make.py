"""Makes the files beside it: what a Hansa that wrote version 1 of the format has saved, kept for tests of later ones.

Run once, with the last Hansa that wrote version 1; a later one writes another version.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import hansa

TABLE = np.arange(6, dtype=np.float32).reshape(2, 3)


@hansa.federated_computation("{float32[2]}@CLIENTS", "float32@SERVER")
def two_stages(values, factor):
    """A mean of what is projected by a table, and then the largest distance from it times a factor."""
    done = hansa.federated_map(hansa.jax_computation(lambda x: x @ jnp.asarray(TABLE)), values)
    mean = hansa.federated_mean(done)
    scaled = hansa.federated_map(hansa.jax_computation(lambda mean, factor: mean * factor), [mean, factor])
    away = hansa.federated_map(
        hansa.jax_computation(lambda x, mean: jnp.abs(x - mean).max()), [done, hansa.federated_broadcast(scaled)]
    )
    return {"mean": mean, "largest": hansa.federated_max(away), "note": "text", "table": TABLE}


def main(folder: Path) -> None:
    hansa.save(two_stages, folder / "two_stages.hansa", platforms=["cpu"])
    hansa.save(hansa.load_client_stage(folder / "two_stages.hansa", 1), folder / "device.hansa")
    state = hansa.Struct.of(weights=TABLE, count=np.int64(3))
    kind = hansa.to_type("<weights=float32[2,3],count=int64>")
    hansa.program.save_checkpoint(folder / "checkpoint.hansa", hansa.program.Checkpoint(12, state), kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
