"""The calls of code outside of XLA that a file may hold, with the types that JAX gives them.

Such code, LAPACK's for one, trusts its caller: an array that is smaller than another one says is written beyond its
end. So each target has a *rule*: the types of its operands and results, in letters for sizes that must agree,

    T[m,n] -> T[m,n] T[k] i32[]

T is the type of elements of the call, R its real and C its complex counterpart; k is the smaller of m and n, and h is
n - 1. Before these sizes all may have the same sizes of a batch. Where sizes are unknown yet, the rule is asked again
when they are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from hansa.portable.tensors import Refused, Tensor

_REAL = {"f32": "f32", "f64": "f64", "complex<f32>": "f32", "complex<f64>": "f64"}
_COMPLEX = {
    "f32": "complex<f32>",
    "f64": "complex<f64>",
    "complex<f32>": "complex<f32>",
    "complex<f64>": "complex<f64>",
}
_LAPACK = {"s": "f32", "d": "f64", "c": "complex<f32>", "z": "complex<f64>"}
_FLOATS = ("f32", "f64", "complex<f32>", "complex<f64>")

Sizes = dict[str, int | None]
Options = dict[str, str]


def _any(sizes: Sizes, options: Options) -> bool:
    return True


class Rule(NamedTuple):
    """What a target takes and gives.

    Attributes:
        types: as in this module's first lines.
        options: the values that each option may have, as MLIR writes them.
        right: whether sizes and options fit each other; sizes that are not known are None.
        elements: what T may be.
        version: of the interface, an attribute of the call.
    """

    types: str
    options: dict[str, frozenset[str]] = {}  # noqa: RUF012 (never changed)
    right: Callable[[Sizes, Options], bool] = _any
    elements: tuple[str, ...] = _FLOATS
    version: int = 4


def _letters(letters: str) -> frozenset[str]:
    return frozenset(f"{ord(letter)} : ui8" for letter in letters)


_BOOL = frozenset({"true", "false"})


def _same(a: int | None, *others: int | None) -> bool:
    """Whether a size is one of others, as far as they are known."""
    return a is None or any(other is None or a == other for other in others)


def _smaller(m: int | None, n: int | None) -> int | None:
    return None if m is None or n is None else min(m, n)


def _svd(sizes: Sizes, options: Options) -> bool:
    """The singular vectors are all (m and n of them), or as many as singular values, as the mode says."""
    m, n, k, u, v = (sizes[letter] for letter in "mnkuv")
    mode = options["mode"]
    if mode == "65 : ui8":  # "A"
        return _same(u, m) and _same(v, n)
    if mode == "83 : ui8":  # "S"
        return _same(u, k) and _same(v, k)
    return _same(u, m, k) and _same(v, n, k)


def _svd_on_gpu(sizes: Sizes, options: Options) -> bool:
    m, n, k, u, v = (sizes[letter] for letter in "mnkuv")
    if options["full_matrices"] == "true":
        return _same(u, m) and _same(v, n)
    return _same(u, k) and _same(v, k)


def _whole_range(sizes: Sizes, options: Options) -> bool:
    return options["low"] == "1 : i32" and (sizes["n"] is None or options["high"] == f"{sizes['n']} : i32")


def _left_or_right(sizes: Sizes, options: Options) -> bool:
    return _same(sizes["a"], sizes["m"] if options["side"] == "76 : ui8" else sizes["n"])


def _few_reflectors(sizes: Sizes, options: Options) -> bool:
    m, n, p = (sizes[letter] for letter in "mnp")
    return (p is None or n is None or p <= n) and (n is None or m is None or n <= m)


def _longer(sizes: Sizes, options: Options) -> bool:
    return sizes["p"] is None or sizes["n"] is None or sizes["p"] <= sizes["n"]


_UPLO = {"uplo": _letters("UL")}
_LOWER = {"lower": _BOOL}
_QR = Rule("T[m,n] -> T[m,n] T[k]")
_REFLECTORS = Rule("T[m,n] T[p] -> T[m,n]", right=_few_reflectors)
_LU = Rule("T[m,n] -> T[m,n] i32[k] i32[]")
_SVD = Rule("T[m,n] -> T[m,n] R[k] T[m,u] T[v,n] i32[]", {"mode": _letters("ASN")}, _svd)
_REAL_ONLY, _COMPLEX_ONLY = _FLOATS[:2], _FLOATS[2:]
_SIDES = {"compute_left": _letters("NV"), "compute_right": _letters("NV")}
_SCHUR = {"mode": _letters("NV"), "sort": _letters("N")}  # With "S" LAPACK would call a function that is not there.

_OF_LAPACK: dict[str, Rule] = {
    "potrf": Rule("T[n,n] -> T[n,n] i32[]", _UPLO),
    "geqrf": _QR,
    "orgqr": _REFLECTORS,
    "ungqr": _REFLECTORS,
    "getrf": _LU,
    "gesdd": _SVD,
    "syevd": Rule("T[n,n] -> T[n,n] R[n] i32[]", {"mode": _letters("NV"), **_UPLO}),
    "heevd": Rule("T[n,n] -> T[n,n] R[n] i32[]", {"mode": _letters("NV"), **_UPLO}),
    "sytrd": Rule("T[n,n] -> T[n,n] R[n] R[h] T[h] i32[]", _UPLO),
    "hetrd": Rule("T[n,n] -> T[n,n] R[n] R[h] T[h] i32[]", _UPLO),
    "gehrd": Rule("T[n,n] -> T[n,n] T[h] i32[]", {"low": frozenset({"1 : i32"}), "high": frozenset()}, _whole_range),
    "trsm": Rule(
        "T[a,a] T[m,n] -> T[m,n]",
        {"side": _letters("LR"), **_UPLO, "trans_x": _letters("NTC"), "diag": _letters("NU")},
        _left_or_right,
    ),
    "gtsv": Rule("T[n] T[n] T[n] T[n,m] -> T[n] T[n] T[n] T[n,m] i32[]"),
}

_OF_GPUS: dict[str, Rule] = {
    "solver_potrf_ffi": Rule("T[n,n] -> T[n,n] i32[]", _LOWER),
    "solver_geqrf_ffi": _QR,
    "solver_orgqr_ffi": _REFLECTORS,
    "solver_getrf_ffi": _LU,
    "solver_syevd_ffi": Rule(
        "T[n,n] -> T[n,n] R[n] i32[]", {"algorithm": frozenset(f"{i} : ui8" for i in range(4)), **_LOWER}
    ),
    "solver_sytrd_ffi": Rule("T[n,n] -> T[n,n] R[n] R[h] T[h] i32[]", _LOWER),
    "solver_gesvdj_ffi": Rule(
        "T[m,n] -> T[m,n] R[k] T[m,u] T[n,v] i32[]", {"compute_uv": _BOOL, "full_matrices": _BOOL}, _svd_on_gpu
    ),
}


def _known() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for letter, element in _LAPACK.items():
        for name, rule in _OF_LAPACK.items():
            rules[f"lapack_{letter}{name}_ffi"] = rule._replace(elements=(element,))
        real = element in _REAL_ONLY
        values = "R[n] R[n]" if real else "T[n]"
        rules[f"lapack_{letter}geev_ffi"] = Rule(f"T[n,n] -> {values} C[n,n] C[n,n] i32[]", _SIDES, elements=(element,))
        rules[f"lapack_{letter}gees_ffi"] = Rule(
            f"T[n,n] -> T[n,n] T[n,n] {values} i32[] i32[]", _SCHUR, elements=(element,)
        )
    for maker in ("cu", "hip"):
        rules.update({f"{maker}{name}": rule for name, rule in _OF_GPUS.items()})
        rules[f"{maker}_lu_pivots_to_permutation"] = Rule("i32[p] -> i32[n]", right=_longer)
    rules["cusparse_gtsv2_ffi"] = Rule("T[n] T[n] T[n] T[n,m] -> T[n,m]", elements=_REAL_ONLY)
    on_tpus = _QR._replace(version=1, elements=("f32", "bf16"))
    rules["Qr"] = on_tpus
    rules["ProductOfElementaryHouseholderReflectors"] = on_tpus._replace(types=_REFLECTORS.types, right=_few_reflectors)
    rules["Eigh"] = on_tpus._replace(types="T[n,n] -> T[n,n] R[n]")
    rules["LuDecomposition"] = on_tpus._replace(types="T[m,n] -> T[m,n] i32[k] i32[m]", version=2)
    return rules


RULES = _known()
"""By target."""

_PLAIN = frozenset({
    "call_target_name", "api_version", "has_side_effect", "backend_config", "mhlo.backend_config",
    "indices_of_shape_operands", "operand_layouts", "result_layouts", "output_operand_aliases",
    "mhlo.frontend_attributes", "sdy.sharding_rule",
})  # fmt: skip
_FRONTEND = re.compile(r'\{(num_batch_dims = "\d+")?\}')
_EIGH = re.compile(r'"[01],[01],\d{1,4},[-+.e\d]{1,12}"')


def check(attributes: Any, operands: list[Tensor], results: list[Tensor]) -> bool:
    """Looks at one call.

    Returns:
        Whether to look again when its sizes are known.

    Raises:
        Refused: if it is no call of JAX's.
    """
    target = str(attributes["call_target_name"]).strip('"')
    if target in _BY_STABLEHLO:
        _BY_STABLEHLO[target](_Call(target, attributes, operands, results))
        return False
    rule = RULES.get(target)
    if rule is None:
        raise Refused(f"a call of {target[:100]!r}")
    call = _Call(target, attributes, operands, results)
    call.only(_PLAIN)
    call.has("api_version", f"{rule.version} : i32")
    call.has("has_side_effect", "false")
    call.require(_FRONTEND.fullmatch(call.text("mhlo.frontend_attributes", "{}")) is not None, "frontend_attributes")
    if target == "Eigh":
        call.require(_EIGH.fullmatch(call.text("backend_config", '""')) is not None, "backend_config")
    else:
        call.has("backend_config", '""')
    options = _options(call.text("mhlo.backend_config", "{}"))
    call.require(options.keys() == rule.options.keys(), "options")
    for name, values in rule.options.items():
        call.require(not values or options[name] in values, f"option {name}")
    takes, gives = (side.split() for side in rule.types.split(" -> "))
    arrays = _without_shapes(call, len(takes))
    call.require(len(results) == len(gives), "number of results")
    sizes: Sizes = {}
    batches: list[tuple[int | None, ...]] = []
    element = _element(call, rule, takes, arrays)
    for expected, found in zip([*takes, *gives], [*arrays, *results], strict=True):
        _match(call, expected, found, element, sizes, batches)
    for batch in batches[1:]:
        call.require(len(batch) == len(batches[0]) and all(map(_same, batch, batches[0])), "batches of different sizes")
    _derived(call, sizes)
    call.require(rule.right(sizes, options), "sizes that do not fit its options")
    _layouts(call, rule)
    return any(None in found.shape for found in (*arrays, *results))


class _Call(NamedTuple):
    target: str
    attributes: Any
    operands: list[Tensor]
    results: list[Tensor]

    def require(self, right: bool, what: str) -> None:
        if not right:
            types = f"({', '.join(map(str, self.operands))}) -> ({', '.join(map(str, self.results))})"
            raise Refused(f"a call of {self.target!r} as JAX makes none ({what}): {types}")

    def only(self, names: frozenset[str]) -> None:
        for name in self.attributes:
            self.require(name in names, f"attribute {name!r}")

    def text(self, name: str, default: str) -> str:
        return str(self.attributes[name]) if name in self.attributes else default

    def has(self, name: str, value: str) -> None:
        self.require(self.text(name, value) == value, f"{name} is {self.text(name, value)[:100]}")


def _options(text: str) -> Options:
    """`{mode = 65 : ui8, sort = 78 : ui8}` by name."""
    pairs = (part.partition(" = ") for part in text.strip("{}").split(", ") if part)
    return {name: value for name, _, value in pairs}


def _without_shapes(call: _Call, count: int) -> list[Tensor]:
    """The operands that are arrays; those behind them say the shapes of the results."""
    named = call.text("indices_of_shape_operands", "")
    shapes = call.operands[count:]
    call.require(len(call.operands) >= count and bool(shapes) == bool(named), "number of operands")
    if shapes:
        numbers = [int(number) for number in re.findall(r"\d+", named.partition("> :")[0])]
        call.require(
            numbers == list(range(count, len(call.operands))) and len(shapes) == len(call.results), "shape operands"
        )
        for shape, result in zip(shapes, call.results, strict=True):
            call.require(shape in (Tensor((len(result.shape),), "i32"), Tensor((len(result.shape),), "i64")), "shapes")
    return call.operands[:count]


def _element(call: _Call, rule: Rule, takes: list[str], arrays: list[Tensor]) -> str:
    found = arrays[0].element if takes[0].startswith("T") else "f32"
    call.require(found in rule.elements, f"elements of type {found}")
    return found


def _match(
    call: _Call,
    expected: str,
    found: Tensor,
    element: str,
    sizes: Sizes,
    batches: list[tuple[int | None, ...]],
) -> None:
    kind, _, letters = expected.rstrip("]").partition("[")
    names = [letter for letter in letters.split(",") if letter]
    wanted = {"T": element, "R": _REAL.get(element, element), "C": _COMPLEX.get(element, element)}.get(kind, kind)
    call.require(found.element == wanted and len(found.shape) >= len(names), f"{found} for {expected}")
    split = len(found.shape) - len(names)
    batches.append(found.shape[:split])
    for name, size in zip(names, found.shape[split:], strict=True):
        known = sizes.get(name)
        call.require(known is None or size is None or known == size, f"{found} for {expected}")
        sizes[name] = known if size is None else size


def _derived(call: _Call, sizes: Sizes) -> None:
    """The sizes that follow of others."""
    if "k" in sizes:
        least = _smaller(sizes["m"], sizes["n"])
        call.require(least is None or _same(sizes["k"], least), "the smaller of two sizes")
    if "h" in sizes and sizes["n"] is not None:
        call.require(_same(sizes["h"], sizes["n"] - 1), "one less than a size")


def _layouts(call: _Call, rule: Rule) -> None:
    """Matrices lie column by column or row by row, everything else as in NumPy; what is aliased has one type."""
    for name, kinds in (("operand_layouts", call.operands), ("result_layouts", call.results)):
        if name in call.attributes:
            found = [_numbers(str(layout)) for layout in call.attributes[name]]
            call.require(len(found) == len(kinds), name)
            for layout, kind in zip(found, kinds, strict=True):
                rank = len(kind.shape)
                plain = list(range(rank))[::-1]
                turned = [*plain[:2][::-1], *plain[2:]]
                call.require(layout in (plain, turned), name)
    aliases = call.text("output_operand_aliases", "[]")
    found_aliases = re.findall(
        r"output_tuple_indices = \[(\d*)\], operand_index = (\d+), operand_tuple_indices = \[\]", aliases
    )
    call.require(aliases.count("operand_index") == len(found_aliases), "aliases")
    for which in (0, 1):
        call.require(len({alias[which] for alias in found_aliases}) == len(found_aliases), "aliases")
    for result, operand in found_aliases:
        i, j = int(operand), int(result or 0)
        call.require(bool(result) or len(call.results) == 1, "aliases")
        call.require(i < len(call.operands) and j < len(call.results), "aliases")
        call.require(call.operands[i] == call.results[j], "aliases")


def _numbers(layout: str) -> list[int]:
    """`dense<[1, 2, 0]> : tensor<3xindex>` as a list; MLIR writes equal numbers, and single ones, once."""
    inside, _, kind = layout.partition(" : ")
    numbers = [int(number) for number in re.findall(r"\d+", inside)]
    (count,) = re.findall(r"tensor<(\d+)xindex>", kind)
    return numbers * int(count) if len(numbers) == 1 else numbers


_OF_STABLEHLO = frozenset({"call_target_name", "api_version", "has_side_effect", "backend_config"})


def _shape_assertion(call: _Call) -> None:
    call.only(_OF_STABLEHLO | {"error_message"})
    call.has("api_version", "2 : i32")
    first, *rest = call.operands
    right = first == Tensor((), "i1") and all(kind in (Tensor((), "i64"), Tensor((), "i32")) for kind in rest)
    call.require(right and not call.results and len(rest) <= 64, "types")
    call.require(len(call.text("error_message", "")) < 20_000, "error_message")


def _dynamic_reduce_window(call: _Call) -> None:
    call.only(
        frozenset({"call_target_name", "api_version", "has_side_effect", "called_computations", "backend_config"})
    )
    call.has("has_side_effect", "false")
    count = len(call.results)
    call.require(len(call.operands) == 2 * count + 5, "number of operands")


def _dynamic_rng(call: _Call) -> None:
    call.only(_OF_STABLEHLO | {"rng_algorithm"})
    call.has("has_side_effect", "false")
    state = Tensor((2,), "ui64")
    call.require(len(call.operands) == len(call.results) == 2, "number of operands")
    call.require(call.operands[0] == call.results[0] == state, "state")


_BY_STABLEHLO: dict[str, Callable[[_Call], None]] = {
    "shape_assertion": _shape_assertion,
    "stablehlo.dynamic_reduce_window": _dynamic_reduce_window,
    "stablehlo.dynamic_rng_bit_generator": _dynamic_rng,
}
"""What StableHLO itself replaces by its operations when sizes are known, and checks then."""
