// The error browser: filters and searches all queries, shows 50 at a time.
const PAGE = 50;
const data = JSON.parse(document.getElementById("queries").textContent);
const form = document.getElementById("filters");
const results = document.getElementById("results");
const more = document.getElementById("more");
const beyond = data.depth + 1;
let found = [];
let shown = 0;

// ---- what is looked at ----
const source = (text) => text.filter((part) => !Array.isArray(part))
  .map((part) => (typeof part === "number" ? data.formulas[part][0] : part)).join("");
const haystack = data.queries.map((query) =>
  [query.id, source(query.text), ...query.gold.map((place) => source(data.passages[place]))].join("\n").toLowerCase());
const rank = (query, run) => query.ranks[run] || beyond;

const KINDS = {
  gained: (query, before, after) => rank(query, after) < rank(query, before),
  lost: (query, before, after) => rank(query, after) > rank(query, before),
  same: (query, before, after) => rank(query, after) === rank(query, before),
  first: (query, before, after) => query.ranks[after] === 1,
  beyond: (query, before, after) => query.ranks[after] === 0,
};
const ORDERS = {
  lost: (query, before, after) => rank(query, before) - rank(query, after),
  gained: (query, before, after) => rank(query, after) - rank(query, before),
  worst: (query, before, after) => -rank(query, after),
};

function filter() {
  const words = form.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const [before, after] = [Number(form.before.value), Number(form.after.value)];
  const moved = KINDS[form.moved.value];
  found = data.queries.filter((query, number) =>
    (form.subject.value === "" || query.subject === Number(form.subject.value)) &&
    (form.unseen.value === "" || query.unseen === Number(form.unseen.value)) &&
    (!moved || moved(query, before, after)) &&
    words.every((word) => haystack[number].includes(word)));
  const order = ORDERS[form.order.value];
  if (order) found.sort((one, other) => order(one, before, after) - order(other, before, after));
}

// ---- what is shown ----
const templates = new Map(); // each formula is parsed once and copied from then on

function formula(place) {
  const [latex, mathml] = data.formulas[place];
  if (mathml === null) return Object.assign(document.createElement("code"), { textContent: latex });
  if (!templates.has(place)) {
    const template = document.createElement("template");
    template.innerHTML = mathml; // made by our own converter, of a fixed set of elements
    templates.set(place, template.content.firstChild);
  }
  return templates.get(place).cloneNode(true);
}

function picture(place, owner) {
  const src = data.pictures[place];
  if (src === null) return element("span", "label", "[picture not found] ");
  return Object.assign(document.createElement("img"), { src, className: "picture", alt: `picture of the ${owner}` });
}

function part(each, owner) {
  if (Array.isArray(each)) return picture(each[0], owner);
  return typeof each === "number" ? formula(each) : each;
}

const written = (text, owner) => text.map((each) => part(each, owner));

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function passage(place) {
  return written(data.passages[place], "passage");
}

function ranking(query, run) {
  const list = element("ol", "top");
  const top = query.top[run];
  for (let place = 0; place < top.length; place += 2) {
    const gold = query.gold.includes(top[place]);
    const line = element("li", gold ? "gold" : "", element("span", "score", top[place + 1].toFixed(4)), " ", ...passage(top[place]));
    if (gold) line.append(element("span", "badge", "gold"));
    list.append(line);
  }
  return list;
}

function moves(query, before, after) {
  const name = (run) => query.ranks[run] || `beyond ${data.depth}`;
  const kind = ["gained", "lost", "same"].find((each) => KINDS[each](query, before, after));
  const sign = { gained: "▲", lost: "▼", same: "=" }[kind];
  return element("span", `moved ${kind}`, `${sign} rank ${name(before)} → ${name(after)}`);
}

function row(query) {
  const [before, after] = [Number(form.before.value), Number(form.after.value)];
  const head = element("p", "head", element("strong", "", query.id), " ", data.subjects[query.subject]);
  if (query.unseen) head.append(element("span", "badge", "unseen"));
  head.append(moves(query, before, after));
  const gold = element("p", "goldline", element("span", "label", "Gold"), ...query.gold.flatMap((place, number) => [...(number ? ["; "] : []), ...passage(place)]));
  const label = element("p", "label", `Top ${query.top[after].length / 2}, ${data.runs[after]}`);
  return element("li", "query", head, element("p", "text", ...written(query.text, "query")), gold, label, ranking(query, after));
}

function append() {
  results.append(...found.slice(shown, shown + PAGE).map(row));
  shown = Math.min(shown + PAGE, found.length);
  more.hidden = shown === found.length;
  document.getElementById("count").textContent =
    `${found.length} of ${data.queries.length} queries${found.length ? `, ${shown} shown` : ""}`;
}

function update() {
  performance.mark("filter-start");
  filter();
  shown = 0;
  results.replaceChildren();
  append();
  performance.measure("filter", "filter-start");
}

// ---- set-up ----
function options(select, names) {
  names.forEach((name, value) => select.append(new Option(name, value)));
}
options(form.subject, data.subjects);
options(form.before, data.runs);
options(form.after, data.runs);
const last = data.runs.length - 1;
for (const [select, value] of [[form.before, Math.max(last - 1, 0)], [form.after, last]]) {
  select.options[value].defaultSelected = true;
  select.value = value;
}
form.addEventListener("input", update);
form.addEventListener("reset", () => setTimeout(update));
form.addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", () => {
  const next = shown;
  append();
  results.children[next]?.setAttribute("tabindex", "-1");
  results.children[next]?.focus({ preventScroll: true });
});
update();
