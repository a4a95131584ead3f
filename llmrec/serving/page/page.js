// The page of the service: it asks the same API as everyone else, and writes texts as texts, never as HTML.
"use strict";
const GOALS = [
  ["long_tail", "Hidden gems"], ["fresh", "Newly arrived"], ["new_category", "New category"],
  ["diverse", "Variety"], ["price_level", "Low prices"],
];
const STEPS = ["off", "a little", "favoured", "strongly", "enforced"];
// Events shown of a history that is given, as many as one look-up takes, and of a user.
const SHOWN = 100, USERS_SHOWN = 30;
// Unknown ids that are named, and the letters shown of one.
const NAMED = 5, NAME = 40;
const byId = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function call(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  if (byId("key").value) headers.Authorization = `Bearer ${byId("key").value}`;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const found = await response.json().catch(() => null);
  if (!response.ok) throw new Error(found?.detail || `the service answered ${response.status}`);
  return found;
}

const split = (text) => text.split(/[\s,]+/).filter(Boolean);
const words = (id) => byId(id).value.split(",").map((word) => word.trim()).filter(Boolean);

// The history that was typed or pasted: item ids, or what the API takes as JSON.
function given() {
  const text = byId("history").value.trim();
  if (!text.startsWith("[")) return split(text);
  let events;
  try {
    events = JSON.parse(text);
  } catch {
    throw new Error("the history begins with [ and is no JSON list");
  }
  const wrong = events.findIndex((event) => typeof idOf(event) !== "string");
  if (wrong >= 0) throw new Error(`event ${wrong + 1} of the history has no item id in quotes`);
  return events;
}
const idOf = (event) => event?.item ?? event;

function request(wish) {
  const body = { words: wish, k: Number(byId("k").value), why: byId("why").checked };
  const history = given();
  if (history.length || !byId("user").value.trim()) body.history = history;
  else body.user = byId("user").value.trim();
  const objective = {}, weights = {};
  for (const [name] of GOALS) {
    const step = Number(byId(`goal-${name}`).value);
    if (!step) continue;
    objective[name] = name === "price_level" ? "low" : true;
    if (step < 4) weights[name] = step / 4;
  }
  if (Object.keys(objective).length) Object.assign(body, { objective, weights });
  const filters = {};
  for (const name of ["min_price", "max_price"]) if (byId(name).value !== "") filters[name] = Number(byId(name).value);
  for (const name of ["words", "not_words"]) if (words(name).length) filters[name] = words(name);
  for (const name of ["seen", "again"]) if (byId(name).checked) filters[name] = true;
  facetFilters(filters);
  if (Object.keys(filters).length) body.filters = filters;
  return body;
}

// What the catalogue can be filtered by is asked of the service; see `facetFilters` for what comes of it.
function row(label, field) {
  const made = element("div", undefined, "row"), named = element("label", label);
  named.htmlFor = field.id;
  made.append(named, field);
  return made;
}

function ticks(label, kind, facet) {
  const box = element("details"), summary = element("summary", label), list = element("div", undefined, "ticks");
  for (const { value, items } of facet.values) {
    const line = element("label"), tick = Object.assign(element("input"), { type: "checkbox", value });
    Object.assign(tick.dataset, kind);
    line.append(tick, " ", element("bdi", value), element("span", ` ${items.toLocaleString("en")}`, "quiet"));
    list.append(line);
  }
  const more = facet.distinct - facet.values.length;
  if (more > 0) list.append(element("p", `and ${more.toLocaleString("en")} more, which requests can name`, "quiet"));
  box.addEventListener("change", () => {
    const count = list.querySelectorAll(":checked").length;
    summary.textContent = count ? `${label} (${count} ticked)` : label;
  });
  box.append(summary, list);
  return box;
}

function bounds(name, facet) {
  const pair = element("div", undefined, "pair");
  for (const [side, label] of [["low", "from"], ["high", "to"]]) {
    const field = Object.assign(element("input"), { type: "number", step: "any", id: `${side}-${name}`, placeholder: facet[side] });
    Object.assign(field.dataset, { attribute: name, side, bound: facet[side] });
    pair.append(row(`${name}, ${label}`, field));
  }
  return pair;
}

function showFacets(found) {
  const parts = [];
  if (found.categories.values.length) {
    const select = Object.assign(element("select"), { id: "category" });
    select.append(Object.assign(element("option", "any"), { value: "" }));
    for (const { value, items } of found.categories.values) {
      select.append(Object.assign(element("option", `${value} (${items.toLocaleString("en")})`), { value }));
    }
    parts.push(row("Category", select), ticks("Nothing from these categories", { without: "categories" }, found.categories));
  }
  for (const [name, facet] of Object.entries(found.attributes)) {
    if (facet.low !== null) parts.push(bounds(name, facet));
    else if (facet.values.length) parts.push(ticks(`One of these: ${name}`, { attribute: name }, facet));
  }
  byId("facets").replaceChildren(...parts);
  byId("facets").dataset.bundle = found.bundle;
}

function facetFilters(filters) {
  if (byId("category")?.value) filters.categories = [byId("category").value];
  const attributes = {}, ranges = {};
  for (const tick of byId("facets").querySelectorAll(":checked")) {
    if (tick.dataset.without) (filters.not_categories ??= []).push(tick.value);
    else if (tick.dataset.attribute) (attributes[tick.dataset.attribute] ??= []).push(tick.value);
  }
  for (const field of byId("facets").querySelectorAll("input[data-side]")) {
    const { attribute, side, bound } = field.dataset;
    (ranges[attribute] ??= {})[side] = field.value === "" ? bound : field.value;
    if (field.value !== "") ranges[attribute].given = true;
  }
  for (const [name, { low, high, given: set }] of Object.entries(ranges)) if (set) attributes[name] = [`${low}-${high}`];
  if (Object.keys(attributes).length) filters.attributes = attributes;
}

function said(list, label, parts) {
  if (!parts.length) return;
  list.append(element("h3", label));
  const items = element("ul", undefined, "said");
  for (const part of parts) items.append(element("li", part));
  list.append(items);
}

function reason(item, asked) {
  if (!asked) return "";
  const heavy = item.because.filter((cause) => cause.weight >= 0.005);
  if (!heavy.length) return "Nothing in particular weighed for it.";
  const names = heavy.map((cause) => (cause.item === null ? "your words" : `“${cause.title}”`));
  return `Because of ${names.join(" and ")}`;
}

function show(wish, body, found) {
  const list = element("article", undefined, "list");
  list.append(element("h2", wish ? `“${wish}”` : "Without a wish"));
  said(list, "Enforced", found.enforced);
  said(list, "Favoured", found.favoured);
  said(list, "Left to the model", found.left);
  said(list, "Note", found.notes.concat(found.remembered ? ["the newest events may be missing"] : []));
  const items = element("ol");
  for (const item of found.items) {
    const line = element("li"), title = element("div", undefined, "title");
    title.append(element("span", item.title));
    if (item.price !== null) title.append(element("span", item.price.toFixed(2), "price"));
    line.append(title, element("p", `${reason(item, body.why)} · ${item.item}`.replace(/^ · /, ""), "quiet"));
    items.append(line);
  }
  list.append(items);
  return list;
}

async function ask(event) {
  event.preventDefault();
  byId("problem").textContent = "";
  byId("state").textContent = "Asking…";
  const wishes = [byId("wish").value.trim()];
  if (byId("other").value.trim()) wishes.push(byId("other").value.trim());
  try {
    const bodies = wishes.map(request);
    const found = await Promise.all(bodies.map((body) => call("POST", "/v1/recommend", body)));
    byId("lists").replaceChildren(...found.map((each, at) => show(wishes[at], bodies[at], each)));
    const count = found.map((each) => each.items.length).join(" and ");
    byId("state").textContent = `${count} items, after ${found[0].events} events.`;
    if (matchMedia("(max-width: 50rem)").matches) byId("state").scrollIntoView();
  } catch (error) {
    byId("state").textContent = "";
    byId("lists").replaceChildren();
    byId("problem").textContent = error.message;
  }
}

// A line of a history; a title stays apart from what is beside it, whichever way it is written.
function pastLine(title, time, more) {
  const line = element("li"), named = element("span");
  named.append(element("bdi", title));
  for (const each of more) named.append(element("span", ` ·\u00a0${each}`, "quiet"));
  line.append(named);
  if (time) line.append(time);
  return line;
}

function timeElement(iso) {
  return Object.assign(element("time", iso.slice(0, 10)), { dateTime: iso });
}

function givenTime(seconds) {
  const date = new Date(typeof seconds === "number" ? 1000 * seconds : NaN);
  return Number.isNaN(date.getTime()) ? null : timeElement(date.toISOString());
}

function notKnown(ids) {
  if (!ids.length) return [];
  const parts = [" Not in the catalogue: "];
  for (const id of ids.slice(0, NAMED)) {
    const letters = [...id], short = letters.length > NAME ? `${letters.slice(0, NAME).join("")}…` : id;
    parts.push("“", element("bdi", short), "”", ", ");
  }
  parts.pop();
  return [...parts, ids.length > NAMED ? ` and ${ids.length - NAMED} more.` : "."];
}

async function seeGiven() {
  const events = given(), newest = events.slice(-SHOWN);
  if (!newest.length) return [[], ["A history without events."]];
  const ids = new URLSearchParams([...new Set(newest.map(idOf))].map((id) => ["ids", id]));
  const found = await call("GET", `/v1/items?${ids}`);
  const items = new Map(found.items.map((item) => [item.item, item]));
  const known = newest.filter((event) => items.has(idOf(event)));
  const lines = known.reverse().map((event) => {
    const item = items.get(idOf(event));
    return pastLine(item.title, givenTime(event.time), [event.type, item.retired && "retired"].filter(Boolean));
  });
  return [lines, [`${known.length} of ${events.length} events, newest first.`, ...notKnown(found.unknown)]];
}

async function seeUser() {
  const user = byId("user").value.trim();
  if (!user) return [[], ["Choose a user or paste a history to see it here."]];
  const found = await call("GET", `/v1/users/${encodeURIComponent(user)}?newest=${USERS_SHOWN}`);
  const lines = found.events.reverse().map((event) => {
    return pastLine(event.title, event.time ? timeElement(event.time) : element("time", "lately"), []);
  });
  const known = Object.entries(found.profile).map(([name, value]) => `${name}: ${value}`);
  return [lines, [[`The newest ${lines.length}, newest first.`, ...known].join(" ")]];
}

// What is asked with is shown: a history that was given goes before the user. Late answers are dropped.
let turns = 0;
async function seePast() {
  const turn = ++turns;
  let lines = [], note;
  try {
    [lines, note] = await (byId("history").value.trim() ? seeGiven() : seeUser());
  } catch (error) {
    note = [error.message];
  }
  if (turn !== turns) return;
  byId("past").replaceChildren(...lines);
  byId("past").tabIndex = lines.length ? 0 : -1;
  byId("past-note").replaceChildren(...note);
}

async function listUsers() {
  let users = [];
  try {
    ({ users } = await call("GET", `/v1/users?most=20&starting=${encodeURIComponent(byId("user").value)}`));
  } catch {
    // A key that may ask alone sees no users; what it may do is not the worse for it.
  }
  byId("users").replaceChildren(...users.map((user) => Object.assign(element("option"), { value: user })));
}

async function about() {
  try {
    const found = await call("GET", "/v1/facets");
    byId("about").textContent = `Asking ${found.bundle}`;
    if (byId("facets").dataset.bundle !== found.bundle) showFacets(found);
  } catch (error) {
    byId("about").textContent = error.message;
  }
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
function literal(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`).join(", ")}}`;
}

async function copy(write) {
  let text;
  for (const name of ["problem", "copied"]) byId(name).textContent = "";
  try {
    text = write();
  } catch (error) {
    return void (byId("problem").textContent = error.message);
  }
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  byId("copied").textContent = "Copied.";
  byId("copied").dataset.text = text;
}

function asCurl() {
  const key = byId("key").value ? ` -H 'Authorization: Bearer YOUR_KEY'` : "";
  const body = quoted(JSON.stringify(request(byId("wish").value.trim())));
  return `curl -s ${location.origin}/v1/recommend -H 'Content-Type: application/json'${key} -d ${body}`;
}

function asPython() {
  const key = byId("key").value ? `, key="YOUR_KEY"` : "";
  const body = Object.entries(request(byId("wish").value.trim())).map(([name, value]) => `${name}=${literal(value)}`);
  return `from llmrec.serving.client import Client\n\nwith Client("${location.origin}"${key}) as client:\n` +
    `    print(client.recommend(${body.join(", ")}))\n`;
}

for (const [name, label] of GOALS) {
  const row = element("div", undefined, "goal"), named = element("label", label), output = element("output", STEPS[0]);
  const slider = Object.assign(element("input"), { type: "range", min: 0, max: 4, step: 1, value: 0, id: `goal-${name}` });
  named.htmlFor = slider.id;
  slider.setAttribute("aria-valuetext", STEPS[0]);
  slider.addEventListener("input", () => {
    output.textContent = STEPS[slider.value];
    slider.setAttribute("aria-valuetext", STEPS[slider.value]);
  });
  row.append(named, slider, output);
  byId("goals").append(row);
}
byId("form").addEventListener("submit", ask);
for (const name of ["user", "history", "key"]) byId(name).addEventListener("change", seePast);
byId("history").addEventListener("input", (event) => {
  // Half an id says nothing, so what is typed is looked up when the field is left.
  if (["insertFromPaste", "insertFromDrop"].includes(event.inputType)) seePast();
});
byId("user").addEventListener("input", listUsers);
for (const renew of [about, listUsers]) byId("key").addEventListener("change", renew);
byId("curl").addEventListener("click", () => copy(asCurl));
byId("python").addEventListener("click", () => copy(asPython));
about();
listUsers();
