"""Measures rounds against the speed of this machine's own matrix product, in turn, and prints the table.

python -m benchmarks.run [--repeat 15] [--only NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import hansa
from benchmarks.workloads import Workload, all_workloads


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def matrix_product() -> tuple[Callable[[], object], float]:
    """A float32 matrix product on all cores, and its arithmetic: one of 2048 x 2048 per core, all at once."""
    devices = jax.devices()
    n = 2048
    mesh = jax.make_mesh((len(devices),), ("cores",), axis_types=(jax.sharding.AxisType.Auto,))
    shard = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("cores"))
    a = jax.device_put(np.random.default_rng(0).random((len(devices), n, n), "float32"), shard)
    alone = len(devices) > 1 and devices[0].platform == "cpu"
    product = jax.jit(
        jax.shard_map(lambda a: jnp.matmul(a, a), mesh=mesh, in_specs=shard.spec, out_specs=shard.spec),
        compiler_options={"xla_cpu_multi_thread_eigen": False} if alone else None,
    )
    return lambda: product(a), len(devices) * 2.0 * n**3


def measure(workload: Workload, repeat: int) -> dict[str, float | str]:
    """The workload's row: rounds and matrix products in turn."""
    process = workload.process()
    state = process.initialize()
    first = seconds(lambda: process.next(state, workload.data))
    product, flops = matrix_product()
    seconds(product)
    rounds, products = [], []
    for _ in range(repeat):
        rounds.append(seconds(lambda: process.next(state, workload.data)))
        products.append(seconds(product))
    work = workload.flops / flops
    pairs = [work * product / took for took, product in zip(rounds, products, strict=True)]
    return {
        "workload": workload.name,
        "seconds": statistics.median(rounds),
        "floor": work * statistics.median(products),
        "of_matrix_product": statistics.median(pairs),
        "of_matrix_product_at_best": work * min(products) / min(rounds),
        "matrix_product_gflops": flops / statistics.median(products) / 1e9,
        "first_round": first,
    }


def main() -> None:
    """Runs the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=15, help="rounds of each workload; the median counts")
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    devices = jax.devices()
    print(f"hansa {hansa.__version__}, jax {jax.__version__}, {len(devices)} x {devices[0].device_kind}\n")
    print(
        f"{'workload':38} {'s/round':>9} {'floor s':>9} {'of matmul':>10} {'at best':>8} {'GFLOP/s':>8} {'first s':>8}"
    )
    rows = []
    for workload in all_workloads():
        if options.only not in workload.name:
            continue
        row = measure(workload, options.repeat)
        rows.append(row)
        print(
            f"{row['workload']:38} {row['seconds']:9.4f} {row['floor']:9.4f} {row['of_matrix_product']:10.0%} "
            f"{row['of_matrix_product_at_best']:8.0%} "
            f"{row['matrix_product_gflops']:8.0f} {row['first_round']:8.2f}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
