"""Build the compiled twin, the way the environment says; the rest is pyproject.toml.

FASTRPC_EXT       auto (default: try, warn when it fails), off, or require
FASTRPC_DEBUG     1: no optimisation, bounds checks, assertions, annotated HTML
FASTRPC_TRACE     1: line tracing, for coverage of the .pyx
FASTRPC_SANITIZE  1: address and undefined-behaviour sanitizers
"""

import os
import sys
from pathlib import Path

from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(Path("fastrpc").glob("_*.pyx"))
RELEASE = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "auto_pickle": False,
    "autotestdict": False,
}
CAREFUL = {"boundscheck": True, "initializedcheck": True}


def choice(name: str, *allowed: str) -> str:
    """Return the value of a variable, the first allowed one if unset; refuse all others."""
    value = os.environ.get(name, allowed[0])
    if value not in allowed:
        sys.exit(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    return value


class BuildAll(build_ext):
    """Build all units or none: half an engine does not import."""

    def build_extensions(self) -> None:
        """Build, and take back what was built if a unit that may fail has failed."""
        super().build_extensions()
        units = [Path(self.get_ext_fullpath(unit.name)) for unit in self.extensions]
        if not all(path.exists() for path in units):
            for path in units:
                path.unlink(missing_ok=True)
            print("fastrpc build: a unit failed; the pure-Python twin stands in", flush=True)


def extension(source: Path, mode: str, *, debug: bool, trace: bool, sanitize: bool) -> Extension:
    """Return one compiled unit as setuptools and Cython want it."""
    msvc = sys.platform == "win32"
    flags = ["/O2"] if msvc else ["-O3", "-g0"]
    macros: list[tuple[str, str | None]] = []
    directives: dict[str, object] = dict(RELEASE)
    link: list[str] = []
    if debug or trace or sanitize:
        flags = ["/Od"] if msvc else ["-O0" if debug else "-O1", "-g", "-UNDEBUG"]
    else:
        macros.append(("CYTHON_WITHOUT_ASSERTIONS", "1"))
    if debug:
        directives |= CAREFUL
    if trace:
        # sys.monitoring carries no Cython lines to coverage; the C tracer does.
        directives["linetrace"] = True
        macros += [
            ("CYTHON_TRACE", "1"),
            ("CYTHON_TRACE_NOGIL", "1"),
            ("CYTHON_USE_SYS_MONITORING", "0"),
        ]
    if sanitize:
        checks = "-fsanitize=address,undefined"
        flags += [checks, "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined"]
        link = [checks]
    unit = Extension(
        f"fastrpc.{source.stem}",
        [source.as_posix()],
        depends=[path.as_posix() for path in Path("fastrpc").glob("_*.pxd")],
        define_macros=macros,
        extra_compile_args=flags,
        extra_link_args=link,
        optional=mode == "auto",
    )
    unit.cython_directives = directives
    # Coverage looks for the generated C beside the source; nobody else wants it there.
    unit.cython_c_in_temp = not (trace or debug)
    return unit


def main() -> None:
    """Read the switches, say which build this is, build."""
    mode = choice("FASTRPC_EXT", "auto", "off", "require")
    switches = {
        word: choice(f"FASTRPC_{word.upper()}", "0", "1") == "1"
        for word in ("debug", "trace", "sanitize")
    }
    kind = "+".join(word for word, on in switches.items() if on) or "release"
    if mode == "off":
        print("fastrpc build: pure Python (FASTRPC_EXT=off)", flush=True)
        setup(ext_modules=[])
        return
    print(f"fastrpc build: compiled, {kind} (FASTRPC_EXT={mode})", flush=True)
    Options.warning_errors = True
    Options.annotate = switches["debug"]
    setup(
        ext_modules=[extension(source, mode, **switches) for source in SOURCES],
        cmdclass={"build_ext": BuildAll},
        # Modes share file names, and times say nothing about modes: never reuse.
        options={"build_ext": {"force": True}},
    )


main()
