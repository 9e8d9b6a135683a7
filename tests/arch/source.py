"""The library's source files, as the architecture tests read them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "fastrpc"
PYX = sorted(PACKAGE.glob("_*.pyx"))
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the path as people write it, from the root of the project."""
    return path.relative_to(ROOT).as_posix()


def dotted(path: Path) -> str:
    """Return the name a module is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
