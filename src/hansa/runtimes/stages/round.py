"""One call of a program as JAX code: server stages, and client stages as loops over clients spread on devices.

`whole` is the fused form, one XLA program for everything. `ServerPart` and `ClientPart` are the same steps apart, for
a cohort that is worked through in chunks. Sums do not depend on the order of clients; what is no sum is folded in the
cohort's (`in_order`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import Environment, evaluate
from hansa.compiler.partition import is_broadcast, is_stack, is_stacked, within
from hansa.compiler.program import ClientStage, Program
from hansa.compiler.sequences import Stack, from_stack
from hansa.compiler.shared_maps import shared_among
from hansa.compiler.stacks import StackSize, of_clients
from hansa.compiler.sums.exact import FORMS, Form
from hansa.language.graph import Intrinsic, MakeStruct, Node, RuntimeValue, Select
from hansa.language.terms import too_few
from hansa.runtimes.arguments import Static, unpack
from hansa.runtimes.dealt import AXIS
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages.counting import TOO_FEW
from hansa.runtimes.stages.states import Packing, reported


@dataclass(frozen=True)
class Cohort:
    """The clients of a call, or of a chunk of it.

    Attributes:
        own: what the runtime has for each client (`hansa.language.runtime_values`), by name: arrays [capacity, ...].
        order: the positions of each device's clients, in order, int32 [devices, turns].
        lengths: how many clients each device has, int32 [devices].
        stack: how large stacks of all clients' values are, where there are some.
    """

    own: Mapping[str, Any]
    order: Any
    lengths: Any
    stack: StackSize | None = None

    @property
    def capacity(self) -> int:
        """For how many clients there is room."""
        devices, turns = self.order.shape
        size: int = devices * turns
        return size


jax.tree_util.register_dataclass(Cohort, ["own", "order", "lengths"], ["stack"])

NOBODY = Cohort({}, None, None)
"""For programs in which clients have no part."""


class NeedsWideSums(ArithmeticError):
    """A sum may not be exact, as some of its numbers are unusually large or small. Make it again, with wide sums.

    `hansa.Stages` raises it, and says what to do; runtimes make such a call again by themselves.

    Attributes:
        forms: for the aggregates that need another one, the cheapest form of sums that would do.

    Examples:
        >>> @hansa.federated_computation("{float32[1000]}@CLIENTS")
        ... def total(values):
        ...     return hansa.federated_sum(values)
        >>> def fold(sums):
        ...     stage = hansa.Stages(total, sums=sums).clients[0]
        ...     state = stage.zero()
        ...     for value in (1e30, 1.0, -1e30):
        ...         done = stage.work([], [np.full(1000, value, np.float32)])
        ...         state = stage.accumulate(state, done.contributions)
        ...     return stage.report(state)
        >>> try:
        ...     result = fold("exact")
        ... except hansa.NeedsWideSums:
        ...     result = fold("wide")
        >>> float(result[0][7])
        1.0
    """

    forms: Mapping[Node, Form] = MappingProxyType({})


def check(lost: Any, aggregates: Iterable[Aggregate]) -> None:
    """Waits for what a program says of the sums of these aggregates.

    Raises:
        NeedsWideSums: if one of them may not be exact.
        ValueError: if one is of fewer clients than it is to be.
    """
    if lost is None:
        return
    missing = np.asarray(lost.addressable_data(0)).tolist()
    losing = [aggregate.node for aggregate in aggregates if aggregate.lost is not None]
    for node, flag in zip(losing, missing, strict=True):
        if flag > TOO_FEW:
            raise too_few(flag - TOO_FEW, node.name, node.where)
    forms: dict[Node, Form] = {node: FORMS[flag] for node, flag in zip(losing, missing, strict=True) if flag}
    if forms:
        error = NeedsWideSums(
            "a sum or mean has numbers so large or so small that its usual form may have lost some of their bits"
        )
        error.forms = forms
        raise error


def whole(
    program: Program, packed: Any, cohort: Cohort, static: Static, outputs: list[Node], devices: int, at_once: int
) -> tuple[list[Any], Any]:
    """The values of `outputs`: of nodes at the server, and of nodes at the clients those of this device's, by turn.

    The last value says which aggregates may have lost something (`Aggregate.lost`), of those that can.

    Runs on every device of a mesh with one axis, `AXIS`.
    """
    server = server_environment(program, packed, static)
    kept: Environment = {}
    lost: list[Any] = []
    for i, stage in enumerate(program.servers):
        with shared_among(AXIS, devices):
            stage.run(server)
        if i < len(program.clients):
            clients = program.clients[i]
            broadcasts = {node: evaluate([source], server)[0] for source, node in clients.broadcasts}
            part, ordered = in_order.split(clients)
            states = zeros(part.aggregates, server)
            states, stacks = fold(program, part, packed, cohort, static, broadcasts, kept, states, at_once, True)
            for aggregate, (value, flag) in zip(
                part.aggregates, reported(part.aggregates, states, devices), strict=True
            ):
                server[aggregate.node] = value
                lost += [] if flag is None else [flag]
            each = given_by_all(ordered, stacks, cohort)
            for aggregate, zero, given in zip(ordered, zeros(ordered, server), each, strict=True):
                server[aggregate.node] = aggregate.report(in_order.folded(aggregate, zero, given))
            hand_over(server, clients.aggregates, clients_of(cohort))
            kept.update(zip(clients.kept, stacks, strict=False))
            for source, node in clients.collected:
                if is_stack(node):
                    assert cohort.stack is not None
                    everybody = gather_devices(kept[source], cohort, cohort.stack.rows)
                    server[node] = of_clients(everybody, clients_of(cohort), cohort.stack)
                else:
                    everybody = gather_devices(kept[source], cohort, cohort.capacity)
                    server[node] = from_stack(stacked(everybody, clients_of(cohort)))
    values = [
        values_by_turn(program, node, packed, cohort, static, server, kept)
        if is_stacked(node)
        else evaluate([node], server)[0]
        for node in outputs
    ]
    return values, together(lost)


def hand_over(server: Environment, aggregates: Iterable[Aggregate], clients: Any) -> None:
    """Makes of the results of aggregates what they are for a server stage that is a program of its own.

    XLA may compute a product and a sum with one rounding, and where it does depends on what else is in the same loop.
    It puts nothing into one loop with what comes out of a branch, and does not know that one branch is never taken.

    Args:
        server: where they are.
        aggregates: which results.
        clients: how many clients there are, int32.
    """
    nodes = [fold.node for fold in aggregates]
    leaves, tree = jax.tree.flatten([server[node] for node in nodes])
    floats = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    given = [leaves[i] for i in floats]
    same = lax.cond(clients >= 0, lambda values: values, lambda values: jax.tree.map(jnp.zeros_like, values), given)
    for i, leaf in zip(floats, same, strict=True):
        leaves[i] = leaf
    server.update(zip(nodes, jax.tree.unflatten(tree, leaves), strict=True))


def together(flags: list[Any]) -> Any:
    """What some aggregates say of their sums (`Aggregate.lost`), in one array; None if there are none."""
    return jnp.stack(flags) if flags else None


def stacked(values: Any, count: Any) -> Stack:
    """The values of all clients, an array each for every tensor, as the elements of a sequence."""
    return Stack(tuple(jax.tree.leaves(values)), count)


def server_environment(program: Program, packed: Any, static: Static) -> Environment:
    """What the server has at the start."""
    if program.parameter is None:
        return {}
    return {program.parameter: unpack(program.parameter.type, packed, static, None)}


def clients_of(cohort: Cohort) -> Any:
    """How many clients there are, int32."""
    return jnp.sum(cohort.lengths, dtype=jnp.int32)


def zeros(aggregates: Iterable[Aggregate], server: Environment) -> list[Any]:
    """The state of each of some aggregates before any client."""
    states = []
    for aggregate in aggregates:
        start = None if aggregate.start is None else evaluate([aggregate.start], server)[0]
        states.append(jax.tree.map(jnp.asarray, aggregate.zero(start)))
    return states


def fold(
    program: Program,
    stage: ClientStage,
    packed: Any,
    cohort: Cohort,
    static: Static,
    broadcasts: Environment,
    kept: Environment,
    states: list[Any],
    at_once: int,
    first: bool = False,
) -> tuple[list[Any], list[Any]]:
    """This device's clients, in order: the aggregates' states, and what each client keeps, stacked by turn. They are
    the `first` clients if the states are those of nobody.

    The work of `at_once` clients is one vectorised computation; contributions are taken in one after another. What
    clients have kept of earlier stages is stacked by turn, too. The stage's aggregates are sums and the like.
    """

    order = cohort.order[lax.axis_index(AXIS)]

    def read(turn: Any) -> Environment:
        env, client = dict(broadcasts), order[turn]
        for node in stage.inputs:
            if node is program.parameter:
                env[node] = unpack(node.type, packed, static, client, turn)
            elif isinstance(node, RuntimeValue):
                env[node] = cohort.own[node.name][client]
            else:
                env[node] = jax.tree.map(lambda stack: stack[turn], kept[node])
        return env

    return fold_each(stage, read, cohort, states, at_once, first)


def fold_each(
    stage: ClientStage,
    read: Callable[[Any], Environment],
    cohort: Cohort,
    states: list[Any],
    at_once: int,
    first: bool = False,
) -> tuple[list[Any], list[Any]]:
    """`fold`, with a function that gives what a stage's work needs of the client whose turn it is on this device."""
    turns, length = cohort.order.shape[1], cohort.lengths[lax.axis_index(AXIS)]

    def work(turn: Any) -> tuple[list[list[Any]], list[Any]]:
        return stage.work(read(turn))

    shapes = jax.eval_shape(lambda: work(jnp.int32(0))[1]) if stage.kept else []
    stacks = jax.tree.map(lambda leaf: jnp.zeros((turns, *leaf.shape), leaf.dtype), shapes)
    packing = Packing(stage.aggregates, states)

    def take(turn: Any, result: Any, carry: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        (packed, stacks), (contributions, values) = carry, result
        return packing.accumulate(packed, contributions), jax.tree.map(
            lambda stack, value: lax.dynamic_update_index_in_dim(stack, value, turn, 0), stacks, values
        )

    def several(group: Any, carry: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        begin = group * at_once
        turns = jnp.minimum(begin + jnp.arange(at_once, dtype=jnp.int32), length - 1)
        results = jax.vmap(work)(turns)

        def one(k: Any, carry: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
            return take(begin + k, jax.tree.map(lambda stack: stack[k], results), carry)

        after: tuple[Any, list[Any]] = lax.fori_loop(
            jnp.int32(0), jnp.minimum(jnp.int32(at_once), length - begin), one, carry
        )
        return after

    def alone(turn: Any, carry: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        return take(turn, work(turn), carry)

    groups = (length + jnp.int32(at_once - 1)) // jnp.int32(at_once)
    packed = packing.begin(states) if first else packing.pack(states)
    packed, stacks = lax.fori_loop(jnp.int32(0), groups, several if at_once > 1 else alone, (packed, stacks))
    return packing.unpack(packed), stacks


def given_by_all(ordered: tuple[Aggregate, ...], stacks: list[Any], cohort: Cohort) -> list[in_order.Given]:
    """What all devices' clients have given to aggregates in order: each device has kept it by turn, after all else."""
    position = _positions(cohort, cohort.capacity)
    rows = jnp.zeros(cohort.capacity, jnp.int32)
    rows = rows.at[position].set(jnp.arange(cohort.capacity, dtype=jnp.int32), mode="drop")
    everybodys = (
        jax.tree.map(lambda leaf: lax.all_gather(leaf, AXIS, tiled=True), contributions)
        for contributions in in_order.by_aggregate(ordered, stacks)
    )
    return [in_order.Given(contributions, rows, clients_of(cohort)) for contributions in everybodys]


def _positions(cohort: Cohort, beyond: int) -> Any:
    """Where in the cohort the client of each device's turns is, one device after the other; beyond it for no client."""
    turn = lax.broadcasted_iota(jnp.int32, cohort.order.shape, 1)
    return jnp.where(turn < cohort.lengths[:, None], cohort.order, beyond).reshape(-1)


def gather_devices(stacks: Any, cohort: Cohort, rows: int) -> Any:
    """What every client keeps, in so many rows in the cohort's order, from each device's in its own."""
    position = _positions(cohort, rows)

    def place(stack: Any) -> Any:
        flat = lax.all_gather(stack, AXIS, tiled=True)
        empty = jnp.zeros((rows, *flat.shape[1:]), flat.dtype)
        return empty.at[position].set(flat, mode="drop")

    return jax.tree.map(place, stacks)


def values_by_turn(
    program: Program, node: Node, packed: Any, cohort: Cohort, static: Static, server: Environment, kept: Environment
) -> Any:
    """The value of a node at the clients, for each of this device's by turn: of what they kept, had or were sent."""
    parts = within(node, kept.__contains__)
    if all(part in kept or only_rearranges(part) for part in parts):
        return evaluate([node], dict(kept))[0]
    sent = {part: evaluate([part.inputs[0]], server)[0] for part in parts if is_broadcast(part)}
    order = cohort.order[lax.axis_index(AXIS)]

    def one(turn: Any) -> Any:
        env = {**sent, **{n: jax.tree.map(lambda stack: stack[turn], stack) for n, stack in kept.items()}}
        if program.parameter is not None:
            env[program.parameter] = unpack(program.parameter.type, packed, static, order[turn], turn)
        env.update((part, cohort.own[part.name][order[turn]]) for part in parts if isinstance(part, RuntimeValue))
        return evaluate([node], env)[0]

    return lax.map(one, jnp.arange(order.shape[0], dtype=jnp.int32))


def only_rearranges(node: Node) -> bool:
    """Whether nothing is computed for a node but where its parts are."""
    return isinstance(node, MakeStruct | Select) or (isinstance(node, Intrinsic) and node.name == "federated_zip")
