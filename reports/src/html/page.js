"use strict";
(() => {
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const form = document.getElementById("filters");
  const counted = document.getElementById("counted");
  const about = ["op", "dtype", "backend", "threads", "status"];
  const colours = [...form.elements.backend.options].filter((option) => option.dataset.colour);

  // Filters: an element that says what it is about is shown if that is wanted. What is about
  // several things lists them.
  const selector = about.map((key) => `main [data-${key}]`).join(",");
  const unfolded = new Map([...document.querySelectorAll("details.more, details.table")].map((details) => [details, details.open]));
  function filter() {
    const want = Object.fromEntries(new FormData(form));
    const some = about.some((key) => want[key]);
    const unwanted = (element) => about.some((key) => want[key] && element.dataset[key] && !element.dataset[key].split(" ").includes(want[key]));
    for (const element of document.querySelectorAll(selector)) element.hidden = unwanted(element);
    // A column about a backend goes with its heading.
    for (const heading of document.querySelectorAll("main th[data-backend]")) {
      for (const row of heading.closest("table").tBodies[0].rows) row.cells[heading.cellIndex].hidden = heading.hidden;
    }
    // Marks in pictures are known by the colour of their backend.
    for (const { value, dataset } of colours) {
      const faint = want.backend && want.backend !== value;
      for (const mark of document.querySelectorAll(`svg [fill="${dataset.colour}"], svg [stroke="${dataset.colour}"]`)) {
        mark.style.opacity = faint ? "0.12" : "";
      }
    }
    for (const [details, open] of unfolded) {
      const left = [...details.querySelectorAll("figure, tbody tr")].some((element) => !element.closest("[hidden]"));
      details.open = left && (open || Boolean(want.op && details.closest(".family")));
      details.hidden = some && !left;
    }
    for (const region of document.querySelectorAll(".scroll:not(#all)")) {
      if (!region.hidden) region.classList.toggle("empty", ![...region.querySelectorAll("tbody tr")].some((row) => !row.hidden));
    }
    list();
  }

  // The records are a compressed CSV file behind a link.
  const link = document.getElementById("records");
  async function unpack() {
    const letters = atob(link.href.slice(link.href.indexOf(",") + 1));
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }
  function parse(text) {
    const rows = [];
    let open = "";
    for (const line of text.split("\n")) {
      const whole = open ? `${open}\n${line}` : line;
      if (!whole) continue;
      if (!whole.includes('"')) {
        rows.push(whole.split(","));
        continue;
      }
      // A cell in quotation marks may hold commas, line ends, and doubled quotation marks.
      open = whole.split('"').length % 2 ? "" : whole;
      if (open) continue;
      const cells = whole.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^",]*))/g);
      rows.push([...cells].map(([, quoted, bare]) => quoted?.replaceAll('""', '"') ?? bare));
    }
    return rows;
  }
  let names = [];
  let records = [];
  const cell = (name, row) => records[row][names.indexOf(name)] ?? "";

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
  const head = make("tr", {}, ...shows.map(([name, , figures]) => make("th", { scope: "col", className: figures ? "num" : "", textContent: name })));
  const rows = make("tbody");
  table.append(make("thead", {}, head), rows);
  let matching = [];
  let shown = 0;
  function list() {
    const want = Object.fromEntries(new FormData(form));
    shown = 0;
    rows.textContent = "";
    matching = [...records.keys()].filter((row) => about.every((key) => !want[key] || cell(key, row) === want[key]));
    if (records.length) counted.textContent = `${matching.length} of ${records.length} measurements`;
    more();
  }
  function more() {
    for (const row of matching.slice(shown, shown + 100)) {
      const cells = shows.map(([name, text, figures], i) => {
        const className = [figures ? "num" : "", name === "status" ? tones[cell("status", row)] ?? "bad" : ""].join(" ").trim();
        if (i > 0) return make("td", { className, textContent: text(row) });
        const button = make("button", { textContent: text(row) });
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
    else if (button?.dataset.row && records.length) detail(+button.dataset.row);
  });

  form.hidden = false;
  form.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  if (about.some((key) => form.elements[key].value)) filter();

  unpack().then((text) => {
    const download = document.getElementById("download");
    [names, ...records] = parse(text);
    document.getElementById("all").hidden = false;
    download.hidden = false;
    download.addEventListener("click", () => {
      const file = make("a", { download: "records.csv", href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
      file.click();
      setTimeout(() => URL.revokeObjectURL(file.href), 1000);
    });
    list();
  }).catch((error) => {
    counted.textContent = `This browser cannot unpack the measurements: ${error.message}`;
  });
})();
