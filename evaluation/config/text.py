"""Reads Python values from text that is not the suite's own, without running it."""

import ast

# Python's parser gives up by one or the other of these: bad syntax, null bytes, too deep a nesting, or
# what can be no value, such as a set of lists.
UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)


def read_literals(text: str, keep_tuples: bool = False) -> dict:
    """Values of the top-level names in a config as mmengine prints it: literals and `dict(...)`.

    What else stands there, such as an expression, is returned as its source text: the file that it
    comes from may be anyone's, so nothing of it is run.

    Args:
        text: such as `model = dict(depth=50)`.
        keep_tuples: whether tuples stay tuples, for a config to be built from; else they become lists,
            for values to be compared.

    Returns:
        `{'model': {'depth': 50}}`; empty where `text` is no Python, or nested too deeply for it.
    """
    try:
        return {
            target.id: _value(statement.value, tuple if keep_tuples else list)
            for statement in ast.parse(text).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
    except UNREADABLE:
        return {}


def _value(node: ast.expr, of_tuples: type) -> object:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return {
            keyword.arg: _value(keyword.value, of_tuples) for keyword in node.keywords if keyword.arg
        }
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _value(value, of_tuples)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        kind = list if isinstance(node, ast.List) else of_tuples
        return kind(_value(entry, of_tuples) for entry in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
