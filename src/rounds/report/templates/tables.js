// Sort a table by the column whose heading is clicked: numbers by value without superscripts, empty cells last.
const UNITS = { k: 1e3, M: 1e6, B: 1e9 };

function sortKey(cell) {
  const text = cell.textContent.trim();
  const number = /^([+-]?\d[\d.]*)([kMB]?)/.exec(text);
  return number ? Number(number[1]) * (UNITS[number[2]] ?? 1) : text;
}

function compare(one, other) {
  if (one === "" || other === "") return (one === "") - (other === "");
  if (typeof one === typeof other) return one < other ? -1 : Number(one > other);
  return typeof one === "number" ? -1 : 1;
}

function sort(heading) {
  const body = heading.closest("table").tBodies[0];
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = [...body.rows].map((row) => [sortKey(row.cells[heading.cellIndex]), row]);
  rows.sort(([one], [other]) => (one === "" || other === "" ? compare(one, other) : compare(one, other) * (descending ? -1 : 1)));
  body.append(...rows.map(([, row]) => row));
}

for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}
