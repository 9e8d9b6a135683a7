"""The messages of schemas/*.proto, as protoc makes them."""

import functools
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc_tools
from grpc_tools import protoc

SCHEMAS = Path(__file__).parent / "schemas"
KNOWN = Path(grpc_tools.__file__).parent / "_proto"  # what comes with protobuf


@functools.cache
def load(name: str) -> Any:
    """Return the module that protoc makes of schemas/*name*.proto."""
    with tempfile.TemporaryDirectory(prefix="protoc") as folder:
        status = protoc.main(
            ["protoc", f"-I{SCHEMAS}", f"-I{KNOWN}", f"--python_out={folder}", f"{name}.proto"]
        )
        assert status == 0, f"protoc ended with {status}"
        sys.path.insert(0, folder)
        try:
            module = importlib.import_module(f"{name}_pb2")
        finally:
            sys.path.remove(folder)
    return module
