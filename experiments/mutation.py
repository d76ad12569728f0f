"""Small wrong changes of a module's source, one at a time; not what finds them.

Texts stay as they are: neither strings nor docstrings nor what stands in a message. So do type
annotations, ``assert`` and imports.
"""

import ast
import copy
import difflib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_PAIRS = (("min", "max"), ("any", "all"))
_SWAPPED = {name: other for pair in _PAIRS for name, other in (pair, pair[::-1])}


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
        path: Of the module, relative to the project.
        line: Where the change is, from 1.
        kind: Of the change, in a word or two.
        source: The whole module with it.
    """

    path: str
    line: int
    kind: str
    source: str

    def diff(self, original: str) -> str:
        """The change as a unified diff without its first two lines."""
        before, after = original.splitlines(), self.source.splitlines()
        place = f"{self.path}:{self.line}"
        lines = difflib.unified_diff(before, after, place, self.kind, lineterm="", n=1)
        return "\n".join(lines)


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines; no two are the same program.

    Args:
        path: Of the module, relative to the project.
        source: Its text.

    Raises:
        SyntaxError: If the text is no Python.

    Example:
        >>> [each.source for each in mutants_of("a.py", "x = 1 < y")]
        ['x = (1 <= y)', 'x = (1 >= y)', 'x = 2 < y', 'x = 0 < y']
    """
    tree = ast.parse(source)
    edits = _Edits(source)
    edits.visit(tree)
    seen, found = {ast.dump(tree)}, []
    for begin, end, text, kind in edits.found:
        data = source.encode()
        changed = (data[:begin] + text.encode() + data[end:]).decode()
        try:
            program = ast.dump(ast.parse(changed))
        except SyntaxError:  # parentheses around what was taken out
            continue
        if program not in seen:
            seen.add(program)
            found.append(Mutant(path, data[:begin].count(b"\n") + 1, kind, changed))
    return sorted(found, key=lambda each: each.line)


class _Edits(ast.NodeVisitor):
    """Collects what to put in place of which bytes, and why."""

    def __init__(self, source: str) -> None:
        lengths = [len(line.encode()) for line in source.splitlines(keepends=True)]
        self._starts = [sum(lengths[:line]) for line in range(len(lengths) + 1)]
        self.found: list[tuple[int, int, str, str]] = []

    # ------------------------------------------------------------------ what stays as it is

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A text."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """What only a bug of ours can break."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Neither decorators nor annotations."""
        defaults = [default for default in node.args.kw_defaults if default is not None]
        self._visit_all([*node.args.defaults, *defaults, *node.body])

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """What it computes."""
        self.visit(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Neither decorators nor bases."""
        self._visit_all(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The value, if that is not a type too."""
        if node.value is not None and "TypeAlias" not in ast.unparse(node.annotation):
            self.visit(node.value)

    # ------------------------------------------------------------------------- statements

    def visit_Raise(self, node: ast.Raise) -> None:
        """What is refused goes through; of the message nothing changes."""
        self._replace(node, "pass", "no refusal")

    def visit_Expr(self, node: ast.Expr) -> None:
        """What is done for its effect is not done."""
        if not isinstance(node.value, ast.Constant):
            self._replace(node, "pass", "statement dropped")
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Nothing is added."""
        self._replace(node, "pass", "statement dropped")
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        """The other branch."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """The other way round."""
        self._negate(node.test)
        self.generic_visit(node)

    # ------------------------------------------------------------------------ expressions

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """The other branch."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """The others instead."""
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Another comparison, at each place of a chain."""
        for place, operator in enumerate(node.ops):
            for other in _COMPARISONS[type(operator)]:
                changed = copy.deepcopy(node)
                changed.ops[place] = other()
                self._replace(node, _bracketed(changed), "comparison")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """And for or, or for and."""
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace(node, _bracketed(ast.BoolOp(other, node.values)), "and/or")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Without the sign, or the not."""
        self._replace(node, _bracketed(node.operand), "sign or not dropped")
        self.visit(node.operand)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Another operation; of what is joined by ``|`` one side alone."""
        if isinstance(node.op, ast.BitOr):
            for side in (node.left, node.right):
                self._replace(node, _bracketed(side), "one side alone")
        elif (other := _ARITHMETIC.get(type(node.op))) and not _is_text(node.left, node.right):
            changed = ast.BinOp(node.left, other(), node.right)
            self._replace(node, _bracketed(changed), "arithmetic")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """A number beside it, or the other truth value."""
        value = node.value
        if isinstance(value, bool):
            self._replace(node, str(not value), "truth value")
        elif isinstance(value, int):
            for other in (value + 1, value - 1):
                self._replace(node, _bracketed(ast.Constant(other)), "constant")
        elif isinstance(value, float):
            for near in (2.0 * value, value / 2.0) if value else (1.0,):
                self._replace(node, repr(near), "constant")

    def visit_Call(self, node: ast.Call) -> None:
        """Two arguments swapped, a named one left out, the least for the most."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _SWAPPED:
            self._replace(node.func, _SWAPPED[name], "min/max or any/all")
        # The order of what is compared changes nothing.
        for place in range(1, len(node.args) if name not in {"min", "max"} else 0):
            first, second = node.args[place - 1 : place + 1]
            if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
                changed = copy.deepcopy(node)
                changed.args[place - 1 : place + 1] = [second, first]
                self._replace(node, ast.unparse(changed), "arguments swapped")
        for place in range(len(node.keywords)):
            changed = copy.deepcopy(node)
            del changed.keywords[place]
            self._replace(node, ast.unparse(changed), "argument left out")
        self.generic_visit(node)

    # --------------------------------------------------------------------------------

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _negate(self, test: ast.expr) -> None:
        # Of a single comparison, and of a not, the mutants of these are the same.
        is_single = isinstance(test, ast.Compare) and len(test.ops) == 1
        if not is_single and not isinstance(test, ast.UnaryOp):
            self._replace(test, f"(not {_bracketed(test)})", "condition negated")

    def _replace(self, node: ast.expr | ast.stmt, text: str, kind: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        self.found.append((begin, end, text, kind))


def _bracketed(node: ast.expr) -> str:
    """Its text, which stands for itself wherever it is put."""
    text = ast.unparse(node)
    is_atom = isinstance(node, ast.Name | ast.Constant) and not text.startswith("-")
    return text if is_atom else f"({text})"


def _is_text(*nodes: ast.expr) -> bool:
    return any(
        isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        for node in nodes
    )


def drawn(mutants: Sequence[Mutant], number: int, seed: int) -> list[Mutant]:
    """Some of the mutants, the same ones for the same seed, in their order.

    Args:
        mutants: All.
        number: How many; all if there are no more.
        seed: Of the draw.
    """
    places = random.Random(seed).sample(range(len(mutants)), min(number, len(mutants)))
    return [mutants[place] for place in sorted(places)]
