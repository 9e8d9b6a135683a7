"""The types that are written are right, whatever a contract says, and tsc takes them."""

import asyncio
import enum
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import msgspec
import numpy.typing
import pytest

import fastrpc
from fastrpc.call import read_document
from fastrpc.cli.typescript import write_types
from tests.cli.served import invoke
from tests.interop.node import js_client, run_node


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Bits(enum.IntFlag):
    A = 1
    B = 2


@dataclass
class Node:
    """A tree."""

    value: int
    next: "Node | None" = None
    color: Color = Color.RED
    tags: set[str] = field(default_factory=set)


@dataclass
class Holder:
    node: Node


@dataclass
class Only:
    """Comes, and is never sent. It ends */ here."""

    when: datetime
    amount: Decimal


class Search(TypedDict):
    words: str
    limit: NotRequired[int]


class Pair(NamedTuple):
    first: int
    second: str = ""


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Date(msgspec.Struct):
    """Has a name that means something else in TypeScript."""

    year: int


class Zoo:
    """Everything that can stand in a contract."""

    def plain(self, a: int, b: float, c: str, d: bool, e: None, f: bytes, g: object) -> bytes:
        """Say nothing.

        Not even: */ alert(1) /*
        """
        raise NotImplementedError

    def times(self, when: datetime, day: date, key: UUID, amount: Decimal) -> Only: ...

    def zoned(
        self, when: Annotated[datetime, msgspec.Meta(tz=True)]
    ) -> Annotated[datetime, msgspec.Meta(tz=True)]: ...

    def node(self, node: Node, holder: Holder) -> Holder: ...

    def lists(
        self, a: list[int | None], b: tuple[int, str], c: set[str], d: tuple[int, ...], e: Pair
    ) -> tuple[list[Color], set[int], Pair]: ...

    def maps(
        self, a: dict[str, int], b: dict[int, Color], c: dict[Color, int], d: dict[UUID, list[int]]
    ) -> dict[int, dict[Level, str]]: ...

    def choices(
        self, a: Literal["x", "y", 3], b: Level, c: Cat | Dog, d: Bits
    ) -> int | str | None: ...

    def search(self, query: Search, date: Date) -> Search: ...

    def arrays(self, a: numpy.typing.NDArray[numpy.float64]) -> Any: ...

    def default(self, function: int, /, new: int = 1, *, in_: str = "", out: int) -> None: ...

    def rest(self, a: int = 0, *rest: str, b: int = 1, **more: float) -> None: ...

    @fastrpc.rpc(name="is-there?")
    def odd(self) -> bool: ...

    async def items(self, since: datetime) -> AsyncIterator[Node]:
        yield Node(1)

    async def take(self, start: int, nodes: AsyncIterator[Node], end: int = 0) -> int:
        return 1

    async def both(self, numbers: AsyncIterator[int]) -> AsyncIterator[str]:
        yield ""


def length(text: str) -> int:
    """Return how long *text* is."""
    return len(text)


def contract(*services: Any, **options: Any) -> dict[str, Any]:
    server = fastrpc.Server()
    for service in services:
        server.register(service, **options)
    told = json.loads(json.dumps(server.describe(schema=True)))
    return read_document({key: told[key] for key in ("$schema", "fastrpc", "services", "$defs")})


EXPECTED = """\
// Written by `fastrpc describe --ts`; change the service instead, and write it again.
//
// Integers past 2^53 arrive as bigint, whatever stands here. Times without a zone are text.

import type { Named, NdArray, TypedArray } from "fastrpc-client";

/** Comes, and is never sent. It ends *\\/ here. */
export interface Only {
  when: Date | string;
  amount: string;
}

/** A tree. */
export interface NodeInput {
  value: number;
  next?: NodeInput | null;
  color?: Color;
  tags?: string[] | Set<string>;
}

/** A tree. */
export interface Node {
  value: number;
  next: Node | null;
  color: Color;
  tags: string[];
}

export type Color = "red" | "blue";

export interface HolderInput {
  node: NodeInput;
}

export interface Holder {
  node: Node;
}

export type PairInput = [number, (string)?];

export type Pair = [number, string];

export type Level = 1 | 3;

export interface Cat {
  type: "Cat";
  lives: number;
}

export interface Dog {
  type: "Dog";
  name: string;
}

export type Bits = number;

export interface Search {
  words: string;
  limit?: number;
}

/** Has a name that means something else in TypeScript. */
export interface Date_2 {
  year: number;
}

/**
 * Everything that can stand in a contract.
 *
 * `client.stub<Zoo>("Zoo")`
 */
export interface Zoo {
  /**
   * Say nothing.
   *
   * Not even: *\\/ alert(1) /*
   */
  plain(
    a: number,
    b: number,
    c: string,
    d: boolean,
    e: null,
    f: Uint8Array,
    g: unknown,
  ): Promise<Uint8Array>;
  times(when: Date | string, day: string, key: string, amount: string | number): Promise<Only>;
  zoned(when: Date | string): Promise<Date>;
  node(node: NodeInput, holder: HolderInput): Promise<Holder>;
  lists(
    a: (number | null)[],
    b: [number, string],
    c: string[] | Set<string>,
    d: number[],
    e: PairInput,
  ): Promise<[Color[], number[], Pair]>;
  maps(
    a: { [key: string]: number },
    b: Map<number, Color>,
    c: { [key in Color]?: number },
    d: { [key: string]: number[] },
  ): Promise<{ [key: string]: { [key: string]: string } }>;
  choices(a: "x" | "y" | 3, b: Level, c: Cat | Dog, d: Bits): Promise<number | string | null>;
  search(query: Search, date: Date_2): Promise<Search>;
  arrays(a: NdArray | TypedArray): Promise<unknown>;
  default(
    function_: number,
    new_: number | undefined,
    named: Named<{ in_?: string; out: number }>,
  ): Promise<null>;
  rest(
    a?: number,
    ...rest: (string | Named<{ b?: number } & { [key: string]: number }>)[]
  ): Promise<null>;
  "is-there?"(): Promise<boolean>;
  items(since: Date | string): AsyncIterable<Node>;
  take(start: number, nodes: AsyncIterable<NodeInput>, end?: number): Promise<number>;
  both(numbers: AsyncIterable<number>): AsyncIterable<string>;
}

/**
 * Functions that are served by themselves.
 *
 * `client.stub<Functions>("")`
 */
export interface Functions {
  /** Return how long *text* is. */
  length(text: string): Promise<number>;
}
"""


def test_every_type() -> None:
    assert write_types(contract(Zoo(), length)) == EXPECTED


def test_nothing_is_a_module_too() -> None:
    assert write_types(contract()).endswith("\n\nexport {};\n")


def test_versions_and_groups_are_named() -> None:
    class Shop:
        def buy(self) -> None: ...

    text = write_types(contract(Shop(), version="2", group="eu"))
    assert "export interface Shop_2_eu {\n" in text
    assert 'client.stub<Shop_2_eu>("Shop", { version: "2", group: "eu" })' in text
    assert "  buy(): Promise<null>;\n" in text


HOSTILE = '*/ } declare global { \u2028"`\\'


def hostile() -> dict[str, Any]:
    """Return a contract whose words are meant to break out of where they stand."""
    told = contract(Zoo())
    (service,) = told["services"]
    service["doc"] = HOSTILE
    service["name"] = "x*/ y"
    for number, method in enumerate(service["methods"]):
        method["name"], method["doc"] = f"{HOSTILE}{number}".replace("@", ""), HOSTILE
    told["$defs"]["Node"]["description"] = HOSTILE
    told["$defs"]["Color"]["enum"] = [HOSTILE, "class"]
    for name in [*told["$defs"]]:
        told["$defs"][f"{name}*/;"] = told["$defs"][name]
    told["$defs"]["Only"]["properties"][HOSTILE] = {"type": "integer"}
    told["$defs"]["Only"]["properties"]["deep"] = {"$ref": "#/$defs/Node*/;"}
    told["$defs"]["Only"]["properties"]["odd"] = {"type": ["a", "b"], "enum": []}
    return told


def test_a_contract_can_not_break_out_of_its_comments() -> None:
    text = write_types(hostile())
    assert text.count("declare global") > 10
    code = re.sub(r"/[*]{2}.*?[*]/", "", text, flags=re.DOTALL)
    assert "declare global" not in re.sub(r'"(\\.|[^"\\])*"', "", code)
    assert 'client.stub<x_y>("x*\\/ y")' in text
    assert "\u2028" not in text


def test_the_command_writes_them(target: str, tmp_path: Path) -> None:
    text = invoke("describe", target, "--ts").stdout
    assert "  add(a: number, b?: number): Promise<number>;\n" in text
    assert "export interface Functions {\n" in text
    part = invoke("describe", target, "shout", "--ts").stdout
    assert "Arith" not in part
    assert invoke("describe", target, "Arith.none", "--ts").exit_code == 5
    assert invoke("describe", target, "--ts", "--json").exit_code == 2
    module = invoke("describe", "tests.cli.served:Arith", "--ts").stdout
    assert module == invoke("describe", target, "Arith", "--ts").stdout
    assert invoke("describe", "tests.cli.nothing:Arith", "--ts").exit_code == 2


USE = """
import { connect, named, type Client } from "fastrpc-client";
import type { Functions, Holder, Node, Only, Search, Zoo } from "./types.js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const yes = <T extends true>(): T | undefined => undefined;

export async function use(client: Client): Promise<void> {
  const zoo = client.stub<Zoo>("Zoo");
  const told = await client.service<Zoo>("Zoo");
  const holder = await zoo.node({ value: 1 }, { node: { value: 2, color: "blue" } });
  yes<Same<typeof holder, Holder>>();
  const color: "red" | "blue" = holder.node.color;
  for await (const item of told.items(new Date())) yes<Same<typeof item, Node>>();
  const found = await zoo.search({ words: color }, { year: 1 });
  yes<Same<typeof found, Search>>();
  yes<Same<Only["when"], Date | string>>();
  async function* nodes(): AsyncGenerator<{ value: number }> { yield { value: 1 }; }
  const taken: number = await zoo.take(1, nodes());
  await zoo.default(taken, undefined, named({ out: 1 }));
  await zoo.rest(1, "a", named({ b: 1, c: 2 }));
  await zoo["is-there?"]();
  const size: number = await client.stub<Functions>("").length("a");
  // @ts-expect-error a text is no number
  await zoo.take("1", nodes());
  // @ts-expect-error there is no such color
  await zoo.node({ value: 1, color: "green" }, { node: { value: size } });
  // @ts-expect-error there is no such method
  await zoo.none();
  // @ts-expect-error what has to be named is missing
  await zoo.default(1, 2);
}

export const made: Client = connect("ws://127.0.0.1:1/");
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_compiler_takes_them(tmp_path: Path) -> None:
    client = js_client()
    options = {
        "strict": True, "noEmit": True, "target": "es2022", "module": "nodenext",
        "moduleResolution": "nodenext", "lib": ["es2022", "dom"], "types": [],
        "exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True,
        "paths": {"fastrpc-client": [str(client / "dist" / "index.d.ts")]},
    }  # fmt: skip
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    (tmp_path / "types.ts").write_text(write_types(contract(Zoo(), length)), encoding="utf-8")
    (tmp_path / "hostile.ts").write_text(write_types(hostile()), encoding="utf-8")
    (tmp_path / "use.ts").write_text(USE, encoding="utf-8")
    compiler = client / "node_modules" / "typescript" / "bin" / "tsc"
    said = asyncio.run(run_node(compiler, "-p", str(tmp_path)))
    assert said == ""
