// The error browser: filter, search and sort all queries; show 50 at a time.
const PAGE_SIZE = 50;
const data = JSON.parse(document.getElementById("queries").textContent);
const form = document.getElementById("filters");
const results = document.getElementById("results");
const moreButton = document.getElementById("more");
const beyond = data.depth + 1; // rank of a gold passage that a run does not hold
let matches = [];
let shownCount = 0;

// ---- filters ----
const plainText = (text) => text.filter((part) => !Array.isArray(part))
  .map((part) => (typeof part === "number" ? data.formulas[part][0] : part)).join("");
const searchTexts = data.queries.map((query) =>
  [query.id, plainText(query.text), ...query.gold.map((index) => plainText(data.passages[index]))].join("\n").toLowerCase());
const rank = (query, run) => query.ranks[run] || beyond;

const CHANGES = {
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
  const hasChange = CHANGES[form.moved.value];
  matches = data.queries.filter((query, number) =>
    (form.subject.value === "" || query.subject === Number(form.subject.value)) &&
    (form.unseen.value === "" || query.unseen === Number(form.unseen.value)) &&
    (!hasChange || hasChange(query, before, after)) &&
    words.every((word) => searchTexts[number].includes(word)));
  const order = ORDERS[form.order.value];
  if (order) matches.sort((one, other) => order(one, before, after) - order(other, before, after));
}

// ---- results ----
const formulaTemplates = new Map(); // each formula is parsed once, then cloned

function formulaNode(index) {
  const [latex, mathml] = data.formulas[index];
  if (mathml === null) return Object.assign(document.createElement("code"), { textContent: latex, dir: "ltr" });
  if (!formulaTemplates.has(index)) {
    const template = document.createElement("template");
    template.innerHTML = mathml; // written by rounds.report.mathml, from a fixed set of elements
    formulaTemplates.set(index, template.content.firstChild);
  }
  return formulaTemplates.get(index).cloneNode(true);
}

function imageNode(index, owner) {
  const src = data.pictures[index];
  if (src === null) return element("span", "label", "[picture not found] ");
  return Object.assign(document.createElement("img"), { src, className: "picture", alt: `picture of the ${owner}` });
}

function partNode(part, owner) {
  if (Array.isArray(part)) return imageNode(part[0], owner);
  return typeof part === "number" ? formulaNode(part) : part;
}

const textNodes = (text, owner) => text.map((part) => partNode(part, owner));

function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

// Texts of the data take their own direction, so that Hebrew and Arabic read from the right beside scores and badges.
function textElement(name, className, ...children) {
  return Object.assign(element(name, className, ...children), { dir: "auto" });
}

function passageNode(index) {
  return textElement("bdi", "", ...textNodes(data.passages[index], "passage"));
}

function topList(query, run) {
  const list = element("ol", "top");
  const top = query.top[run];
  for (let at = 0; at < top.length; at += 2) { // passage index and score in turn
    const gold = query.gold.includes(top[at]);
    const line = element("li", gold ? "gold" : "", element("span", "score", top[at + 1].toFixed(4)), " ", passageNode(top[at]));
    if (gold) line.append(element("span", "badge", "gold"));
    list.append(line);
  }
  return list;
}

function rankChange(query, before, after) {
  const rankName = (run) => query.ranks[run] || `beyond ${data.depth}`;
  const change = ["gained", "lost", "same"].find((name) => CHANGES[name](query, before, after));
  const sign = { gained: "▲", lost: "▼", same: "=" }[change];
  return element("span", `moved ${change}`, `${sign} rank ${rankName(before)} → ${rankName(after)}`);
}

function queryItem(query) {
  const [before, after] = [Number(form.before.value), Number(form.after.value)];
  const head = element("p", "head", element("strong", "", query.id), " ", textElement("bdi", "", data.subjects[query.subject]));
  if (query.unseen) head.append(element("span", "badge", "unseen"));
  head.append(rankChange(query, before, after));
  const gold = element("p", "goldline", element("span", "label", "Gold"), ...query.gold.flatMap((index, number) => [...(number ? ["; "] : []), passageNode(index)]));
  const label = element("p", "label", `Top ${query.top[after].length / 2}, ${data.runs[after]}`);
  return element("li", "query", head, textElement("p", "text", ...textNodes(query.text, "query")), gold, label, topList(query, after));
}

function appendPage() {
  results.append(...matches.slice(shownCount, shownCount + PAGE_SIZE).map(queryItem));
  shownCount = Math.min(shownCount + PAGE_SIZE, matches.length);
  moreButton.hidden = shownCount === matches.length;
  document.getElementById("count").textContent =
    `${matches.length} of ${data.queries.length} queries${matches.length ? `, ${shownCount} shown` : ""}`;
}

function update() {
  performance.mark("filter-start");
  filter();
  shownCount = 0;
  results.replaceChildren();
  appendPage();
  performance.measure("filter", "filter-start");
}

// ---- set-up ----
function addOptions(select, names) {
  names.forEach((name, value) => select.append(new Option(name, value)));
}
addOptions(form.subject, data.subjects);
addOptions(form.before, data.runs);
addOptions(form.after, data.runs);
const last = data.runs.length - 1;
for (const [select, value] of [[form.before, Math.max(last - 1, 0)], [form.after, last]]) {
  select.options[value].defaultSelected = true;
  select.value = value;
}
form.addEventListener("input", update);
form.addEventListener("reset", () => setTimeout(update));
form.addEventListener("submit", (event) => event.preventDefault());
moreButton.addEventListener("click", () => {
  const next = shownCount;
  appendPage();
  results.children[next]?.setAttribute("tabindex", "-1");
  results.children[next]?.focus({ preventScroll: true });
});
update();
