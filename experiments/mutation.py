"""Mutants: small wrong changes of a module's source, one change each.

Strings, docstrings, messages, type annotations, ``assert`` and imports stay unchanged.
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
        path: Path of the module, relative to the project.
        line: Line of the change, from 1.
        kind: Kind of the change, in a word or two.
        source: Whole source of the changed module.
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
        path: Path of the module, relative to the project.
        source: Source of the module.

    Raises:
        SyntaxError: If the source is not valid Python.

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
        except SyntaxError:  # for example parentheses around dropped code
            continue
        if program not in seen:
            seen.add(program)
            found.append(Mutant(path, data[:begin].count(b"\n") + 1, kind, changed))
    return sorted(found, key=lambda each: each.line)


class _Edits(ast.NodeVisitor):
    """Collects edits: which bytes to replace, by what text, and the kind of change."""

    def __init__(self, source: str) -> None:
        lengths = [len(line.encode()) for line in source.splitlines(keepends=True)]
        self._starts = [sum(lengths[:line]) for line in range(len(lengths) + 1)]
        self.found: list[tuple[int, int, str, str]] = []

    # ------------------------------------------------------------------ what stays unchanged

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave texts unchanged."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave assertions unchanged: only a bug can break them."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Change defaults and body, but neither decorators nor annotations."""
        defaults = [default for default in node.args.kw_defaults if default is not None]
        self._visit_all([*node.args.defaults, *defaults, *node.body])

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Change the body only."""
        self.visit(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Change the body only, neither decorators nor bases."""
        self._visit_all(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Change the value, unless it is a type, too."""
        if node.value is not None and "TypeAlias" not in ast.unparse(node.annotation):
            self.visit(node.value)

    # ------------------------------------------------------------------------- statements

    def visit_Raise(self, node: ast.Raise) -> None:
        """Drop the ``raise``; its message is never changed."""
        self._replace(node, "pass", "no refusal")

    def visit_Expr(self, node: ast.Expr) -> None:
        """Drop a statement that is run for its effect."""
        if not isinstance(node.value, ast.Constant):
            self._replace(node, "pass", "statement dropped")
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Drop the assignment."""
        self._replace(node, "pass", "statement dropped")
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        """Negate the condition."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """Negate the condition."""
        self._negate(node.test)
        self.generic_visit(node)

    # ------------------------------------------------------------------------ expressions

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Negate the condition."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """Negate the filters."""
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Use another comparison, at each place of a chain."""
        for place, operator in enumerate(node.ops):
            for other in _COMPARISONS[type(operator)]:
                changed = copy.deepcopy(node)
                changed.ops[place] = other()
                self._replace(node, _bracketed(changed), "comparison")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Swap ``and`` and ``or``."""
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace(node, _bracketed(ast.BoolOp(other, node.values)), "and/or")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Drop the sign, or the ``not``."""
        self._replace(node, _bracketed(node.operand), "sign or not dropped")
        self.visit(node.operand)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Use another operator; of a ``|`` keep one side only."""
        if isinstance(node.op, ast.BitOr):
            for side in (node.left, node.right):
                self._replace(node, _bracketed(side), "one side alone")
        elif (other := _ARITHMETIC.get(type(node.op))) and not _is_text(node.left, node.right):
            changed = ast.BinOp(node.left, other(), node.right)
            self._replace(node, _bracketed(changed), "arithmetic")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Use a nearby number, or the other truth value."""
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
        """Swap two arguments, drop a keyword, or swap ``min``/``max`` or ``any``/``all``."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _SWAPPED:
            self._replace(node.func, _SWAPPED[name], "min/max or any/all")
        # The order of the arguments of min and max does not matter.
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
        # A single comparison or a not has this mutant already.
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
    """Source of a node, in brackets unless it is safe at any place without."""
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
    """A random sample of the mutants, in their order; equal seeds give equal samples.

    Args:
        mutants: All mutants.
        number: Size of the sample; all mutants if there are fewer.
        seed: Random seed of the draw.
    """
    places = random.Random(seed).sample(range(len(mutants)), min(number, len(mutants)))
    return [mutants[place] for place in sorted(places)]
