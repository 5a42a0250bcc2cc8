"""Reads the text of a config that a checkpoint holds, without running it."""

import ast


def read_literals(text: str) -> dict:
    """Values of the top-level names in a config as mmengine prints it: literals and `dict(...)`.

    What else stands there, such as an expression, is returned as its source text: the file that it
    comes from may be anyone's, so nothing of it is run.

    Args:
        text: such as `model = dict(depth=50)`.

    Returns:
        `{'model': {'depth': 50}}`; empty where `text` is no Python.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError):
        return {}
    return {
        target.id: _value(statement.value)
        for statement in statements
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(entry) for entry in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
