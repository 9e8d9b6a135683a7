/** The page: calls, a stream, and lines that the server pushes. */

import { ApplicationError, connect } from "./fastrpc.js";

const $ = (id) => document.getElementById(id);
const server = new URLSearchParams(location.search).get("server") ?? "ws://127.0.0.1:7000/";

const client = connect(server, { timeout: 10 });
client.on("state", (state, error) => {
  $("state").textContent = error ? `${state}: ${error.message}` : state;
  $("state").dataset.state = state;
});

// What the server may call here; register it before the client connects.
client.register("Screen", {
  show: (author, line) => add("lines", strong(author), ` ${line}`),
});

const room = client.stub("Room");
const unicode = client.stub("Unicode");

let name = "";

async function join(wanted) {
  const here = await room.join(wanted);
  name = wanted;
  $("join").hidden = true;
  $("say").hidden = false;
  $("line").focus();
  add("lines", note(`here are ${here.join(", ")}`));
}

// A connection that comes back is a new member.
client.on("state", (state) => {
  if (state === "open" && name) join(name).catch((error) => add("lines", bad(error)));
});

on("join", () => join($("name").value.trim()), "lines");

on("say", async () => {
  const line = $("line").value;
  $("line").value = "";
  const told = await room.say(line);
  add("lines", strong(name), ` ${line} `, note(`told ${told}`));
}, "lines");

on("find", async () => {
  const { total, characters } = await unicode.search($("words").value, 30);
  $("found").textContent = `${total} found`;
  $("characters").replaceChildren();
  for (const { char, code, name: called, utf8 } of characters) {
    const bytes = [...utf8].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    add("characters", glyph(char), `${called} `, note(`${code}, ${bytes}`));
  }
}, "characters");

let parade;

on("march", async () => {
  parade?.cancel();
  const mine = (parade = client.stream("Parade.march", [parseInt($("first").value, 16), 0.05], { timeout: Infinity }));
  let passed = 0;
  $("stage").textContent = "";
  $("stop").disabled = false;
  try {
    for await (const { char, name: called } of mine) {
      $("stage").textContent = ($("stage").textContent + char).slice(-400);
      $("passed").textContent = `${++passed}: ${called}`;
    }
  } catch (error) {
    if (error.status !== "CANCELLED") throw error;
  } finally {
    if (mine === parade) $("stop").disabled = true;
  }
}, "lines");

$("stop").addEventListener("click", () => parade?.cancel());

client.open().catch((error) => add("lines", bad(error)));

// Small things

function on(id, act, list) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    act().catch((error) => add(list, bad(error)));
  });
}

function add(id, ...parts) {
  const item = document.createElement("li");
  item.append(...parts);
  $(id).append(item);
  item.scrollIntoView({ block: "nearest" });
}

function element(tag, kind, text) {
  const made = document.createElement(tag);
  made.className = kind;
  made.textContent = text;
  return made;
}

function strong(text) {
  return element("b", "", text);
}

function note(text) {
  return element("span", "soft", text);
}

function glyph(text) {
  return element("span", "glyph", text);
}

function bad(error) {
  return element("span", "bad", error instanceof ApplicationError ? `${error.message} [${error.code}]` : error.message);
}
