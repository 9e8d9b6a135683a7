"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const ROOT = location.pathname.replace(/\/+$/, "");
const RPC = ROOT.slice(0, -"/debug/rpc".length) + "/rpc/";
const MINE = {"x-fastrpc-debug": "1"};
const EVERY = 1000, ITEMS = 100;

// ---- Elements. Whatever comes from the server gets in as text, never as markup.

function h(tag, props, ...children) {
  const el = document.createElement(tag);
  fill(el, props);
  el.append(...children.filter((child) => child !== null && child !== undefined));
  return el;
}
function svg(tag, props, ...children) {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(el, props);
  el.append(...children);
  return el;
}
function fill(el, props) {
  for (const [name, value] of Object.entries(props || {})) {
    if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (name === "text") el.textContent = value;
    else if (value === true) el.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) el.setAttribute(name, value);
  }
}
function say(el, text) { if (el.textContent !== text) el.textContent = text; }
let ids = 0;
const fresh = (word) => `${word}-${++ids}`;

// ---- Figures

const grouped = new Intl.NumberFormat("en-US");
const count = (n) => grouped.format(n);
function short(n) {
  if (n < 10000) return n < 10 && n % 1 ? n.toFixed(1) : count(Math.round(n));
  for (const [size, mark] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (n >= size) return (n / size).toPrecision(3) + mark;
  }
}
function seconds(s) {
  const digits = (n) => n < 10 ? n.toFixed(1) : n.toFixed(0);
  if (s < 1e-3) return digits(s * 1e6) + " µs";
  if (s < 1) return digits(s * 1e3) + " ms";
  if (s < 60) return digits(s) + " s";
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}
function bytes(n) {
  if (n < 1024) return n + " B";
  for (const [size, mark] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (n >= size) return (n / size).toFixed(n / size < 10 ? 1 : 0) + " " + mark;
  }
}

// ---- Pictures

const LOW = -20, HIGH = 3.4; // doublings of a second: 1 us to 10 s
const place = (s, low, high) => (Math.log2(s) - low) / (high - low);

function small(method) {
  const picture = svg("svg", {viewBox: "0 0 166 27", role: "img", preserveAspectRatio: "none",
    "aria-label": method.timed ? `half of the calls took up to ${seconds(method.p50)}, 99 of 100 up to ${seconds(method.p99)}` : "no call was timed yet"});
  picture.append(svg("path", {class: "axis", d: "M0 26.5H166"}));
  const most = Math.max(...method.buckets.map((b) => b[2]), 1);
  let bars = "";
  for (const [lower, upper, n] of method.buckets) {
    const x = Math.min(Math.max(place(lower, LOW, HIGH), 0), 0.985) * 166;
    const w = Math.max(Math.min(place(upper, LOW, HIGH) * 166, 166) - x, 1.4), y = 25 - 23 * Math.sqrt(n / most);
    bars += `M${x.toFixed(1)} 26V${y.toFixed(1)}h${w.toFixed(1)}V26z`;
  }
  picture.append(svg("path", {class: "bars", d: bars}));
  return picture;
}

function large(method, width) {
  if (!method.buckets.length) return h("p", {class: "muted", text: "No call was timed yet."});
  const first = method.buckets[0][0], last = method.buckets[method.buckets.length - 1][1];
  let low = Math.log2(first) - 1, high = Math.log2(last) + 1;
  if (high - low < 6) { const more = (6 - high + low) / 2; low -= more; high += more; }
  const W = Math.min(Math.max(width || 540, 260), 544), H = 130, B = H - 22, picture = svg("svg", {viewBox: `0 0 ${W} ${H}`, role: "img",
    "aria-label": `Latency: p50 ${seconds(method.p50)}, p90 ${seconds(method.p90)}, p99 ${seconds(method.p99)}, longest ${seconds(method.max)}`});
  for (let e = -7; e < 6; e++) {
    for (const m of high - low < 9 ? [1, 3] : [1]) {
      const x = place(m * 10 ** e, low, high) * W;
      if (x < 12 || x > W - 22) continue;
      picture.append(svg("path", {class: "axis", d: `M${x} 4V${B + 4}`}));
      picture.append(svg("text", {x, y: H - 5, "text-anchor": "middle", text: seconds(m * 10 ** e).replace(".0", "")}));
    }
  }
  const most = Math.max(...method.buckets.map((b) => b[2]));
  let bars = "";
  for (const [lower, upper, n] of method.buckets) {
    const x = place(lower, low, high) * W, w = Math.max(place(upper, low, high) * W - x - 1, 1.5);
    bars += `M${x.toFixed(1)} ${B}V${(B - Math.max((B - 24) * n / most, 1.5)).toFixed(1)}h${w.toFixed(1)}V${B}z`;
  }
  picture.append(svg("path", {class: "bars", d: bars}), svg("path", {class: "axis", d: `M0 ${B + .5}H${W}`}));
  let before = -99;
  for (const [word, value] of [["p50", method.p50], ["p99", method.p99]]) {
    const x = Math.min(Math.max(place(Math.max(value, 1e-6), low, high), 0), 1) * W;
    picture.append(svg("path", {class: "mark " + word, d: `M${x} 16V${B}`}));
    if (x - before > 26) picture.append(svg("text", {x, y: 11, "text-anchor": "middle", text: word}));
    before = x;
  }
  return picture;
}

function lagChart(series) {
  const W = Math.max($("lag").clientWidth, 260), H = 120, B = H - 20, most = Math.max(0.02, ...series);
  const picture = svg("svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Worst lag of the last ${series.length} seconds: ${seconds(Math.max(...series, 0))}`});
  for (const part of [0.5, 1]) {
    const y = B - (B - 14) * part;
    picture.append(svg("path", {class: "axis", d: `M0 ${y}H${W}`}), svg("text", {x: 0, y: y - 3, text: seconds(most * part)}));
  }
  let bars = "";
  series.forEach((value, index) => {
    const x = W - (series.length - index) * W / 60, y = B - Math.max((B - 14) * value / most, 1);
    bars += `M${x.toFixed(1)} ${B}V${y.toFixed(1)}h${(W / 60 - 3).toFixed(1)}V${B}z`;
  });
  picture.append(svg("path", {class: "bars", d: bars}), svg("path", {class: "axis", d: `M0 ${B + .5}H${W}`}),
    svg("text", {x: 0, y: H - 5, text: "a minute ago"}), svg("text", {x: W, y: H - 5, "text-anchor": "end", text: "now"}));
  return picture;
}

// ---- JSON in colours, and JSON as it is: numbers keep all their digits

function coloured(text) {
  const box = h("code"), parts = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b/g;
  let at = 0, found;
  while ((found = parts.exec(text))) {
    box.append(text.slice(at, found.index));
    const kind = found[3] ? "l" : found[2] ? "k" : "s";
    box.append(h("span", {class: kind, text: found[3] || found[1]}), found[2] || "");
    at = parts.lastIndex;
  }
  box.append(text.slice(at));
  return box;
}
function pretty(text) {
  let out = "", depth = 0, at = 0;
  const line = () => "\n" + "  ".repeat(depth);
  const token = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s"[\]{},:]+/g;
  const tokens = text.match(token) || [];
  for (; at < tokens.length; at++) {
    const t = tokens[at], next = tokens[at + 1];
    if ((t === "[" && next === "]") || (t === "{" && next === "}")) { out += t + next; at++; }
    else if (t === "[" || t === "{") { depth++; out += t + line(); }
    else if (t === "]" || t === "}") { depth--; out += line() + t; }
    else if (t === ",") out += t + line();
    else out += t === ":" ? ": " : t;
  }
  return out;
}

// ---- Forms out of schemas. A field gives JSON text, or undefined to be left away.

class Wrong extends Error { constructor(text, el) { super(text); this.el = el; } }

function maker(defs) {
  const follow = (schema) => {
    for (let i = 0; i < 20 && schema && schema.$ref; i++) schema = {...defs[schema.$ref.slice(8)], ...schema, $ref: defs[schema.$ref.slice(8)].$ref};
    return schema === true || !schema ? {} : schema;
  };
  const words = (schema) => {
    if (schema && schema.$ref) return schema.$ref.slice(8);
    schema = follow(schema);
    if (schema.title) return schema.title;
    if (schema.enum) return "one of " + schema.enum.length;
    if (schema.anyOf) return schema.anyOf.map(words).join(" or ");
    if (schema.type === "array") return schema.prefixItems ? "tuple" : `list of ${words(schema.items)}`;
    if (schema.contentEncoding) return "bytes in base64";
    return schema.format || {object: "object", integer: "integer", number: "number", string: "text", boolean: "yes or no", null: "nothing"}[schema.type] || "JSON";
  };

  function value(schema, depth = 0) {
    schema = follow(schema);
    if (schema.enum) return choice(schema);
    if (schema.anyOf) return variants(schema, depth);
    switch (schema.type) {
      case "boolean": return flag(schema);
      case "integer": case "number": return figure(schema);
      case "string": return line(schema);
      case "null": return {el: h("span", {class: "muted", text: "nothing"}), get: () => "null"};
      case "array": return schema.prefixItems ? tuple(schema, depth) : list(schema, depth);
      case "object": return schema.properties ? record(schema, depth) : pairs(schema, depth);
    }
    return anything(schema);
  }
  function choice(schema) {
    const el = h("select", {}, ...schema.enum.map((each, i) => h("option", {value: i, text: String(each), selected: each === schema.default})));
    return {el, get: () => JSON.stringify(schema.enum[el.value])};
  }
  function flag(schema) {
    const el = h("input", {type: "checkbox", checked: schema.default === true});
    return {el, get: () => String(el.checked)};
  }
  function figure(schema) {
    const whole = schema.type === "integer", el = h("input", {inputmode: whole ? "numeric" : "decimal", autocomplete: "off",
      placeholder: schema.default !== undefined ? String(schema.default) : whole ? "0" : "0.0"});
    return {el, get() {
      const text = el.value.trim(), form = whole ? /^-?(0|[1-9]\d*)$/ : /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/;
      if (!form.test(text)) throw new Wrong(text ? `“${text}” is no ${whole ? "whole " : ""}number` : "a number is needed", el);
      return text;
    }};
  }
  function line(schema) {
    const hint = schema.default !== undefined ? JSON.stringify(schema.default) : {"date-time": "2026-01-31T12:00:00Z", date: "2026-01-31", time: "12:00:00", duration: "PT1H30M", uuid: "00000000-0000-0000-0000-000000000000", decimal: "1.50"}[schema.format] || (schema.contentEncoding ? "aGVsbG8=" : "");
    const el = h("textarea", {rows: 1, class: "line", placeholder: hint, spellcheck: "false", autocomplete: "off"});
    return {el, get: () => JSON.stringify(el.value)};
  }
  function anything(schema) {
    const el = h("textarea", {rows: 2, placeholder: "any JSON", spellcheck: "false"});
    if (schema.default !== undefined) el.value = JSON.stringify(schema.default);
    return {el, get() {
      try { JSON.parse(el.value); } catch (error) { throw new Wrong(`no JSON: ${error.message}`, el); }
      return el.value.trim();
    }};
  }
  function variants(schema, depth) {
    const box = h("div", {class: "slot"}), pick = h("select", {"aria-label": "Kind of value"},
      ...schema.anyOf.map((each, i) => h("option", {value: i, text: words(each)})));
    let now = null;
    const show = () => { now = value({...schema.anyOf[pick.value], ...(pick.value === first && schema.default !== null ? {default: schema.default} : {})}, depth + 1); box.replaceChildren(now.el); };
    const first = pick.value = String(Math.max(schema.anyOf.findIndex((each) => follow(each).type !== "null"), 0));
    pick.addEventListener("change", show);
    show();
    return {el: h("fieldset", {}, pick, box), get: () => now.get()};
  }
  function several(make, add, least) {
    const box = h("div"), rows = [];
    const more = (focus) => {
      const entry = make(), row = h("div", {class: "row"}, entry.el, h("button", {type: "button", "aria-label": "Remove", text: "×", onclick: () => {
        rows.splice(rows.indexOf(entry), 1); row.remove(); button.focus(); }}));
      rows.push(entry); box.append(row);
      if (focus) (row.querySelector("input,select,textarea") || button).focus();
    };
    const button = h("button", {type: "button", class: "plain", text: add, onclick: () => more(true)});
    for (let i = 0; i < least; i++) more(false);
    return {el: h("fieldset", {}, box, button), rows, more};
  }
  function list(schema, depth) {
    const whole = several(() => value(schema.items, depth + 1), `+ ${words(schema.items)}`, schema.minItems || 0);
    return {el: whole.el, get: () => `[${whole.rows.map((each) => each.get()).join(",")}]`};
  }
  function tuple(schema, depth) {
    const parts = schema.prefixItems.map((each, i) => field(each.title || String(i + 1), each, i < (schema.minItems ?? Infinity), depth + 1));
    const rest = schema.items && typeof schema.items === "object" ? list({items: schema.items}, depth) : null;
    return {el: h("fieldset", {}, ...parts.map((each) => each.el), rest && rest.el), get() {
      const told = parts.map((each) => each.get()).filter((text) => text !== undefined);
      return `[${[...told, ...(rest ? [rest.get().slice(1, -1)].filter(Boolean) : [])].join(",")}]`;
    }};
  }
  function record(schema, depth) {
    const needed = new Set(schema.required || []);
    const parts = Object.entries(schema.properties).map(([name, each]) => [name, field(name, each, needed.has(name), depth + 1)]);
    const more = schema.additionalProperties && typeof schema.additionalProperties === "object" ? pairs(schema, depth) : null;
    return {el: h("fieldset", {}, ...parts.map(([, each]) => each.el), more && more.el), get() {
      const told = parts.map(([name, each]) => [name, each.get()]).filter(([, text]) => text !== undefined).map(([name, text]) => `${JSON.stringify(name)}:${text}`);
      return `{${[...told, ...(more ? [more.get().slice(1, -1)].filter(Boolean) : [])].join(",")}}`;
    }};
  }
  function pairs(schema, depth) {
    const inner = typeof schema.additionalProperties === "object" ? schema.additionalProperties : {};
    const whole = several(() => {
      const key = h("input", {"aria-label": "Name", placeholder: "name", autocomplete: "off"}), entry = value(inner, depth + 1);
      return {el: h("div", {class: "row"}, key, entry.el), get: () => `${JSON.stringify(key.value)}:${entry.get()}`};
    }, `+ ${words(inner)} by name`, 0);
    return {el: whole.el, get: () => `{${whole.rows.map((each) => each.get()).join(",")}}`};
  }
  function field(name, schema, needed, depth = 0) {
    const full = follow(schema), lab = h("div", {class: "lab"});
    let inner = null, isSet = needed;
    const slot = h("div");
    const open = () => {
      inner = value(schema, depth);
      slot.replaceChildren(inner.el);
      const input = inner.el.matches("input,select,textarea") ? inner.el : null;
      if (input) input.id = input.id || fresh("in");
      else if (inner.el.matches("fieldset")) inner.el.setAttribute("aria-label", name);
      title.replaceChildren(h(input ? "label" : "span", {for: input && input.id}, h("code", {text: name})));
    };
    const title = h("span"), note = h("span", {class: "muted", text: words(schema) + (needed ? "" : full.default !== undefined ? `, ${JSON.stringify(full.default)} if left out` : ", may be left out")});
    lab.append(title, note);
    const deep = depth > 3 || (!needed && ["object", "array"].includes(full.type)) || (!needed && full.anyOf);
    if (needed || !deep) open(); else title.append(h("code", {text: name}));
    if (!needed) {
      const toggle = h("button", {type: "button", class: "plain"});
      const show = () => {
        toggle.textContent = isSet ? "leave out" : deep ? "set" : "";
        toggle.hidden = !isSet && !deep;
        if (deep && isSet && !inner) open();
        if (deep && !isSet) { inner = null; slot.replaceChildren(); }
      };
      toggle.addEventListener("click", () => {
        isSet = !isSet;
        if (!isSet && !deep) open();
        show();
        (slot.querySelector("input,select,textarea") || toggle).focus();
      });
      if (!deep) slot.addEventListener("input", () => { isSet = true; show(); });
      lab.append(toggle);
      show();
    } else if (deep && !inner) open();
    return {el: h("div", {class: "field", "data-name": name}, lab, slot), get: () => isSet ? inner.get() : undefined};
  }
  return {field, record};
}

function form(method, defs, wire) {
  const args = method.arguments, takes = args["x-items"], gives = method.result["x-stream"];
  const box = h("form", {novalidate: true}), out = h("div", {"aria-live": "polite"});
  if (takes && gives) {
    box.append(h("p", {class: "muted", text: "It takes and gives items at once, which HTTP can't: call it with a client."}));
    return box;
  }
  const make = maker(defs), named = Object.keys(args.properties), needed = new Set(args.required || []);
  const star = args.properties["*"], names = named.filter((name) => name !== "*");
  const fields = names.map((name) => [name, make.field(name, args.properties[name], needed.has(name))]);
  const rest = star ? make.field("*", star, true) : null;
  const more = args.additionalProperties ? make.record({properties: {}, additionalProperties: args.additionalProperties}, 0) : null;
  const plain = h("div", {}, rest && rest.el, ...fields.map(([, each]) => each.el), more && more.el);
  if (!named.length && !more) plain.append(h("p", {class: "muted", text: "It takes no arguments."}));
  const raw = h("textarea", {rows: 5, spellcheck: "false", "aria-label": "Arguments as JSON", hidden: true});
  const items = takes ? h("textarea", {rows: 3, spellcheck: "false", id: fresh("items"), placeholder: "one item of JSON on each line"}) : null;
  let isRaw = false, running = null;

  const gather = () => {
    const told = fields.map(([name, each]) => [name, each.get()]).filter(([, text]) => text !== undefined).map(([name, text]) => `${JSON.stringify(name)}:${text}`);
    if (rest) told.unshift(`"*":${rest.get()}`);
    if (more) { const inner = more.get().slice(1, -1); if (inner) told.push(inner); }
    return told.length ? `{${told.join(",")}}` : "[]";
  };
  const asked = () => {
    if (!isRaw) return gather();
    const text = raw.value.trim() || "[]";
    try { JSON.parse(text); } catch (error) { throw new Wrong(`no JSON: ${error.message}`, raw); }
    return text;
  };
  const go = h("button", {class: "go", text: "Call"}), stop = h("button", {type: "button", text: "Stop", hidden: true, onclick: () => running && running.abort()});
  const swap = h("button", {type: "button", class: "plain", text: "as JSON", onclick() {
    if (!isRaw) { try { raw.value = pretty(gather()); } catch { raw.value = raw.value || "{}"; } }
    isRaw = !isRaw;
    raw.hidden = !isRaw; plain.hidden = isRaw; swap.textContent = isRaw ? "as a form" : "as JSON";
    if (isRaw) raw.focus();
  }});
  box.append(plain, raw);
  if (items) box.append(h("div", {class: "field"}, h("div", {class: "lab"}, h("label", {for: items.id}, h("code", {text: "items"})), h("span", {class: "muted", text: "a stream"})), items));
  box.append(h("div", {class: "acts"}, go, stop, named.length || more ? swap : null), out);
  box.addEventListener("input", (event) => event.target.classList.remove("invalid"));
  box.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    let body;
    try { body = asked(); } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      error.el.classList.add("invalid"); error.el.focus();
      out.replaceChildren(answer("not sent", "bad", 0, h("p", {class: "msg", text: error.message})));
      return;
    }
    running = new AbortController();
    go.disabled = true; stop.hidden = false;
    const started = performance.now();
    try { await call(wire, body, items, takes, gives, running, out, started); }
    catch (error) {
      const text = error.name === "AbortError" ? "You stopped it." : `No answer: ${error.message}`;
      out.replaceChildren(answer(error.name === "AbortError" ? "stopped" : "failed", "bad", started, h("p", {class: "msg", text})));
    }
    running = null; go.disabled = false; stop.hidden = true;
  });
  return box;
}

function answer(word, kind, started, ...inner) {
  const took = started ? h("span", {class: "muted", text: `${seconds((performance.now() - started) / 1000)} from here`}) : null;
  return h("div", {class: "out"}, h("header", {}, h("span", {class: "pill " + kind, text: word}), took), ...inner);
}

async function call(wire, body, items, takes, gives, running, out, started) {
  let url = RPC + encodeURIComponent(wire), type = "application/json";
  if (takes) {
    const told = JSON.parse(body), query = new URLSearchParams();
    for (const [name, value] of Object.entries(told)) query.append(name, typeof value === "string" ? value : JSON.stringify(value));
    if (query.size) url += "?" + query;
    body = items.value; type = "application/x-ndjson";
  }
  const headers = {"content-type": type, accept: gives ? "application/x-ndjson, application/json" : "application/json"};
  const reply = await fetch(url, {method: "POST", headers, body, signal: running.signal, redirect: "error"});
  if (!reply.ok) { out.replaceChildren(failed(await reply.text(), reply.status, started)); return; }
  if (gives) return stream(reply, running, out, started);
  const text = await reply.text();
  out.replaceChildren(answer("ok", "good", started, h("pre", {tabindex: 0}, coloured(pretty(text)))));
}

function failed(text, status, started) {
  let error = null;
  try { error = JSON.parse(text).error; } catch { /* then the text has to do */ }
  if (!error) return answer(`HTTP ${status}`, "bad", started, h("p", {class: "msg", text: text || "no words"}));
  const {message, name, type, ran, trace, ...rest} = error;
  const pill = answer(name || `HTTP ${status}`, "bad", started);
  if (ran) pill.firstChild.append(h("span", {class: "muted", text: {no: "it was not run", yes: "it was run", maybe: "it may have been run"}[ran] || ""}));
  pill.append(h("p", {class: "msg"}, type && type !== name ? h("b", {text: type + ": "}) : null, message || ""));
  delete rest.status;
  if (Object.keys(rest).length) pill.append(h("pre", {tabindex: 0}, coloured(JSON.stringify(rest, null, 2))));
  if (trace) pill.append(h("pre", {tabindex: 0, text: trace}));
  return pill;
}

async function stream(reply, running, out, started) {
  const box = h("pre", {tabindex: 0}), reader = reply.body.getReader(), decoder = new TextDecoder();
  const shown = answer("items", "good", started, box), pill = shown.firstChild.firstChild;
  out.replaceChildren(shown);
  let rest = "", n = 0;
  try {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) break;
      rest += decoder.decode(value, {stream: true});
      const lines = rest.split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.trim()) continue;
        let end = null;
        if (line.startsWith('{"end":true') || line.startsWith('{"error":')) { try { end = JSON.parse(line); } catch { /* an item then */ } }
        if (end && end.error) { box.after(failed(line, 200, 0)); pill.textContent = `${n} items, then an error`; pill.className = "pill bad"; return; }
        if (end && end.end) { pill.textContent = n === 1 ? "1 item" : `${n} items`; if (!n) box.textContent = "The stream ended without an item."; return; }
        box.append(coloured(line), "\n");
        pill.textContent = `${++n} so far`;
        if (n >= ITEMS) { running.abort(); pill.textContent = `the first ${n} items`; return; }
      }
    }
    pill.textContent = `${n} items, then the connection was cut`; pill.className = "pill bad";
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    pill.textContent = `${n} items, then you stopped it`;
  }
}

// ---- Methods

const table = document.querySelector("table.methods");
let contract = {services: [], $defs: {}}, rows = [], byWire = new Map(), askedAt = 0, last = null;

class Row {
  constructor(method, service, group) {
    this.method = method; this.wires = method.wire; this.group = group;
    this.text = `${method.wire.join(" ")} ${method.signature || ""} ${method.doc || ""}`.toLowerCase();
    this.calls = -1; this.isOpen = false; this.key = "";
    const id = fresh("detail"), tags = [];
    if (method.result && method.result["x-stream"]) tags.push("stream");
    if (method.mode === "thread") tags.push("thread");
    if (method.idempotent) tags.push("idempotent");
    if (method.cancel === "shield") tags.push("shielded");
    const prefix = service ? service + "." : "", name = method.name.startsWith(prefix) ? method.name.slice(prefix.length) : method.name;
    this.button = h("button", {type: "button", class: "name", "aria-expanded": "false", "aria-controls": id, title: method.name, text: name, onclick: () => this.toggle()});
    this.sig = method.signature ? method.signature.slice(method.signature.indexOf("(")) : "";
    this.cells = ["num", "num opt", "num", "num", "num opt", "num", "num opt", "pic opt"].map((kind) => h("td", {class: kind}));
    this.row = h("tr", {class: "m"}, h("th", {scope: "row"}, this.button, ...tags.map((text) => h("span", {class: "tag", text})), h("code", {class: "sig", text: this.sig})), ...this.cells);
    this.detail = h("tr", {class: "detail", id, hidden: true}, h("td", {colspan: 9}));
    this.update(null, 0);
  }
  toggle() {
    this.isOpen = !this.isOpen;
    this.button.setAttribute("aria-expanded", String(this.isOpen));
    if (this.isOpen && !this.detail.firstChild.firstChild) this.build();
    this.detail.hidden = !this.isOpen;
    this.key = "";
    this.update(this.now, 0);
  }
  build() {
    const method = this.method;
    this.figures = h("dl", {class: "facts"}); this.picture = h("div", {class: "big"});
    const left = h("div", {}, h("code", {class: "sig", text: method.name + this.sig}), h("p", {class: "doc", text: flowing(method.doc || "It has no docstring.")}), h("h3", {text: "Latency"}), this.picture, this.figures);
    const right = h("div", {}, h("h3", {text: "Call it"}), method.arguments ? form(method, contract.$defs, this.wires[0]) : h("p", {class: "muted", text: "It is the server's own."}));
    this.detail.firstChild.append(h("div", {class: "cols"}, left, right));
  }
  update(now, span) {
    this.now = now;
    const [calls, rate, errors, p50, p90, p99, max, pic] = this.cells, n = now ? now.calls : 0;
    const bad = now ? Object.values(now.failures).reduce((a, b) => a + b, 0) : 0;
    say(calls, count(n)); calls.classList.toggle("zero", !n);
    const grown = this.calls >= 0 ? n - this.calls : 0;
    say(rate, span && grown > 0 ? short(grown / span) : "–"); rate.classList.toggle("zero", !grown);
    say(errors, count(bad)); errors.classList.toggle("err", bad > 0); errors.classList.toggle("zero", !bad);
    [[p50, "p50"], [p90, "p90"], [p99, "p99"], [max, "max"]].forEach(([cell, word]) => { say(cell, now && now.timed ? seconds(now[word]) : "–"); cell.classList.toggle("zero", !(now && now.timed)); });
    this.row.classList.toggle("hot", span > 0 && grown > 0);
    this.calls = n;
    const key = now ? `${now.timed} ${now.running} ${n} ${bad}` : "none";
    if (key === this.key) return;
    this.key = key;
    pic.replaceChildren(small(now || {buckets: [], timed: 0}));
    if (!this.isOpen) return;
    const empty = {buckets: [], timed: 0, failures: {}, running: 0, calls: 0};
    const m = now || empty, told = [["calls", count(m.calls)], ["in flight", count(m.running)], ["timed", count(m.timed) + (m.is_sampled ? " (1 in 16)" : "")]];
    if (m.timed) told.push(["mean", seconds(m.total / m.timed)], ["p50", seconds(m.p50)], ["p90", seconds(m.p90)], ["p99", seconds(m.p99)], ["longest", seconds(m.max)]);
    for (const [word, times] of Object.entries(m.failures)) told.push([word.replaceAll("_", " "), count(times)]);
    this.figures.replaceChildren(...definitions(told));
    this.picture.replaceChildren(large(m, this.picture.clientWidth));
  }
}
// Lines that were only broken to fit the source are joined; lists and examples stay.
const flowing = (doc) => doc.replace(/([^\n])\n(?![\n\s*-])/g, "$1 ");
function definitions(pairs) { return pairs.map(([word, value]) => h("div", {}, h("dt", {text: word}), h("dd", {text: value}))); }

async function learn() {
  askedAt = performance.now();
  const reply = await fetch(ROOT + "/contract.json", {headers: MINE});
  if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
  contract = await reply.json();
  table.querySelectorAll("tbody").forEach((body) => body.remove());
  rows = []; byWire = new Map();
  for (const service of contract.services) {
    const body = h("tbody"), lone = service.methods.length === 1 && service.methods[0].name === service.name;
    if (!lone) {
      const tags = [service.version && `version ${service.version}`, service.group && `group ${service.group}`, service.default ? "" : "by version only"].filter(Boolean);
      body.append(h("tr", {class: "group"}, h("th", {colspan: 9, scope: "rowgroup"}, h("b", {text: service.name}), ...tags.map((text) => h("span", {class: "tag", text})), service.doc ? h("p", {text: service.doc.split("\n\n")[0]}) : null)));
    }
    for (const method of service.methods) add(method, lone ? "" : service.name, body);
    table.append(body);
  }
  if (!rows.length) { $("no-methods").hidden = false; $("no-methods").textContent = "No service is registered yet."; }
  sift();
}
function add(method, service, body) {
  const row = new Row(method, service, body);
  rows.push(row);
  for (const wire of row.wires) byWire.set(wire, row);
  body.append(row.row, row.detail);
}
function sift() {
  const wanted = $("filter").value.trim().toLowerCase(), called = $("called").checked;
  let shown = 0;
  for (const row of rows) {
    const fits = row.text.includes(wanted) && (!called || row.calls > 0);
    row.row.hidden = !fits; row.detail.hidden = !fits || !row.isOpen;
    shown += fits;
  }
  for (const body of table.tBodies) body.hidden = ![...body.querySelectorAll("tr.m")].some((tr) => !tr.hidden);
  const none = $("no-methods");
  if (rows.length) { none.hidden = shown > 0; none.textContent = called && !wanted ? "No method was called yet." : "No method fits the filter."; }
}
function merged(entries) {
  if (entries.length < 2) return entries[0] || null;
  const [first, ...more] = [...entries].sort((a, b) => b.timed - a.timed), sum = {...first, failures: {...first.failures}};
  for (const each of more) {
    sum.calls += each.calls; sum.running += each.running;
    for (const [word, n] of Object.entries(each.failures)) sum.failures[word] = (sum.failures[word] || 0) + n;
  }
  return sum;
}

// ---- Lists whose rows stay as long as what they show

function keep(body, things, key, make, update) {
  const had = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  let at = body.firstElementChild;
  for (const thing of things) {
    const name = key(thing);
    let row = had.get(name);
    had.delete(name);
    if (!row) { row = make(thing); row.dataset.key = name; }
    update(row, thing);
    if (row === at) at = at.nextElementSibling; else body.insertBefore(row, at);
  }
  for (const row of had.values()) {
    const held = row.contains(document.activeElement);
    row.remove();
    if (held) { const next = body.querySelector("button"); if (next) next.focus(); }
  }
}
const cell = (label, kind) => h("td", {class: kind, "data-label": label});

function showCalls(facts) {
  keep($("t-calls").tBodies[0], facts.calls, (c) => `${c.worker}/${c.connection}/${c.number}/${c.method}`, (c) => {
    const stop = h("button", {type: "button", class: "stop", text: "Cancel", "aria-label": `Cancel ${c.method}, ${c.id || c.number}`, onclick: () => cancel(c, stop)});
    return h("tr", {}, h("td", {}, h("code", {text: c.method}), h("div", {class: "id", text: `${c.id || "connection gone"} ${c.peer ? "· " + c.peer : ""}`})),
      cell("age", "num"), cell("left", "num"), h("td", {}, h("ol", {class: "stack"})), h("td", {}, stop));
  }, (row, c) => {
    const [, age, left, where, act] = row.cells;
    say(age, seconds(c.age)); say(left, c.left === null ? "no limit" : seconds(Math.max(c.left, 0)));
    left.classList.toggle("zero", c.left === null);
    const lines = [...(c.state === "runs" ? [] : [`[${c.state}]`]), ...c.stack];
    if (!lines.length) lines.push("about to begin");
    const text = lines.join("\n"), box = where.firstChild;
    if (box.dataset.text !== text) { box.dataset.text = text; box.replaceChildren(...lines.map((line) => h("li", {text: line}))); }
    act.firstChild.disabled = c.state === "given up" || !c.connection;
  });
  $("no-calls").hidden = facts.calls.length > 0;
  $("t-calls").hidden = !facts.calls.length;
}
async function cancel(c, button) {
  button.disabled = true;
  try {
    const reply = await fetch(ROOT + "/cancel", {method: "POST", headers: {...MINE, "content-type": "application/json"}, body: JSON.stringify({connection: c.connection, number: c.number, worker: c.worker})});
    const told = await reply.json();
    say($("said"), told.error ? told.error.message : told.cancelled ? `${c.method} was cancelled` : `${c.method} had ended already`);
    if (told.error) trouble(told.error.message);
  } catch (error) { trouble(`It could not be cancelled: ${error.message}`); button.disabled = false; }
  poll();
}
function showConnections(facts) {
  keep($("t-connections").tBodies[0], facts.connections, (c) => `${c.worker}/${c.number}`, (c) => h("tr", {}, h("td", {}, h("code", {text: c.peer}), c.identity ? h("span", {class: "tag", text: c.identity}) : null), cell("", ""), ...["", "", "", "", "", ""].map(() => cell("", "num")), cell("", "muted")),
  (row, c) => {
    const [, speaks, age, calls, running, into, out, unsent, codecs] = row.cells;
    say(speaks, [c.door, c.tls, c.state && c.state !== "open" ? c.state : ""].filter(Boolean).join(", "));
    row.title = c.agent;
    say(age, seconds(c.age)); say(calls, count(c.calls)); say(running, count(c.running));
    say(into, bytes(c.bytes_in)); say(out, bytes(c.bytes_out)); say(unsent, bytes(c.unsent)); say(codecs, c.codecs.join(" "));
    [[calls, c.calls], [running, c.running], [unsent, c.unsent]].forEach(([el, n]) => el.classList.toggle("zero", !n));
  });
  $("no-connections").hidden = facts.connections.length > 0;
}

function showWorkers(facts) {
  const workers = facts.workers;
  $("workers").hidden = $("to-workers").hidden = !workers.length;
  const serving = workers.filter((w) => w.state === "serving").length;
  say($("n-workers"), serving === facts.workers_wanted ? count(serving) : `${serving} of ${facts.workers_wanted}`);
  keep($("t-workers").tBodies[0], workers, (w) => `${w.worker}/${w.pid}`, (w) => h("tr", {}, h("td", {}, h("code", {text: `pid ${w.pid}`}), h("span", {class: "tag", text: "answers this page", hidden: true})), cell("", ""), ...["up", "connections", "calls", "running", "restarts"].map((label) => cell(label, "num"))),
  (row, w) => {
    const [who, state, up, connections, calls, running, restarts] = row.cells;
    who.lastChild.hidden = !w.is_asked;
    say(state, w.state);
    say(up, w.state === "silent" || w.state === "starting" ? "–" : seconds(w.uptime));
    [[connections, w.connections], [calls, w.calls], [running, w.running], [restarts, w.restarts]].forEach(([el, n]) => { say(el, count(n)); el.classList.toggle("zero", !n); });
  });
}

// ---- All of it, once a second

const tiles = {};
for (const [key, word] of [["rate", "calls per second"], ["running", "in flight"], ["connections", "connections"], ["errors", "errors"], ["lag", "loop lag"], ["unsent", "waiting to be read"]]) {
  const value = h("b", {text: "–"}), more = h("em", {text: "\u00a0"}), box = h("div", {class: "tile"}, h("span", {text: word}), value, more);
  $("tiles").append(box);
  tiles[key] = (text, small, kind = "") => { say(value, text); say(more, small || "\u00a0"); box.className = "tile " + kind; };
}
const SIZES = /^(max_(body|hello|metadata|unsent|unsent_total)|window|compress_from)$/, TIMES = /(timeout|_ping|interval|stall)$/;
function limit(name, value) {
  if (typeof value !== "number") return value === null ? "none" : String(value);
  if (name === "frame_rate") return bytes(value) + "/s";
  return SIZES.test(name) ? bytes(value) : TIMES.test(name) ? `${value} s` : count(value);
}
function trouble(text) { $("trouble").hidden = !text; say($("trouble"), text || ""); }

function show(facts) {
  const {server, lag} = facts, span = last ? server.uptime - last.server.uptime : 0;
  const isNew = last && (server.pid !== last.server.pid || span < 0);
  const state = $("state");
  say(state, server.state); state.className = "pill " + (server.state === "serving" ? "good" : "warn");
  const where = Object.keys(server.places).join("  ") || "mounted";
  say($("about"), `${server.agent} · ${where} · up ${seconds(server.uptime)} · pid ${server.pid}`);
  document.title = `${server.state === "serving" ? "" : server.state + " · "}fastrpc · ${location.host}`;
  say($("foot"), `${server.python} on ${server.loop}, ${server.is_compiled ? "compiled" : "pure Python"}. Doors: ` + Object.entries(server.places).map(([target, doors]) => `${target}: ${doors.join(", ")}`).join("; "));

  const of = new Map(rows.map((row) => [row, []]));
  let unknown = false, failures = 0;
  for (const method of facts.methods) {
    failures += Object.values(method.failures).reduce((a, b) => a + b, 0);
    let row = byWire.get(method.name);
    if (!row) {
      unknown = true;
      const body = table.querySelector("tbody.own") || h("tbody", {class: "own"});
      table.append(body);
      add({name: method.name, wire: [method.name], doc: method.name === "fastrpc.describe" ? "Tells clients what is served here." : ""}, "", body);
      row = byWire.get(method.name); of.set(row, []);
    }
    of.get(row).push(method);
  }
  for (const [row, entries] of of) row.update(merged(entries), isNew ? 0 : span);
  if (unknown && performance.now() - askedAt > 10000 && facts.methods.some((m) => !byWire.get(m.name).sig && m.name !== "fastrpc.describe")) learn().catch(() => {});
  if ($("called").checked) sift();

  const taken = last && span > 0 ? (server.calls - last.server.calls) / span : 0;
  const now = Math.max(...lag.worst.slice(-2), 0);
  tiles.rate(last ? short(Math.max(taken, 0)) : "–", `${count(server.calls)} so far`);
  tiles.running(count(server.running), `at most ${count(facts.limits.max_running)}`, server.running > 0.8 * facts.limits.max_running ? "bad" : "");
  tiles.connections(count(server.connections), server.turned_away ? `${count(server.turned_away)} turned away` : `${count(server.accepted)} so far`, server.turned_away ? "warn" : "");
  tiles.errors(count(failures), `${count(server.refused)} calls refused`, failures ? "warn" : "");
  tiles.lag(lag.worst.length > 1 ? seconds(now) : "–", lag.late_ticks ? `${count(lag.late_ticks)} late ticks` : "worst of 2 s", now > 0.5 ? "bad" : now > 0.1 ? "warn" : "");
  tiles.unsent(bytes(server.unsent), `${bytes(server.bytes_in)} in, ${bytes(server.bytes_out)} out`);
  showCalls(facts); showConnections(facts); showWorkers(facts);
  say($("n-calls"), server.running ? count(server.running) : ""); say($("n-connections"), count(server.connections));
  for (const what of ["calls", "connections"]) {
    const cut = facts.cut[what];
    $(`cut-${what}`).hidden = !cut; say($(`cut-${what}`), `${count(cut)} more are not shown.`);
  }
  $("lag").replaceChildren(lagChart(lag.worst));
  const told = [["worst of the last minute", seconds(Math.max(...lag.worst, 0))], ["last slow tick", seconds(lag.last_tick) + " late"], ["worst slow tick", seconds(lag.worst_tick) + " late"], ["over a second late", count(lag.late_ticks)]];
  $("lag-facts").replaceChildren(...definitions(told));
  const limits = Object.entries(facts.limits).map(([name, value]) => [name, limit(name, value)]), key = JSON.stringify(limits);
  if ($("limit-facts").dataset.key !== key) { $("limit-facts").dataset.key = key; $("limit-facts").replaceChildren(...definitions(limits)); }
  last = facts;
}

let timer = 0, isPaused = false, isAsking = false;
async function poll() {
  clearTimeout(timer);
  if (isAsking) return;
  isAsking = true;
  try {
    const reply = await fetch(ROOT + "/facts.json", {headers: MINE, cache: "no-store"});
    if (reply.status === 401) { location.reload(); return; }
    if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
    if (!askedAt) await learn();
    show(await reply.json());
    trouble("");
    document.body.dataset.shown = "yes";
  } catch (error) {
    $("state").textContent = "no answer"; $("state").className = "pill bad";
    trouble(`The server does not answer (${error.message}). Trying again; what you see may be old.`);
  }
  isAsking = false;
  if (!isPaused) timer = setTimeout(poll, document.hidden ? 5 * EVERY : EVERY);
}

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  $("pause").textContent = isPaused ? "Paused" : "Pause";
  if (!isPaused) poll();
});
const THEMES = ["auto", "light", "dark"];
function theme(name) {
  $("theme").textContent = `Theme: ${name}`;
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
}
let chosen = "auto";
try { chosen = localStorage.getItem("fastrpc-theme") || "auto"; } catch { /* it may be forbidden */ }
theme(chosen);
$("theme").addEventListener("click", () => {
  chosen = THEMES[(THEMES.indexOf(chosen) + 1) % 3];
  theme(chosen);
  try { localStorage.setItem("fastrpc-theme", chosen); } catch { /* then only until the next visit */ }
});
$("filter").addEventListener("input", sift);
$("called").addEventListener("change", sift);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input,textarea,select")) { event.preventDefault(); $("filter").focus(); }
  if (event.key === "Escape" && event.target === $("filter")) { $("filter").value = ""; sift(); }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && !isPaused) poll(); });
poll();
})();
