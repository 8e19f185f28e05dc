"""What a kernel's source must have, and what it names that a kernel has no use for.

The format rule is the task's own: a Triton function, and no "identity" (a kernel that hands the
work back). The findings are advisory: a determined program hides such names, so measuring decides,
and an honest one may use some of them.
"""

from __future__ import annotations

import ast

FORBIDDEN_WORD = "identity"
SUSPECT = frozenset(
    {
        "sys.modules", "gc", "inspect", "ctypes", "os.environ", "os.write", "os._exit", "open",
        "threading", "subprocess", "multiprocessing", "socket", "torch.cuda.Stream",
        "torch.cuda.stream", "torch.cuda.CUDAGraph", "torch.cuda.graph", "torch.cuda.Event",
        "time.perf_counter", "torch.cuda.synchronize",
    }
)  # fmt: skip


def refused(source: str) -> str:
    """Why the source is no kernel at all; "" when it may be tried."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"the program is not Python: {error}"
    if FORBIDDEN_WORD in source:
        return f'the program contains "{FORBIDDEN_WORD}"'
    if not any(_is_jit(node) for node in ast.walk(tree)):
        return "the program has no function under @triton.jit"
    return ""


def findings(source: str) -> list[str]:
    """Names of `SUSPECT` that the source uses, sorted; [] for what is not Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    named = {_dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            named.add(node.func.id)
    return sorted(SUSPECT & named)


def _is_jit(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    called = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return any(_dotted(decorator).rpartition(".")[2] == "jit" for decorator in called)


def _dotted(node: ast.AST) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ""
