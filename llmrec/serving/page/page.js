// The page of the service: it asks the same API as everyone else, and writes texts as texts, never as HTML.
"use strict";
const GOALS = [
  ["long_tail", "Hidden gems"], ["fresh", "Newly arrived"], ["new_category", "New category"],
  ["diverse", "Variety"], ["price_level", "Low prices"],
];
const STEPS = ["off", "a little", "favoured", "strongly", "enforced"];
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
  const found = await response.json();
  if (!response.ok) throw new Error(found.detail || `the service answered ${response.status}`);
  return found;
}

const split = (text) => text.split(/[\s,]+/).filter(Boolean);
const words = (id) => byId(id).value.split(",").map((word) => word.trim()).filter(Boolean);

function request(wish) {
  const body = { words: wish, k: Number(byId("k").value), why: byId("why").checked };
  const history = split(byId("history").value);
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
  if (Object.keys(filters).length) body.filters = filters;
  return body;
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

async function seeUser() {
  const user = byId("user").value.trim(), past = byId("past"), note = byId("past-note");
  past.replaceChildren();
  if (!user) return void (note.textContent = "Choose a user to see what they did.");
  try {
    const found = await call("GET", `/v1/users/${encodeURIComponent(user)}?newest=30`);
    for (const event of found.events.reverse()) {
      const line = element("li");
      line.append(element("span", event.title));
      const time = element("time", event.time ? event.time.slice(0, 10) : "lately");
      if (event.time) time.dateTime = event.time;
      line.append(time);
      past.append(line);
    }
    const known = Object.entries(found.profile).map(([name, value]) => `${name}: ${value}`);
    note.textContent = [`The newest ${found.events.length}, newest first.`, ...known].join(" ");
  } catch (error) {
    note.textContent = error.message;
  }
}

async function listUsers() {
  try {
    const found = await call("GET", `/v1/users?most=20&starting=${encodeURIComponent(byId("user").value)}`);
    byId("users").replaceChildren(...found.users.map((user) => Object.assign(element("option"), { value: user })));
    const models = await call("GET", "/v1/models");
    byId("about").textContent = `Asking ${models.data[0].id}`;
  } catch (error) {
    byId("about").textContent = error.message;
  }
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
function literal(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`).join(", ")}}`;
}

async function copy(text) {
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
  copy(`curl -s ${location.origin}/v1/recommend -H 'Content-Type: application/json'${key} -d ${body}`);
}

function asPython() {
  const key = byId("key").value ? `, key="YOUR_KEY"` : "";
  const body = Object.entries(request(byId("wish").value.trim())).map(([name, value]) => `${name}=${literal(value)}`);
  copy(`from llmrec.serving.client import Client\n\nwith Client("${location.origin}"${key}) as client:\n` +
    `    print(client.recommend(${body.join(", ")}))\n`);
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
byId("user").addEventListener("change", seeUser);
byId("user").addEventListener("input", listUsers);
byId("key").addEventListener("change", listUsers);
byId("curl").addEventListener("click", asCurl);
byId("python").addEventListener("click", asPython);
listUsers();
