"use strict";
(() => {
  const value = (row, column) => {
    const cell = row.cells[column], given = cell.dataset.sort;
    if (given === undefined) return cell.textContent.trim().toLowerCase();
    return given === "" ? null : Number.isNaN(Number(given)) ? given : Number(given);
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), undefined, { numeric: true });
  const sort = (table, column, direction) => {
    const rows = [...table.tBodies[0].rows];
    const order = row => Number(row.dataset.order);
    rows.sort((a, b) => {
      if (column === null) return order(a) - order(b);
      const [x, y] = [value(a, column), value(b, column)];
      if (x === null || y === null) return (x === null) - (y === null) || order(a) - order(b); // nothing goes last
      return direction * compare(x, y) || order(a) - order(b);
    });
    table.tBodies[0].append(...rows);
    [...table.tHead.rows[0].cells].forEach((cell, place) => {
      if (place === column) cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.order = place; });
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      button.addEventListener("click", () =>
        sort(table, column, cell.getAttribute("aria-sort") === "ascending" ? -1 : 1));
      cell.append(button);
    });
  }
  const tools = document.querySelector(".tools"), table = document.querySelector("#places");
  const search = tools.querySelector("[data-search]"), count = tools.querySelector("[data-count]");
  const filters = [...tools.querySelectorAll("[data-filter]")], sorter = tools.querySelector("[data-sorter]");
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      const kept = words.every(word => text.includes(word)) && filters.every(one =>
        !one.value || [one.value, "any"].includes(row.cells[one.dataset.filter].firstChild.textContent.trim()));
      row.hidden = !kept;
      shown += kept;
    }
    count.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
  };
  tools.addEventListener("input", filter);
  tools.addEventListener("submit", event => event.preventDefault());
  tools.addEventListener("reset", () => setTimeout(() => { sort(table, null, 1); filter(); }));
  sorter.addEventListener("change", () => sort(table, sorter.value === "" ? null : Number(sorter.value), 1));
  tools.hidden = false;
  filter();
})();
