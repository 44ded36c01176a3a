"""What the table `[privacy]` must have to do with the other tables of a run."""

from __future__ import annotations

from collections.abc import Iterator

from hansa.cli.config.algorithms import algorithm_of, takes
from hansa.cli.config.schema import PrivacyTable, RunConfig


def private_rules(config: RunConfig) -> list[str]:
    """What is wrong with a private run, a sentence for each thing."""
    table = config.privacy
    if table is None:
        return []
    problems = [
        f"privacy.{name} = {value}: it must be {range}"
        for name, value, range in (
            ("epsilon", table.epsilon, "more than 0, such as 8.0"),
            ("delta", table.delta, "between 0 and 1, such as 1e-6"),
            ("clip", table.clip, "more than 0"),
            ("noise_multiplier", table.noise_multiplier, "more than 0"),
            ("metrics_noise_multiplier", table.metrics_noise_multiplier, "more than 0"),
            ("sampling_rate", table.sampling_rate, "more than 0"),
        )
        if value is not None and (not value > 0 or (name == "delta" and value >= 1))
    ]
    of_unit = _of_examples if table.unit == "example" else _of_clients
    problems += [*of_unit(config, table), *_of_metrics(table)]
    if config.training.with_replacement:
        problems.append("training.with_replacement: a client that is drawn twice costs twice as much; leave it out")
    if config.data.held_out and config.data.held_out_by == "examples" and table.metrics != "open":
        problems.append(
            f"data.held_out = {config.data.held_out:g} holds out examples of the clients who train, and their metrics "
            'would be told without noise; hold out whole clients: data.held_out_by = "clients"'
        )
    return problems


def _of_clients(config: RunConfig, table: PrivacyTable) -> Iterator[str]:
    if config.aggregator is not None:
        yield "aggregator and privacy both say how updates become one; leave one of them out"
    if not takes(config, "aggregator"):
        yield f"privacy: {algorithm_of(config).name} takes no rule of aggregation, and so no noise"
    if config.training.weighting not in (None, "uniform"):
        yield (
            f'training.weighting = "{config.training.weighting}": a large client would change the model by more than '
            "the noise covers; leave it out"
        )
    if table.per_layer and table.clip is None:
        yield "privacy.per_layer is of a fixed norm; say privacy.clip, such as 0.5"
    for name in ("steps", "sampling_rate", "max_examples"):
        if getattr(table, name) is not None:
            yield f'privacy.{name} is of DP-SGD at each client; say privacy.unit = "example", or leave it out'


def _of_examples(config: RunConfig, table: PrivacyTable) -> Iterator[str]:
    if not takes(config, "client_optimizer"):
        yield f"privacy: {algorithm_of(config).name} takes no optimizer of clients, and so no DP-SGD"
    for name, example in (("clip", "1.0"), ("steps", "20")):
        if getattr(table, name) is None:
            yield f"privacy.{name} is missing, such as {example}: DP-SGD needs it"
    if table.per_layer:
        yield "privacy.per_layer is of clients' updates, and DP-SGD clips gradients as a whole; leave it out"
    if table.metric_ranges:
        yield "privacy.metric_ranges is of noise in sums over clients, which DP-SGD does not have; leave it out"
    for name, value in (("epochs", config.data.epochs != 1), ("steps", config.data.steps is not None)):
        if value:
            yield f"data.{name}: DP-SGD draws examples itself; say privacy.steps in its place"
    if config.training.weighting == "sample_weight":
        yield 'training.weighting = "sample_weight" tells of the examples without noise; leave it out'


def _of_metrics(table: PrivacyTable) -> Iterator[str]:
    if table.metric_ranges and table.metrics == "open":
        yield 'privacy.metrics = "open" tells all without noise, and privacy.metric_ranges some with it; leave one out'
    if table.metrics_noise_multiplier is not None and not table.metric_ranges:
        yield "privacy.metrics_noise_multiplier is of privacy.metric_ranges, which are not there"
    for name, bounds in table.metric_ranges.items():
        numbers = isinstance(bounds, list) and len(bounds) == 2 and all(type(each) in (int, float) for each in bounds)
        if not numbers or not bounds[0] < bounds[1]:
            yield f"privacy.metric_ranges.{name} = {bounds}: it must be the least and greatest value, such as [0, 1]"
