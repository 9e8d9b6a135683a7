import asyncio
import json
import logging
import os
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from fastrpc.cluster import Change, Gone, Instance, InstanceState, Listing, Put, parse_cluster
from fastrpc.cluster.instance import id_of
from fastrpc.cluster.registries import files as files_module
from fastrpc.cluster.registries.files import FileRegistry, _Reader
from fastrpc.errors import RegistryLost
from fastrpc.testing.registry import check_registry

TOML = """
[services]
Arith = ["tcp://10.0.0.1:7000", "tcp://10.0.0.2:7000"]

[[services."shop.Words"]]
id = "words-1"
addresses = ["tcp://10.0.0.3:7000", "unix:///run/words.sock"]
weight = 2.5
zone = "eu-1"
version = "2"
group = "blue"
tags = { rack = "7", colour = "grün" }
state = "draining"
later = "what a newer version knows"

[[services."shop.Words"]]
address = "tcp://10.0.0.4:7000"
weight = 3
"""
ONE = Instance(id=id_of("tcp://10.0.0.1:7000"), addresses=("tcp://10.0.0.1:7000",))
TWO = Instance(id=id_of("tcp://10.0.0.2:7000"), addresses=("tcp://10.0.0.2:7000",))


def open_file(path: Path) -> FileRegistry:
    return FileRegistry(parse_cluster(f"file://{path}"), every=0.001)


def replace_file(path: Path, text: str | bytes) -> None:
    """Do as one should: the new file is whole before it is there."""
    new = path.with_name("new")
    new.write_bytes(text if isinstance(text, bytes) else text.encode())
    new.rename(path)


def as_json(services: dict[str, Any]) -> str:
    return json.dumps({"services": services})


async def until(registry: FileRegistry, service: str, *instances: Instance) -> Listing:
    """Look until exactly these are listed."""
    while True:
        listing = await registry.list(service)
        if set(listing.instances) == set(instances):
            return listing
        await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_it_keeps_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    services: dict[str, Any] = {}

    async def fill(service: str, instances: tuple[Instance, ...]) -> None:
        services[service] = [
            {
                "id": each.id, "addresses": each.addresses, "weight": each.weight,
                "zone": each.zone, "version": each.version, "group": each.group,
                "tags": dict(each.tags), "state": each.state.value,
            }
            for each in instances
        ]  # fmt: skip
        replace_file(path, as_json(services))
        await until(checked[-1], service, *instances)

    checked: list[FileRegistry] = []

    def make() -> FileRegistry:
        checked.append(open_file(path))
        return checked[-1]

    replace_file(path, as_json({"Other": ["tcp://10.0.0.9:1"]}))
    await check_registry(make, fill=fill, is_polled=True)


@pytest.mark.asyncio
async def test_all_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "instances.toml"
    path.write_text(TOML)
    registry = open_file(path)
    assert await registry.services() == ("Arith", "shop.Words")
    assert (await registry.list("Arith")).instances == (ONE, TWO)
    assert (await registry.list("shop.Words")).instances == (
        Instance(
            id="words-1",
            addresses=("tcp://10.0.0.3:7000", "unix:///run/words.sock"),
            weight=2.5,
            zone="eu-1",
            version="2",
            group="blue",
            tags=(("colour", "grün"), ("rack", "7")),
            state=InstanceState.DRAINING,
        ),
        Instance(id=id_of("tcp://10.0.0.4:7000"), addresses=("tcp://10.0.0.4:7000",), weight=3),
    )
    assert await registry.list("Nobody") == Listing(())


@pytest.mark.parametrize(
    "entry",
    [
        7, None, [], {}, "", "nonsense", "tcp://", {"address": 7}, {"addresses": "tcp://a:1"},
        {"addresses": []}, {"address": "tcp://a:1", "weight": 0},
        {"address": "tcp://a:1", "weight": "much"}, {"address": "tcp://a:1", "state": "asleep"},
        {"address": "tcp://a:1", "state": ["up"]}, {"address": "tcp://a:1", "id": "a b"},
        {"address": "tcp://a:1", "tags": "red"}, {"address": "tcp://a:1", "tags": {"a": 1}},
        {"address": "tcp://a:1", "zone": 7}, "tcp://10.0.0.1:7000",
    ],
)  # fmt: skip
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_an_entry_that_is_wrong_is_left_out(entry: Any, tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(as_json({"Arith": ["tcp://10.0.0.1:7000", entry, "tcp://10.0.0.2:7000"]}))
    assert await open_file(path).list("Arith") == Listing((ONE, TWO), skipped=1)


@pytest.mark.asyncio
async def test_a_watch_tells_what_has_changed_and_who_was_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(as_json({"Arith": ["tcp://10.0.0.1:7000"], "Other": []}))
    async with aclosing(open_file(path).watch("Arith")) as watch:
        assert await anext(watch) == Listing((ONE,))
        replace_file(path, as_json({"Arith": ["tcp://10.0.0.1:7000", "tcp://10.0.0.2:7000"]}))
        assert await anext(watch) == Put(TWO)
        heavy = {"id": ONE.id, "address": "tcp://10.0.0.1:7000", "weight": 5}
        replace_file(path, as_json({"Arith": [heavy]}))
        changes: list[Change] = [await anext(watch), await anext(watch)]
        assert changes[0] == Gone(TWO.id, is_explicit=True)
        assert isinstance(changes[1], Put)
        assert changes[1].instance.weight == 5
        replace_file(path, as_json({"Arith": [heavy, "rubbish"]}))
        assert await anext(watch) == Listing((changes[1].instance,), skipped=1)


BAD = {
    "half": TOML[: len(TOML) // 2].encode(),
    "empty": b"",
    "no table": b"[service]\nArith = []\n",
    "no list": b"[services]\nArith = 'tcp://10.0.0.1:7000'\n",
    "no name": b"[services]\n'a/b' = []\n",
    "bytes": b"\xff\xfe[services]",
    "deep": b"[services]\nArith = " + b"[" * 100_000,
    "long": b"#" * (files_module.TOML_MAX + 1),
    "many names": b"[services]\nArith = []\n[" + b".".join([b"a"] * 500_000) + b"]\n",
    "quoted names": b"[services]\nArith = []\n" + b" . ".join([b'"\\""'] * 17) + b" = 1\n",
    "hidden names": b"[services]\nArith = []\nx = { a = '''\n''', "
    + b".".join([b"a"] * 17)
    + b' = 1, b = "\'" }\n',
}


FINE = {
    "a long host": b'"tcp://' + b".".join([b"a"] * 40) + b':7000"',
    "names in texts": b'"x", """\n"" a.' + b".".join([b"a"] * 40) + b'"""',
    "names in notes": b"# it's " + b".".join([b"a"] * 40) + b"\n",
    "as deep as may be": b"{ " + b".".join([b"a"] * 16) + b" = 1 }",
}


@pytest.mark.parametrize("entry", FINE.values(), ids=[*FINE])
def test_dots_that_are_in_no_key_are_as_many_as_they_like(entry: bytes, tmp_path: Path) -> None:
    path = tmp_path / "instances.toml"
    path.write_bytes(b'[services]\nArith = [\n"tcp://10.0.0.1:7000",\n' + entry + b"]\n")
    content = _Reader(str(path)).look()
    assert content is not None
    assert ONE in content.services["Arith"].instances


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_watch_is_lost_while_the_file_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "instances.toml"
    path.write_text(TOML)
    registry = open_file(path)
    watch = registry.watch("Arith")
    assert await anext(watch) == Listing((ONE, TWO))
    replace_file(path, BAD["many names"])
    for lost in (watch, registry.watch("Arith")):
        with pytest.raises(RegistryLost, match="line 3: a key of more than 16 names"):
            await anext(lost)
    assert await registry.list("Arith") == Listing((ONE, TWO))
    replace_file(path, '[services]\nArith = ["tcp://10.0.0.1:7000"]\n')
    await until(registry, "Arith", ONE)
    async with aclosing(registry.watch("Arith")) as watch:
        assert await anext(watch) == Listing((ONE,))
        assert await anext(watch) == Gone(TWO.id, is_explicit=True)


@pytest.mark.parametrize("what", [*BAD, "vanished", "folder", "pipe", "dangling"])
def test_what_cannot_be_read_leaves_all_as_it_was_and_is_told_once(
    what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastrpc.cluster")
    path = tmp_path / "instances.toml"
    path.write_text(TOML)
    reader = _Reader(str(path))
    before = reader.look()
    assert before is not None
    path.unlink()
    if what in BAD:
        path.write_bytes(BAD[what])
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    for _ in range(5):
        assert reader.look() is before
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    assert "what it said before stays" in caplog.text
    fresh = _Reader(str(path))  # who starts now knows nothing, and says so
    assert fresh.look() is None
    assert fresh.problem
    if path.is_dir():
        path.rmdir()
    replace_file(path, TOML.replace("10.0.0.2", "10.0.0.5"))
    for _ in range(2):
        after = reader.look()
    assert after is not None
    assert len(after.services["Arith"].instances) == 2
    assert after is not before
    assert "can be read again" in caplog.text


@pytest.mark.asyncio
async def test_without_a_file_there_is_no_list_until_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "instances.toml"
    registry = open_file(path)
    for _ in range(2):
        with pytest.raises(RegistryLost, match=r"instances\.toml: No such file"):
            await registry.list("Arith")
    with pytest.raises(RegistryLost):
        await anext(registry.watch("Arith"))
    replace_file(path, TOML)
    assert (await registry.list("Arith")).instances == (ONE, TWO)


def test_a_file_that_somebody_writes_is_read_when_it_rests(tmp_path: Path) -> None:
    path = tmp_path / "instances.toml"
    path.write_text(TOML)
    reader = _Reader(str(path))
    before = reader.look()
    # Cut at a line: what is there so far could be read, and would be wrong.
    path.write_text('[services]\nArith = ["tcp://10.0.0.1:7000"]\n')
    assert reader.look() is before
    path.write_text('[services]\nArith = ["tcp://10.0.0.1:7000", "tcp://10.0.0.8:7000"]\n')
    assert reader.look() is before
    after = reader.look()
    assert after is not before
    assert after is not None
    assert len(after.services["Arith"].instances) == 2
    assert reader.look() is after


def test_a_file_that_never_rests_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "instances.toml"
    path.write_text(TOML)
    reader = _Reader(str(path))
    before = reader.look()
    looks = 0
    while reader.look() is before:
        looks += 1
        path.write_text(TOML + "#" * looks)
        assert looks < 20
    assert looks == files_module._WAITS + 1  # the first look saw nothing new


def test_symbolic_links_may_be_swapped_as_kubernetes_does(tmp_path: Path) -> None:
    for name, host in (("..1", "10.0.0.1"), ("..2", "10.0.0.2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "instances.toml").write_text(f'[services]\nA = ["tcp://{host}:7000"]')
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "instances.toml"
    path.symlink_to("..data/instances.toml")
    reader = _Reader(str(path))
    before = reader.look()
    assert before is not None
    assert before.services["A"].instances == (ONE,)
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    for _ in range(2):
        after = reader.look()
    assert after is not None
    assert after.services["A"].instances == (TWO,)


@pytest.mark.parametrize("limit", ["services", "instances"])
def test_limits(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, f"{limit.upper()}_MAX", 2)
    path = tmp_path / "instances.json"
    for count, fits in ((2, True), (3, False)):
        targets = [f"tcp://a:{port + 1}" for port in range(count)]
        services = {"A": targets} if limit == "instances" else {key: [] for key in "ABC"[:count]}
        path.write_text(as_json(services))
        reader = _Reader(str(path))
        assert (reader.look() is not None) is fits
        assert (f"more than 2 {limit}" in reader.problem) is not fits


@pytest.mark.asyncio
async def test_a_disk_that_hangs_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "PATIENCE", 0.01)
    path = tmp_path / "instances.toml"
    path.write_text(TOML)
    registry, fresh = open_file(path), open_file(path)
    before = await registry.list("Arith")
    gate, stat = threading.Event(), os.stat

    def hang(path: Any, **options: Any) -> os.stat_result:
        if threading.current_thread().name == "fastrpc-file":
            assert gate.wait(10)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", hang)
    try:
        assert await registry.list("Arith") == before
        with pytest.raises(RegistryLost, match="the disk hangs"):
            await fresh.list("Arith")
    finally:
        gate.set()
    while registry._look.is_open or fresh._look.is_open:
        await asyncio.sleep(0.001)
    assert await fresh.list("Arith") == before


@pytest.mark.asyncio
async def test_who_names_no_service_means_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    replace_file(path, as_json({"Arith": ["tcp://10.0.0.1:7000"]}))
    registry = open_file(path)
    assert await registry.list("any") == Listing((ONE,))
    replace_file(path, as_json({"Arith": ["tcp://10.0.0.1:7000"], "Words": []}))
    with pytest.raises(RegistryLost, match="2 services: name one behind #"):
        await until(registry, "any", TWO)
    await registry.aclose()
