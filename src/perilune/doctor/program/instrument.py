"""Rewrite the syntax tree of a program so that the values of its expressions can be recorded.

The file is not changed, and the program computes the same values: each interesting expression ``e`` becomes
``RECORD(number, e)``, which returns ``e``. ``Node`` describes what the number stands for.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

RECORD, ENTER, LEAVE = "__perilune_record__", "__perilune_enter__", "__perilune_leave__"
OWN_CALLS = {"super", "locals", "globals", "vars", "dir", "exec", "eval", "breakpoint", "input"}
COMPILED = ("jit", "compile", "script", "function", "numba", "vectorize")  # decorators that read the source again
GRAPH = re.compile(r"(tf|tensorflow)\.function\b")  # a decorator that is removed, so that the function runs as it is
ORDER = ("Lt", "LtE", "Gt", "GtE")  # operators that compare two numbers by size
RECORDED = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Subscript, ast.IfExp, ast.Compare, ast.Attribute, ast.ListComp)


@dataclass
class Node:
    """An expression, an assigned variable or a function of the program.

    Attributes:
        file: Path of the file.
        line: Its line.
        kind: "expression", "variable", "parameter", "enter" or "leave".
        text: Source of the expression, or the name of the variable or function.
        children: Numbers of the operands of a binary operation or a comparison, or of the arguments of a call.
        operator: Name of the operator's class, such as "Sub"; "Before" for a variable before an assignment such as
            ``w -= step``; "Item" for a container after the assignment of an item; or "".
        assigned: Source of the target to which the expression is assigned, or "".
        function: Name of the enclosing function, or "".
    """

    file: str
    line: int
    kind: str
    text: str
    children: list[int] = field(default_factory=list)
    operator: str = ""
    assigned: str = ""
    function: str = ""


@dataclass
class Function:
    """A function of the program: its name with the class, its syntax tree and its file."""

    name: str
    file: str
    tree: ast.FunctionDef | ast.AsyncFunctionDef
    parameters: list[str]


class Instrumenter(ast.NodeTransformer):
    """Wraps the expressions of one file. ``nodes`` collects what the numbers stand for, over all files."""

    def __init__(self, file: str, nodes: list[Node], functions: dict[int, Function]) -> None:
        self.file, self.nodes, self.functions = file, nodes, functions
        self.scope: list[str] = []
        self.leaving: list[int] = []  # numbers of the "leave" nodes of the enclosing functions

    # Statements

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Record the parameters at the start and the result at the end of a function."""
        node.decorator_list = [one for one in node.decorator_list if not GRAPH.match(ast.unparse(one))]
        if any(word in ast.unparse(one).lower() for one in node.decorator_list for word in COMPILED):
            return node
        if "yield" in ast.unparse(node):
            return node
        arguments = node.args
        names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        names += [one.arg for one in (arguments.vararg, arguments.kwarg) if one is not None]
        self.scope.append(node.name)
        enter = self._number(node, "enter", ".".join(self.scope))
        leave = self._number(node, "leave", ".".join(self.scope))
        self.functions[enter] = Function(".".join(self.scope), self.file, node, names)
        self.leaving.append(leave)
        docstring = node.body[:1] if ast.get_docstring(node, clean=False) is not None else []
        body = self._statements(node.body[len(docstring) :])
        values = ast.Tuple([ast.Name(name, ast.Load()) for name in names], ast.Load())
        first = ast.Expr(self._call(ENTER, enter, values))
        last = ast.Expr(self._call(LEAVE, leave, ast.Constant(None)))
        node.body = [*docstring, first, *body, last]
        self.leaving.pop()
        self.scope.pop()
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Leave coroutines unchanged."""
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Visit the methods of a class."""
        self.scope.append(node.name)
        node.body = self._statements(node.body)
        self.scope.pop()
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        """Record the result of a function."""
        value = self.visit(node.value) if node.value is not None else ast.Constant(None)
        if self.leaving:
            value = self._call(LEAVE, self.leaving[-1], value)
        return ast.Return(value)

    def visit_Assign(self, node: ast.Assign) -> Any:
        """Record what is assigned, and the container whose item is assigned."""
        target = node.targets[0]
        node.value = self._operand(node.value, ast.unparse(target)) if _simple(target) else self.visit(node.value)
        node.targets = [self.visit(one) if isinstance(one, ast.Subscript) else one for one in node.targets]
        return [node, *self._targets(node.targets, plain=False)]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        """Record what is assigned; leave the annotation unchanged."""
        if node.value is not None:
            node.value = self._operand(node.value, ast.unparse(node.target))
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        """Record the value before and after an assignment such as ``w -= step``."""
        text, node.value = ast.unparse(node.target), self._operand(node.value)
        if not _repeatable(node.target):
            return node
        first, second = (_parsed(text, node.target) for _ in range(2))
        before = self._wrap(first, node.target, text, operator="Before", kind="variable")
        after = self._wrap(second, node.target, text, operator=type(node.op).__name__, kind="variable")
        return [ast.Expr(before), node, ast.Expr(after)]

    def visit_For(self, node: ast.For) -> ast.AST:
        """Record the loop's variables at the start of its body."""
        node.iter = self.visit(node.iter)
        node.body = [*self._targets([node.target], plain=True), *self._statements(node.body)]
        node.orelse = self._statements(node.orelse)
        return node

    def visit_Match(self, node: ast.Match) -> ast.AST:
        """Visit the bodies of a match statement, not its patterns."""
        node.subject = self.visit(node.subject)
        for case in node.cases:
            case.body = self._statements(case.body)
        return node

    def visit_Delete(self, node: ast.Delete) -> ast.AST:
        """Leave deletions unchanged."""
        return node

    # Expressions

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Wrap an expression whose value may matter, after its parts."""
        if isinstance(node, ast.JoinedStr | ast.Constant):
            return node
        original = ast.unparse(node) if isinstance(node, RECORDED) else ""
        if isinstance(node, ast.Call):
            return self._visit_call(node, original)
        if isinstance(node, ast.BinOp):
            node.left = self._operand(node.left)
            left = self._last(node.left)
            node.right = self._operand(node.right)
            right = self._last(node.right)
            return self._wrap(node, node, original, [left, right], type(node.op).__name__)
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self._visit_compare(node, original)
        super().generic_visit(node)
        if not isinstance(node, RECORDED) or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return node
        return self._wrap(node, node, original) if not isinstance(node, ast.Attribute) else node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Visit the body of a lambda function, which has no return statement."""
        node.body = self.visit(node.body)
        return node

    def _visit_call(self, node: ast.Call, original: str) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in OWN_CALLS:
            return node
        if isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        elif not isinstance(node.func, ast.Name):
            node.func = self.visit(node.func)
        children = []
        for place, argument in enumerate(node.args):
            if isinstance(argument, ast.Starred):
                argument.value = self.visit(argument.value)
            else:
                node.args[place] = self._operand(argument)
                children.append(self._last(node.args[place]))
        for keyword in node.keywords:
            keyword.value = self._operand(keyword.value)
            children.append(self._last(keyword.value))
        return node if name == "print" else self._wrap(node, node, original, children, "Call")

    def _visit_compare(self, node: ast.Compare, original: str) -> ast.AST:
        """Record the operands of a comparison, also constants."""
        operands = []
        for one in (node.left, node.comparators[0]):
            new = self._operand(one)
            number = isinstance(one, ast.Constant) and isinstance(one.value, int | float)
            operands.append(self._wrap(new, one, ast.unparse(one)) if number else new)
        node.left, node.comparators = operands[0], operands[1:]
        return self._wrap(node, node, original, [self._last(one) for one in operands], type(node.ops[0]).__name__)

    # Helpers

    def _statements(self, statements: Iterable[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for one in statements:
            new = self.visit(one)
            found += new if isinstance(new, list) else [new]
        return found

    def _operand(self, node: ast.expr, assigned: str = "") -> ast.expr:
        """Visit an expression and wrap it also if it is a name or an attribute."""
        text, plain = ast.unparse(node), isinstance(node, ast.Name | ast.Attribute)
        new: ast.expr = self.visit(node)
        if plain:
            new = self._wrap(new, node, text)
        if assigned and (last := self._last(new)) >= 0:
            self.nodes[last].assigned = assigned
        return new

    def _targets(self, targets: list[ast.expr], plain: bool, operator: str = "") -> list[ast.stmt]:
        """Return statements that record assigned variables, except single names unless ``plain``."""
        found: list[ast.stmt] = []
        for target in targets:
            if isinstance(target, ast.Tuple | ast.List):
                found += self._targets(list(target.elts), plain=True)
            elif isinstance(target, ast.Starred):
                found += self._targets([target.value], plain=True)
            elif isinstance(target, ast.Name) and not plain:
                continue
            elif (value := _readable(target)) is not None and (plain or isinstance(target, ast.Subscript)):
                text, item = ast.unparse(value), isinstance(target, ast.Subscript)
                operator = operator or ("Item" if item else "")
                found.append(ast.Expr(self._wrap(value, target, text, operator=operator, kind="variable")))
        return found

    def _wrap(
        self,
        value: ast.expr,
        place: ast.AST,
        text: str,
        children: list[int] | None = None,
        operator: str = "",
        kind: str = "expression",
    ) -> ast.expr:
        number = self._number(place, kind, text, children, operator)
        return self._call(RECORD, number, value)

    def _number(
        self, place: ast.AST, kind: str, text: str, children: list[int] | None = None, operator: str = ""
    ) -> int:
        line = getattr(place, "lineno", 0)
        scope = ".".join(self.scope)
        self.nodes.append(Node(self.file, line, kind, text, children or [], operator, "", scope))
        return len(self.nodes) - 1

    @staticmethod
    def _call(name: str, number: int, value: ast.expr) -> ast.Call:
        return ast.Call(ast.Name(name, ast.Load()), [ast.Constant(number), value], [])

    @staticmethod
    def _last(node: ast.expr) -> int:
        """Return the number of a wrapped expression, or -1."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == RECORD:
            return int(node.args[0].value)  # type: ignore[attr-defined]
        return -1


def _simple(target: ast.expr) -> bool:
    return isinstance(target, ast.Name | ast.Attribute | ast.Subscript)


def _readable(target: ast.expr) -> ast.expr | None:
    """Return an expression that reads an assigned variable, or the container of an assigned item."""
    while isinstance(target, ast.Subscript):
        target = target.value
    parts = target
    while isinstance(parts, ast.Attribute):
        parts = parts.value
    if not isinstance(parts, ast.Name):
        return None
    return _parsed(ast.unparse(target), target)


def _parsed(text: str, place: ast.expr) -> ast.expr:
    """Return the expression ``text``, at the line of ``place``."""
    tree = ast.parse(text, mode="eval").body
    for node in ast.walk(tree):
        ast.copy_location(node, place)
    return tree


def _repeatable(target: ast.expr) -> bool:
    """Return whether reading the target twice has no side effect."""
    return not any(isinstance(one, ast.Call | ast.NamedExpr | ast.Await | ast.Yield) for one in ast.walk(target))


def instrumented(tree: ast.Module, file: str, nodes: list[Node], functions: dict[int, Function]) -> ast.Module:
    """Return the syntax tree with recorded expressions. Lines are those of the original.

    Args:
        tree: The syntax tree of the file. It is modified.
        file: Path of the file.
        nodes: Receives what the numbers stand for.
        functions: Receives the functions by the number of their "enter" node.
    """
    instrumenter = Instrumenter(file, nodes, functions)
    body: list[ast.stmt] = []
    for index, statement in enumerate(tree.body):
        future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        text = index == 0 and ast.get_docstring(tree, clean=False) is not None
        new = statement if future or text else instrumenter.visit(statement)
        body += new if isinstance(new, list) else [new]
    tree.body = body
    for node in ast.walk(tree):  # new nodes get the line of what they are in
        for child in ast.iter_child_nodes(node):
            if not hasattr(child, "lineno") and hasattr(node, "lineno"):
                ast.copy_location(child, node)
    return ast.fix_missing_locations(tree)


def install(record: Callable[[int, Any], Any], enter: Callable[..., Any], leave: Callable[..., Any]) -> None:
    """Define the functions that instrumented programs call."""
    vars(builtins).update({RECORD: record, ENTER: enter, LEAVE: leave})
