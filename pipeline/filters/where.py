"""Keep rows by a condition on their columns, written as in Python and never evaluated as Python."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from lake.errors import ConfigError
from lake.op import Op, Outcome
from lake.schema import drops

__all__ = ["Keep"]

_COMPARE = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
_MIRROR = {
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
_SYNTAX = (
    "compare columns or meta.key with numbers, strings, true, false or none: < <= > >= == != in, and or not"
)
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_HUGE = 1e300  # JSON may hold integers that no float holds
_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}
_MAX_LENGTH = 10_000  # characters of a condition
_MAX_DEPTH = 50  # of its tree


class Keep(Op):
    """Keep the rows for which a condition holds.

    The condition compares columns, and the keys of ``meta`` (``meta.lang``, ``meta["a key"]``), with constants:
    ``< <= > >= == !=``, ``in`` and ``not in`` a list, ``and``, ``or``, ``not``, parentheses, chains such as
    ``1 <= stars < 4``. ``x == none`` holds where there is no value; any other comparison with a missing value
    does not hold, nor does its ``not``. A string compared with a number is read as a number; where it is none,
    it counts as missing. Drops: ``where``.

    >>> import pyarrow as pa
    >>> rows = pa.table({"_id": ["a", "b"], "stars": [5, 1], "meta": ['{"lang": "en"}', '{"lang": "en"}']})
    >>> Keep(where="stars >= 3 and meta.lang == 'en'")(rows).column("_id").to_pylist()
    ['a']

    Raises:
        ConfigError: at the first rows, if there is no such column or its type does not compare.
    """

    where: str = Field(max_length=_MAX_LENGTH, description=f"The condition: {_SYNTAX}.")

    @field_validator("where")
    @classmethod
    def _parses(cls, where: str) -> str:
        _check(_parse(where))
        return where

    def apply(self, table: pa.Table) -> Outcome:
        """Drop the rows for which the condition does not hold."""
        holds = pc.fill_null(_Condition(table, self.where).holds(_parse(self.where)), fill_value=False)
        return Outcome(
            table.filter(holds), drops(table.filter(pc.invert(holds)), "where", detail=f"not: {self.where}")
        )


def _parse(where: str) -> ast.expr:
    if not where.strip():
        raise ValueError(f"the condition is empty: {_SYNTAX}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is no reason to refuse
            # In parentheses, so that a condition may go over several lines of YAML.
            return ast.parse(f"({where}\n)", mode="eval").body
    except SyntaxError as error:
        # An error in our own last line is one about the end: something is missing, or a bracket too many.
        past = (error.lineno or 1) > len(where.splitlines())
        place = "at the end" if past else _place(error.lineno, error.offset)
        raise ValueError(f"{place}: not a condition ({error.msg}); {_SYNTAX}") from None
    except (RecursionError, MemoryError):
        raise ValueError("the condition is nested too deeply") from None
    except ValueError:  # a null byte, or half of a surrogate pair
        raise ValueError("the condition holds a character that no text may hold") from None


def _place(line: int | None, column: int | None) -> str:
    """Line and column, both from 1; ``column`` counts the parenthesis that we put in front of line 1."""
    line, column = line or 1, column or 1
    return f"column {max(1, column - 1)}" if line == 1 else f"line {line}, column {column}"


def _refuse(node: ast.AST, what: str) -> ValueError:
    # ast counts columns from 0, in bytes of UTF-8.
    place = _place(getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1)
    return ValueError(f"{place}: {what}; {_SYNTAX}")


def _check(node: ast.expr, depth: int = 0) -> None:
    """Raise a ValueError with the column for whatever is not in the syntax."""
    if depth > _MAX_DEPTH:
        raise _refuse(node, "nested too deeply")
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _check(part, depth + 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand, depth + 1)
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
            _check_pair(left, operator, right)
    elif _field(node) is None:
        raise _refuse(node, "not a condition")


def _check_pair(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> None:  # noqa: C901  (a list of refusals)
    if isinstance(operator, (ast.In, ast.NotIn)):
        if _field(left) is None:
            raise _refuse(left, "`in` needs a column on its left")
        if not isinstance(right, (ast.List, ast.Tuple)) or not right.elts:
            raise _refuse(right, "`in` needs a list of constants, such as ['en', 'de']")
        kinds = {type(_constant(item)) for item in right.elts}
        if kinds - {int, float} and len(kinds) > 1:
            raise _refuse(right, "the list mixes numbers and strings")
        if kinds & {bool, type(None)}:
            raise _refuse(right, "a list holds numbers or strings")
        return
    if isinstance(operator, (ast.Is, ast.IsNot)):
        operator = ast.Eq() if isinstance(operator, ast.Is) else ast.NotEq()
    if type(operator) not in _COMPARE:
        raise _refuse(right, "no such comparison")
    for side in (left, right):
        if _field(side) is None:
            value = _constant(side)
            if (value is None or isinstance(value, bool)) and not isinstance(operator, (ast.Eq, ast.NotEq)):
                raise _refuse(side, "true, false and none compare with == and != only")
    if _field(left) is None and _field(right) is None:
        raise _refuse(left, "one side of a comparison must be a column")
    if _is_key(left) and _is_key(right) and not isinstance(operator, (ast.Eq, ast.NotEq)):
        raise _refuse(left, "two keys of meta compare with == and != only: they have no type")


def _field(node: ast.expr) -> tuple[str, str | None] | None:
    """(column, key of meta or None) where the node names one."""
    if isinstance(node, ast.Name) and node.id.lower() not in _CONSTANTS:
        return node.id, None
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "meta":
        return "meta", node.attr
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "meta"
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    ):
        return "meta", node.slice.value
    return None


def _is_key(node: ast.expr) -> bool:
    field = _field(node)
    return field is not None and field[1] is not None


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id.lower() in _CONSTANTS:
        return _CONSTANTS[node.id.lower()]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _constant(node.operand)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None))):
        if isinstance(node.value, int) and abs(node.value) >= 2**63:
            raise _refuse(node, "the number does not fit 64 bits")
        return node.value
    raise _refuse(node, "expected a column or a constant")


class _Condition:
    """A condition over one table; every method gives a boolean array, null where a value is missing."""

    def __init__(self, table: pa.Table, where: str) -> None:
        self._table = table
        self._where = where
        self._meta: list[dict[str, Any]] | None = None

    def holds(self, node: ast.expr) -> pa.ChunkedArray:
        if isinstance(node, ast.BoolOp):
            join = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
            found = self.holds(node.values[0])
            for part in node.values[1:]:
                found = join(found, self.holds(part))
            return found
        if isinstance(node, ast.UnaryOp):
            return pc.invert(self.holds(node.operand))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = zip(sides, node.ops, sides[1:], strict=False)
            found = None
            for left, operator, right in pairs:
                one = self._pair(left, operator, right)
                found = one if found is None else pc.and_kleene(found, one)
            return found
        return self._pair(node, ast.Eq(), ast.Constant(value=True))

    def _pair(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> pa.ChunkedArray:
        if isinstance(operator, (ast.In, ast.NotIn)) and isinstance(right, (ast.List, ast.Tuple)):
            constants = [_constant(item) for item in right.elts]
            found = self._compare(left, ast.Eq(), constants[0])
            for constant in constants[1:]:
                found = pc.or_kleene(found, self._compare(left, ast.Eq(), constant))
            return pc.invert(found) if isinstance(operator, ast.NotIn) else found
        if isinstance(operator, ast.Is):
            operator = ast.Eq()
        elif isinstance(operator, ast.IsNot):
            operator = ast.NotEq()
        if _field(right) is None:
            return self._compare(left, operator, _constant(right))
        if _field(left) is None:
            return self._compare(right, _MIRROR[type(operator)](), _constant(left))
        # A key of meta takes the type of the column that it is compared with.
        one = pa.string() if _is_key(left) else self._column(left).type
        other = one if _is_key(right) else self._column(right).type
        return self._call(left, operator, self._values(left, other), self._values(right, one))

    def _compare(self, node: ast.expr, operator: ast.cmpop, constant: Any) -> pa.ChunkedArray:
        if constant is None:
            empty = self._values(node, pa.string()).is_null()
            return empty if isinstance(operator, ast.Eq) else pc.invert(empty)
        value = pa.scalar(constant)
        column = self._values(node, value.type)
        if pa.types.is_timestamp(column.type) and isinstance(constant, str):
            try:
                value = value.cast(column.type)
            except pa.ArrowInvalid as error:
                raise self._error(node, "this string is not a time") from error
        return self._call(node, operator, column, value)

    def _call(self, node: ast.expr, operator: ast.cmpop, left: Any, right: Any) -> pa.ChunkedArray:
        try:
            return pc.call_function(_COMPARE[type(operator)], [left, right])
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise self._error(node, f"a {left.type} does not compare with a {right.type}") from error

    def _values(self, node: ast.expr, other: pa.DataType) -> pa.ChunkedArray:
        """The column or key, made fit to be compared with ``other`` where the type is open."""
        if not _is_key(node):
            column = self._column(node)
            if not (_is_text(column.type) and _is_number(other)):
                return column
            return pa.chunked_array([pa.array([_number(value) for value in column.to_pylist()], pa.float64())])
        key = (_field(node) or ("", None))[1] or ""
        if self._meta is None:
            self._meta = [_object(text) for text in self._texts()]
        read: Callable[[object], Any]
        if _is_number(other):
            read, kind = _number, pa.float64()
        elif pa.types.is_boolean(other):
            read, kind = _truth, pa.bool_()
        else:
            read, kind = _text, pa.string()
        return pa.chunked_array([pa.array([read(found.get(key)) for found in self._meta], kind)])

    def _column(self, node: ast.expr) -> pa.ChunkedArray:
        name, _ = _field(node) or ("", None)
        if name not in self._table.schema.names:
            known = ", ".join(self._table.schema.names)
            raise self._error(node, f"no column {name!r}; there are {known}, and meta.{name} looks into meta")
        return self._table.column(name)

    def _texts(self) -> list[str | None]:
        if "meta" not in self._table.schema.names:
            return [None] * self._table.num_rows
        texts: list[str | None] = self._table.column("meta").to_pylist()
        return texts

    def _error(self, node: ast.expr, what: str) -> ConfigError:
        place = _place(node.lineno, node.col_offset + 1)
        return ConfigError(f"Keep: {what}", where=f"where: {self._where!r}, {place}", hint=_SYNTAX)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _number(value: object) -> float | None:
    """A number, or a string that is one; None for the rest."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < _HUGE else None
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def _truth(value: object) -> bool | None:
    """True or false, or the words for them."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _text(value: object) -> str | None:
    """A string as it is, anything else as JSON writes it."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _object(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
