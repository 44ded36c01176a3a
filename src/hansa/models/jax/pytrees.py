"""A pytree of weights as a struct by name, and back: names are the paths to the leaves, joined with slashes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.types import Struct
from hansa.types.aligned import settled
from hansa.types.narrow import HALVES


@dataclass(frozen=True)
class Structure:
    """What is to a pytree beside its leaves.

    Attributes:
        names: the names of the leaves, in JAX's order.
        tree: how they are arranged.
    """

    names: tuple[str, ...]
    tree: Any

    def to_tree(self, named: Struct) -> Any:
        """The pytree with the values of a struct by name."""
        return jax.tree.unflatten(self.tree, [named[name] for name in self.names])

    def to_struct(self, tree: Any, like: Struct, what: str) -> Struct:
        """The leaves of a pytree by name, sorted, checked against others that they replace.

        Raises:
            TypeError, ValueError: if it has other leaves, or a leaf another shape or dtype.
        """
        found = dict(_named_leaves(tree))
        if found.keys() != dict(like._items()).keys():
            lacking = ", ".join(sorted(set(self.names) - found.keys()))
            beyond = ", ".join(sorted(found.keys() - set(self.names)))
            parts = [part for part in (lacking and f"without {lacking}", beyond and f"with {beyond} besides") if part]
            raise ValueError(
                f"{what} other weights than it was given: {' and '.join(parts)}; return all of them, changed"
            )
        leaves = {name: jnp.asarray(leaf) for name, leaf in found.items()}
        for name, before in like._items():
            leaf = leaves[str(name)]
            if (leaf.shape, leaf.dtype) != (before.shape, before.dtype):
                remedy = (
                    f"convert it with .astype({before.dtype.name!r})" if leaf.shape == before.shape else "reshape it"
                )
                raise ValueError(
                    f"{what} {name!r} as {_shown(leaf)}, and it was {_shown(before)}: weights keep their shapes and "
                    f"dtypes; {remedy}"
                )
        return Struct([(name, leaves[str(name)]) for name in like._fields])


def named(tree: Any, what: str) -> tuple[Structure, Struct]:
    """The structure of a pytree of arrays, and its leaves by name, sorted; 64-bit ones as 32-bit JAX takes them.

    Raises:
        TypeError: if a leaf is no array.
        ValueError: if two leaves have the same name.
    """
    pairs = _named_leaves(tree)
    names = [name for name, _ in pairs]
    for name, leaf in pairs:
        if names.count(name) > 1:
            raise ValueError(
                f"two leaves of {what} have the name {name!r}, the path to them joined with '/'; rename one"
            )
        if not isinstance(leaf, int | float) and not _is_array(leaf):
            raise TypeError(
                f"the leaf {name!r} of {what} is {leaf!r}, which is no array of numbers; keep it out of the pytree, as "
                "equinox.partition(model, equinox.is_array) or flax.nnx.split do, and close over it"
            )
    values = {name: _narrow(leaf) for name, leaf in pairs}
    structure = Structure(tuple(names), jax.tree.structure(tree))
    return structure, Struct([(name, values[name]) for name in sorted(names)])


def like_tree(tree: Any, values: Struct, what: str) -> Any:
    """The pytree of another one's structure with the values of a struct by name.

    Raises:
        ValueError: if the names differ.
    """
    pairs = _named_leaves(tree)
    if {name for name, _ in pairs} != set(values._fields):
        raise ValueError(
            f"{what} has the leaves {', '.join(name for name, _ in pairs) or 'none'}, and the weights are "
            f"{', '.join(map(str, values._fields)) or 'none'}; pass a pytree like the model's initial weights"
        )
    return jax.tree.unflatten(jax.tree.structure(tree), [values[name] for name, _ in pairs])


def read(tree: Any, like: Any) -> tuple[Struct, Struct]:
    """The weights in a pytree, the trainable ones and the others, by the names of others.

    Args:
        tree: of the trainable ones; the pair of that and of one of the others where there are such.
        like: a struct of both parts.

    Raises:
        TypeError: if a leaf is no array.
        ValueError: if a pytree has other leaves.
    """
    both = len(like["non_trainable"]) > 0
    if both and (not isinstance(tree, tuple | list) or len(tree) != 2):
        raise ValueError("the weights have non-trainable ones among them: give the pair (weights, non_trainable)")
    parts = []
    for found, of in zip(tree if both else (tree, ()), (like["trainable"], like["non_trainable"]), strict=True):
        _, values = named(found, "the weights")
        if set(values._fields) != set(of._fields):
            raise ValueError(
                f"the pytree has the leaves {', '.join(map(str, values._fields)) or 'none'}, and the weights are "
                f"{', '.join(map(str, of._fields)) or 'none'}"
            )
        parts.append(Struct([(name, values[str(name)]) for name in of._fields]))
    return parts[0], parts[1]


def leaves(tree: Any) -> Struct:
    """The leaves of a pytree of arrays, without names."""
    return Struct([(None, jnp.asarray(leaf)) for leaf in jax.tree.leaves(tree)])


def same_leaves(tree: Any, structure: Any, before: Struct, what: str) -> Struct:
    """The leaves of a pytree, checked to be of the structure, shapes and dtypes of others that they replace."""
    found = leaves(tree)
    if jax.tree.structure(tree) != structure:
        raise ValueError(f"{what} of another structure than it was given: {jax.tree.structure(tree)}, not {structure}")
    for old, new in zip(before, found, strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ValueError(f"{what} with {_shown(new)} where there was {_shown(old)}; keep the shapes and dtypes")
    return found


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [("/".join(map(_step, path)) or "weights", leaf) for path, leaf in found]


def _step(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _is_array(leaf: Any) -> bool:
    return (isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "biufcV") or (
        isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    )


def _narrow(leaf: Any) -> Any:
    if isinstance(leaf, int | float) or leaf.dtype.name in HALVES:
        with jax.enable_x64(False):
            leaf = jnp.asarray(leaf)
    return settled(np.asarray(leaf))


def _shown(leaf: Any) -> str:
    return f"{leaf.dtype.name}[{','.join(map(str, leaf.shape))}]" if leaf.shape else str(leaf.dtype.name)
