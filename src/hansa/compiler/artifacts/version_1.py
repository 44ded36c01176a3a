"""Programs as version 1 of the format has them, brought into the form of version 2.

Version 1 says neither the names and types of what server stages take, nor the types of an aggregate's state, and writes
names apart from types. What it does not say is found from where values come from, but for the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.compiler.artifacts.expressions import Expressions
from hansa.compiler.artifacts.file import Reader
from hansa.compiler.artifacts.ports import distinct, encode_port
from hansa.compiler.artifacts.types import decode_type
from hansa.compiler.explain.stages import name_of
from hansa.language.graph import Parameter
from hansa.types import FunctionType


def upgraded(found: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """A program of version 1 as version 2 has it.

    Raises:
        Exception: of some kind, if it is none.
    """
    return _Upgrade(found, reader).program()


class _Upgrade:
    def __init__(self, found: dict[str, Any], reader: Reader) -> None:
        signature = decode_type(found["type"])
        assert isinstance(signature, FunctionType)
        self._found = found
        self._expressions = Expressions(signature, reader)
        self._names: dict[Any, str] = {}

    def program(self) -> dict[str, Any]:
        servers, clients = [], []
        for i, stage in enumerate(self._found["servers"]):
            outputs = _ports(stage["names"], stage["outputs"])
            servers.append({**stage, "inputs": self._inputs(stage["inputs"]), "outputs": outputs})
            self._learn("server", i, outputs)
            if i < len(self._found["clients"]):
                clients.append(self._client(i, self._found["clients"][i]))
        return {**self._found, "servers": servers, "clients": clients}

    def _client(self, number: int, stage: dict[str, Any]) -> dict[str, Any]:
        sent = _ports([part["name"] for part in stage["broadcasts"]], [part["type"] for part in stage["broadcasts"]])
        self._learn("broadcast", number, sent)
        broadcasts = [
            {**port, "operation": part["operation"], "from": part["of"]}
            for port, part in zip(sent, stage["broadcasts"], strict=True)
        ]
        inputs = self._inputs(stage["inputs"])
        outputs = _ports(stage["names"], [*stage["contributions"], *stage["kept"]])
        given = iter(outputs)
        results = _ports([part["name"] for part in stage["aggregates"]], [part["type"] for part in stage["aggregates"]])
        aggregates = [
            {
                **part,
                "contributions": [next(given) for _ in part["contributions"]],
                "start": None if part["start"] is None else self._inputs([part["start"]])[0],
                "state": None,
                "result": result,
            }
            for part, result in zip(stage["aggregates"], results, strict=True)
        ]
        kept = list(given)
        self._learn("kept", number, kept)
        collected = [
            {**self._inputs([part["of"]])[0], "type": part["type"], "from": part["of"]} for part in stage["collected"]
        ]
        self._learn("aggregate", number, results)
        self._learn("collected", number, collected)
        new = {"broadcasts": broadcasts, "inputs": inputs, "aggregates": aggregates, "kept": kept}
        return {**stage, **new, "collected": collected}

    def _inputs(self, expressions: Sequence[list[Any]]) -> list[dict[str, Any]]:
        nodes = [self._expressions.node(expression) for expression in expressions]
        names = [self._names.get(node) or name_of(node) for node in nodes]
        return [
            {**encode_port(name, node.type), "from": expression}
            for name, node, expression in zip(distinct(names), nodes, expressions, strict=True)
        ]

    def _learn(self, what: str, number: int, ports: Sequence[dict[str, Any]]) -> None:
        """Takes values as known; of their nodes nothing but type and name matters here."""
        for i, port in enumerate(ports):
            node = Parameter(decode_type(port["type"]))
            self._expressions.known[what, number, i] = node
            self._names[node] = str(port["name"])


def _ports(names: Sequence[Any], kinds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "type": kind} for name, kind in zip(distinct(map(str, names)), kinds, strict=True)]
