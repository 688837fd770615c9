"use strict";
(() => {
  const source = JSON.parse(document.getElementById("data").textContent);
  const names = source.columns.map(([name]) => name);
  const columns = new Map(source.columns.map(([name, values, rows]) => [name, { values, rows }]));
  const cell = (name, row) => {
    const { values, rows } = columns.get(name);
    return values[rows ? rows[row] : 0] ?? "";
  };

  // Filters: an element that says what it is about is shown if that is wanted.
  const form = document.getElementById("filters");
  const wanted = () => Object.fromEntries(new FormData(form));
  const about = ["op", "dtype", "backend", "threads", "status"];
  const selector = about.map((key) => `main [data-${key}]`).join(",");
  const unfolded = new Map();
  function filter() {
    const want = wanted();
    const some = about.some((key) => want[key]);
    for (const element of document.querySelectorAll(selector)) {
      element.hidden = about.some((key) => want[key] && element.dataset[key] && element.dataset[key] !== want[key]);
    }
    // Marks in pictures are known by the colour of their backend.
    for (const [backend, colour] of Object.entries(source.colours)) {
      const hide = want.backend && want.backend !== backend;
      for (const mark of document.querySelectorAll(`svg [fill="${colour}"], svg [stroke="${colour}"]`)) {
        mark.style.opacity = hide ? "0.12" : "";
      }
    }
    for (const details of document.querySelectorAll("details.more, details.table")) {
      if (!unfolded.has(details)) unfolded.set(details, details.open);
      details.open = some ? [...details.querySelectorAll("figure, tbody tr")].some((e) => !e.closest("[hidden]")) : unfolded.get(details);
      details.hidden = some && !details.open;
    }
    shown = 0;
    rows.textContent = "";
    matching = [...Array(source.rows).keys()].filter((row) => about.every((key) => !want[key] || cell(key, row) === want[key]));
    document.getElementById("matches").textContent = `${matching.length} of ${source.rows} measurements`;
    more();
  }

  // The table of all rows, a hundred at a time.
  const table = document.getElementById("rows");
  const further = document.getElementById("further");
  const number = (text, digits = 3) => (text === "" ? "" : Number.isFinite(+text) ? String(+(+text).toPrecision(digits)) : text);
  const time = (ns) => {
    if (ns === "") return "";
    const step = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]].find(([unit]) => +ns >= unit) ?? [1, "ns"];
    return `${number(ns / step[0])} ${step[1]}`;
  };
  const shows = [
    ["problem", (r) => cell("problem", r)],
    ["backend", (r) => cell("backend", r)],
    ["threads", (r) => cell("threads", r), true],
    ["cache", (r) => cell("cache", r)],
    ["status", (r) => cell("status", r)],
    ["median", (r) => time(cell("median_ns", r)), true],
    ["GFLOP/s", (r) => number(cell("gflops", r)), true],
    ["GB/s", (r) => number(cell("gb_per_s", r)), true],
    ["speed-up", (r) => number(cell("speedup", r)), true],
    ["95 % interval", (r) => cell("speedup_low", r) && `${number(cell("speedup_low", r))}–${number(cell("speedup_high", r))}`, true],
    ["% of limit", (r) => number(cell("roofline_percent", r)), true],
    ["error ÷ bound", (r) => number(cell("error_over_bound", r)), true],
  ];
  const tones = { passed: "good", unsupported: "muted", known: "note" };
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const head = make("tr", {}, ...shows.map(([name, , figures]) => make("th", { scope: "col", className: figures ? "num" : "", textContent: name })));
  const rows = make("tbody");
  table.append(make("thead", {}, head), rows);
  let matching = [];
  let shown = 0;
  function more() {
    for (const row of matching.slice(shown, shown + 100)) {
      const cells = shows.map(([name, text, figures], i) => {
        const className = [figures ? "num" : "", name === "status" ? tones[cell("status", row)] ?? "bad" : ""].join(" ").trim();
        if (i > 0) return make("td", { className, textContent: text(row) });
        const button = make("button", { type: "button", className: "cell", textContent: text(row) });
        button.dataset.row = row;
        return make("th", { scope: "row" }, button);
      });
      rows.append(make("tr", {}, ...cells));
    }
    shown = Math.min(shown + 100, matching.length);
    further.hidden = shown >= matching.length;
    further.textContent = `Show more (${matching.length - shown} left)`;
  }
  further.addEventListener("click", more);

  // One measurement in full.
  const dialog = document.getElementById("detail");
  function detail(row) {
    dialog.querySelector("h2").textContent = `${cell("backend", row)}: ${cell("problem", row)}`;
    const list = dialog.querySelector("dl");
    list.textContent = "";
    for (const name of ["repro", ...names.filter((name) => name !== "repro")]) {
      const text = cell(name, row);
      if (text === "") continue;
      const value = make("dd", {});
      if (name === "repro") {
        const copy = make("button", { type: "button", className: "copy", textContent: "copy" });
        value.append(make("span", { className: "copyable" }, make("code", { textContent: text }), copy));
      } else value.textContent = text;
      list.append(make("dt", { textContent: name }), value);
    }
    dialog.showModal();
  }

  // A page opened from a file may not reach the clipboard: then the text is selected instead.
  async function copy(button) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.matches(".copy")) copy(button);
    else if (button?.matches(".cell")) detail(+button.dataset.row);
  });

  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  document.getElementById("download").addEventListener("click", () => {
    const lines = [names.join(",")];
    for (let row = 0; row < source.rows; row++) lines.push(names.map((name) => quoted(cell(name, row))).join(","));
    const link = make("a", { download: "records.csv", href: URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  form.hidden = false;
  form.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  filter();
})();
