"""fastrpc.frame opens the compiled twins, or the pure ones, and never hides a broken build."""

import importlib.util
import sys
from types import ModuleType

import pytest

import fastrpc.frame
from tests.frame.twins import MODULES, both, open_twin


def opened(monkeypatch: pytest.MonkeyPatch, pure: str | None = None) -> ModuleType:
    """Run the chooser again, in a module of its own."""
    monkeypatch.delenv("FASTRPC_PURE", raising=False)
    if pure is not None:
        monkeypatch.setenv("FASTRPC_PURE", pure)
    spec = importlib.util.spec_from_file_location("chosen", fastrpc.frame.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_twin(module: ModuleType, name: str) -> bool:
    twin = open_twin(name)
    return all(
        getattr(module, public) is getattr(twin, public)
        for public in module.__all__
        if public != "COMPILED"
    )


@pytest.mark.compiled
@pytest.mark.parametrize("pure", [None, "", "0"])
def test_the_compiled_ones_if_they_are_there(
    monkeypatch: pytest.MonkeyPatch, pure: str | None
) -> None:
    module = opened(monkeypatch, pure)
    assert module.COMPILED is True
    assert is_twin(module, "compiled")


@pytest.mark.parametrize("pure", ["1", "yes"])
def test_the_pure_ones_on_demand(monkeypatch: pytest.MonkeyPatch, pure: str) -> None:
    module = opened(monkeypatch, pure)
    assert module.COMPILED is False
    assert is_twin(module, "pure")


@pytest.mark.compiled
def test_the_pure_ones_if_nothing_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    for unit in MODULES["compiled"]:
        monkeypatch.setitem(sys.modules, unit, None)
    module = opened(monkeypatch)
    assert module.COMPILED is False
    assert is_twin(module, "pure")


@pytest.mark.compiled
def test_half_a_build_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastrpc._lane", None)
    with pytest.raises(ModuleNotFoundError, match=r"fastrpc\._lane"):
        opened(monkeypatch)


@pytest.mark.compiled
def test_a_build_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastrpc._frame", ModuleType("fastrpc._frame"))
    with pytest.raises(ImportError, match="cannot import name"):
        opened(monkeypatch)


@pytest.mark.compiled
def test_what_is_tested_here_is_compiled() -> None:
    pure, compiled = both()
    for module in MODULES["compiled"]:
        file = sys.modules[module].__file__
        assert file is not None
        assert not file.endswith(".py")
    assert type(compiled.encode_frame) is not type(pure.encode_frame)
