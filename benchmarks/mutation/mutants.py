"""Small faults to put into a file: what a slip of the pen would make of each line."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {
    "min": "max",
    "minimum": "maximum",
    "argmax": "argmin",
    "floor": "ceil",
    "any": "all",
    "logical_or": "logical_and",
    "bitwise_or": "bitwise_and",
    "zeros": "ones",
    "left": "right",
}
_SWAPPED = _NAMES | {other: name for name, other in _NAMES.items()}
# Of these the order of the arguments changes nothing.
_COMMUTE = {"min", "max", "minimum", "maximum"} | {
    f"{kind}_{what}" for kind in ("logical", "bitwise") for what in ("and", "or")
}

Node = TypeVar("Node", bound=ast.AST)
Place = tuple[ast.AST, str, int | None]


@dataclass(frozen=True, eq=False)
class Mutant:
    """One fault.

    Args:
        module: The file's stem.
        scope: The outermost function that holds it, such as `NofM.split`; empty
            outside of functions and in their default values.
        line: Its line.
        before: The expression or statement as it is.
        after: What becomes of it.
        number: 2 for the second one in the scope that reads the same, and so on.
        tree: The file with the fault in it.
    """

    module: str
    scope: str
    line: int
    before: str
    after: str
    number: int
    tree: ast.Module = field(repr=False)

    @property
    def name(self) -> str:
        """The same from run to run, wherever in the file its line moves."""
        where = ".".join(filter(None, [self.module, self.scope]))
        again = f" ({self.number})" if self.number > 1 else ""
        return f"{where}: {self.before} -> {self.after}{again}"


def mutants(path: Path) -> Iterator[Mutant]:
    """Every fault of a file, in the order of its lines."""
    source = path.read_text(encoding="utf-8")
    seen: dict[str, int] = {}
    original = ast.parse(source)
    for number, (node, scope) in enumerate(_places(original)):
        for change in range(len(_variants(node))):
            tree = ast.parse(source)
            mutated, place = list(_with_places(tree))[number]
            changed = _variants(mutated)[change]
            before = _short(mutated)
            _put(place, ast.copy_location(changed, mutated))
            ast.fix_missing_locations(tree)
            line = getattr(node, "lineno", 0)
            first = Mutant(path.stem, scope, line, before, _short(changed), 1, tree)
            count = seen[first.name] = seen.get(first.name, 0) + 1
            yield Mutant(path.stem, scope, line, before, first.after, count, first.tree)


def _short(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):
        return f"if {_short(node.test)}: ..."
    return " ".join(ast.unparse(node).split())


def _put(place: Place, node: ast.AST) -> None:
    parent, name, index = place
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    scopes = _scopes(tree)
    for node, _ in _with_places(tree):
        yield node, scopes.get(id(node), "")


def _with_places(node: ast.AST) -> Iterator[tuple[ast.AST, Place]]:
    """All nodes that may be changed, each with where it hangs."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "exc", "msg"):
            continue  # types, registrations, and the wording of messages
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _left_alone(child):
                continue
            if name == "args" and index == 0 and _checks_argument(node):
                continue  # its name, for the message
            yield child, (node, name, index if isinstance(value, list) else None)
            yield from _with_places(child)


def _left_alone(node: ast.AST) -> bool:
    """Docstrings, texts, imports and names for types."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom)


def _checks_argument(node: ast.AST) -> bool:
    """Whether it is a call such as `validation.positive("kappa", kappa)`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and getattr(node.func.value, "id", None) == "validation"
    )


def _scopes(tree: ast.Module) -> dict[int, str]:
    """The outermost function around each node in its body."""
    scopes = {}

    def visit(node: ast.AST, classes: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                visit(child, (*classes, child.name))
            elif isinstance(child, ast.FunctionDef):
                for statement in child.body:
                    for inner in ast.walk(statement):
                        scopes[id(inner)] = ".".join([*classes, child.name])

    visit(tree, ())
    return scopes


def _variants(node: ast.AST) -> list[ast.AST]:
    """What could stand there instead."""
    return [changed for changed in _candidates(node) if changed is not None]


def _candidates(node: ast.AST) -> Iterator[ast.AST | None]:
    match node:
        case ast.Compare(ops=[operator]):
            for other in _COMPARISONS[type(operator)]:
                yield _changed(node, ops=[other()])
        case ast.BinOp(op=operator) if type(operator) in _OPERATORS:
            # `int | None` is a type wherever it stands.
            if not (isinstance(operator, ast.BitOr) and _is_type(node)):
                yield _changed(node, op=_OPERATORS[type(operator)]())
        case ast.BoolOp():
            flipped = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield _changed(node, op=flipped())
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(number) | float(number)):
            # Next to the largest floats 1 is nothing.
            yield ast.Constant(number / 2 if number + 1 == number else number + 1)
        case ast.Constant(value=str(text)):
            yield ast.Constant(f"{text}_")
        case ast.If() | ast.While() | ast.IfExp():
            for outcome in (True, False):
                yield _changed(node, test=ast.Constant(outcome))
        case ast.Return() if node.value is not None:
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.Break() | ast.AugAssign():
            yield ast.Pass()
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Call():
            yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    if len(node.args) == 1 and not isinstance(node.args[0], ast.Starred):
        yield node.args[0]  # the function is left out
    elif len(node.args) == 2 and _called(node) not in _COMMUTE:
        yield _changed(node, args=node.args[::-1])
    for index in range(len(node.keywords)):
        kept = node.keywords[:index] + node.keywords[index + 1 :]
        yield _changed(node, keywords=kept)
    other = _SWAPPED.get(_called(node))
    if other and isinstance(node.func, ast.Attribute):
        yield _changed(node, func=_changed(node.func, attr=other))
    elif other:
        yield _changed(node, func=_changed(node.func, id=other))


def _called(node: ast.Call) -> str:
    name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
    return str(name)


def _is_type(node: ast.BinOp) -> bool:
    names = {"tuple", "list", "int", "float", "str", "Epochs", "Steps", "None"}
    return all(
        getattr(side, "id", None) in names or isinstance(side, ast.BinOp)
        for side in (node.left, node.right)
    )


def _changed(node: Node, **fields: object) -> Node:
    result = copy.copy(node)
    for name, value in fields.items():
        setattr(result, name, value)
    return result
