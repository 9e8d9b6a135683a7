"""JSON-RPC 1.0 with Go's standard library, net/rpc/jsonrpc, in both roles."""

import asyncio
import json
from typing import Any

import pytest

import fastrpc
from tests.interop.programs import free_port, go_program, running, told
from tests.interop.served import serving

pytestmark = [
    pytest.mark.asyncio(loop_factories=["uvloop"]),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

CLIENT = """
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
)

type Args struct{ A, B int }

// As rpc.DialHTTPPath does it, but with the codec of JSON.
func dial(how, address, path string) (*rpc.Client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil || how == "tcp" {
		return jsonrpc.NewClient(conn), err
	}
	io.WriteString(conn, "CONNECT "+path+" HTTP/1.0\\n\\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"})
	if err == nil && resp.Status == "200 Connected to Go RPC" {
		return jsonrpc.NewClient(conn), nil
	}
	if err == nil {
		err = errors.New("unexpected HTTP response: " + resp.Status)
	}
	return nil, err
}

func main() {
	client, err := dial(os.Args[1], os.Args[2], rpc.DefaultRPCPath)
	out := map[string]interface{}{}
	if err != nil {
		out["dial"] = err.Error()
	} else {
		var sum int
		if err := client.Call("Sums.Add", Args{2, 3}, &sum); err != nil {
			out["failed"] = err.Error()
		}
		out["sum"] = sum
		var calls []*rpc.Call
		for i := 0; i < 100; i++ {
			calls = append(calls, client.Go("Sums.Add", Args{i, 1}, new(int), nil))
		}
		total := 0
		for _, call := range calls {
			<-call.Done
			total += *call.Reply.(*int)
		}
		out["total"] = total
		var text string
		client.Call("Sums.Echo", "é\\u0001", &text)
		out["text"] = text
		out["fail"] = fmt.Sprint(client.Call("Sums.Fail", "no", &text))
		out["nothing"] = fmt.Sprint(client.Call("Sums.Nothing", 1, &text))
		client.Close()
	}
	json.NewEncoder(os.Stdout).Encode(out)
}
"""

SERVER = """
package main

import (
	"errors"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"time"
)

type Args struct{ A, B int }
type Sums int

func (*Sums) Add(args *Args, reply *int) error { *reply = args.A + args.B; return nil }
func (*Sums) Echo(text string, reply *string) error { *reply = text; return nil }
func (*Sums) Fail(text string, reply *int) error { return errors.New(text) }
func (*Sums) Slow(ms int, reply *int) error { time.Sleep(time.Duration(ms) * time.Millisecond); return nil }

func main() {
	rpc.Register(new(Sums))
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go jsonrpc.ServeConn(conn)
	}
}
"""


class Sums:
    """What Go calls: net/rpc has one argument, and one reply."""

    def Add(self, args: dict[str, int]) -> int:
        return args["A"] + args["B"]

    def Echo(self, text: str) -> str:
        return text

    def Fail(self, text: str) -> None:
        raise fastrpc.RpcError(5, text)


def _check(got: Any) -> None:
    assert got.get("failed") is None, got
    assert (got["sum"], got["total"], got["text"]) == (5, 5050, "é\x01")
    assert got["fail"] == "no"
    assert "Sums.Nothing" in got["nothing"]


async def test_go_calls_us_over_tcp() -> None:
    program = await asyncio.to_thread(go_program, CLIENT)
    async with serving(Sums()) as (port, _, _):
        _check(await told(program, "tcp", f"127.0.0.1:{port}"))


async def test_go_calls_us_through_connect() -> None:
    program = await asyncio.to_thread(go_program, CLIENT)
    async with serving(Sums()) as (port, _, _):
        _check(await told(program, "http", f"127.0.0.1:{port}"))


async def test_we_call_go() -> None:
    program = await asyncio.to_thread(go_program, SERVER)
    port = free_port()
    async with running(program, f"127.0.0.1:{port}", port=port):
        async with fastrpc.connect(f"jsonrpc://127.0.0.1:{port}", timeout=10) as client:
            assert await client.call("Sums.Add", {"A": 2, "B": 3}) == 5
            asked = [client.call("Sums.Add", {"A": number, "B": 1}) for number in range(100)]
            assert await asyncio.gather(*asked) == list(range(1, 101))
            text = "é\x01" * 100_000
            assert await client.call("Sums.Echo", text) == text
            with pytest.raises(fastrpc.RpcError, match="broken") as caught:
                await client.call("Sums.Fail", "broken")
            assert (caught.value.status, caught.value.code) == (60, 0)
            with pytest.raises(fastrpc.RpcError, match=r"can't find method Sums\.Nothing"):
                await client.call("Sums.Nothing", 1)
            with pytest.raises(fastrpc.DeadlineExceeded):
                await client.options(timeout=0.1).call("Sums.Slow", 200)
            assert await client.call("Sums.Echo", json.dumps({})) == "{}"
