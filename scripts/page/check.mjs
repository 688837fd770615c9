// Whether a report page keeps its promises in a browser. scripts/check-page starts it:
//   node check.mjs BROWSER PAGE [SHOTS]
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";

const packages = createRequire(join(process.env.PAGE_CHECK_PACKAGES, "package.json"));
const { chromium } = packages("playwright-core");
const axe = readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");

const [browserPath, pagePath, shots] = process.argv.slice(2);
const address = pathToFileURL(pagePath).href;

/** All waits, on a machine that is busy with something else. */
const PATIENCE_MS = 120_000;
const SLOWEST_MS = 2000;
const MOST_BYTES = 5_000_000;
const SCREENS = [
  { name: "wide", width: 1280, height: 900 },
  { name: "narrow", width: 390, height: 844 },
];

const failures = [];
let checks = 0;
function check(holds, promise, found = "") {
  checks += 1;
  if (holds) return;
  failures.push(promise);
  console.error(`FAILED  ${promise}${found === "" ? "" : `: ${found}`}`);
}

// Another reader of CSV than the page's own, so that they can disagree.
function parseCsv(text) {
  const rows = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const row = rows[rows.length - 1];
    const letter = text[i];
    if (quoted && letter === '"' && text[i + 1] === '"') row[row.length - 1] += text[++i];
    else if (letter === '"') quoted = !quoted;
    else if (!quoted && letter === ",") row.push("");
    else if (!quoted && letter === "\n") rows.push([""]);
    else row[row.length - 1] += letter;
  }
  const [names, ...cells] = rows.filter((row) => row.length > 1);
  return cells.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i]])));
}

const browser = await chromium.launch({
  executablePath: browserPath,
  args: ["--disable-gpu", "--no-sandbox", "--font-render-hinting=none"],
});

/** Opens the page; what it must never do is a failure from then on. */
async function open({ name, width, height }, { scheme = "light", scripts = true } = {}) {
  const where = `${name}, ${scheme}${scripts ? "" : ", without scripts"}`;
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: scheme,
    javaScriptEnabled: scripts,
    acceptDownloads: true,
    hasTouch: name === "narrow",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) check(false, `${where}: nothing on the console`, message.text());
  });
  page.on("pageerror", (error) => check(false, `${where}: no error in the script`, error.message));
  page.on("request", (request) => {
    const url = request.url();
    const own = url.split("#")[0] === address || url.startsWith("blob:") || url.startsWith("data:");
    check(own, `${where}: no request to anywhere`, url.slice(0, 100));
  });
  const start = performance.now();
  await page.goto(address, { waitUntil: "load" });
  if (scripts) await page.waitForFunction(() => document.querySelector("#rows tbody tr"));
  const ms = Math.round(performance.now() - start);
  return { page, context, where, ms };
}

const unfoldAll = (page) => page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));

async function checkWidth(page, where) {
  const wide = await page.evaluate(() => {
    const room = document.documentElement.clientWidth;
    // What scrolls within its own frame may be wide.
    const free = [...document.querySelectorAll("main *")].filter((element) => !element.closest(".scroll, svg, dialog") && element.getBoundingClientRect().right > room + 1);
    return { room, needed: document.documentElement.scrollWidth, first: free.slice(0, 3).map((element) => element.outerHTML.slice(0, 90)) };
  });
  check(wide.needed <= wide.room && wide.first.length === 0, `${where}: nothing is wider than the screen`, JSON.stringify(wide));
}

// The rows of a table are made alike, and a drawing is one picture with a label: axe, whose time grows
// faster than the page, looks at the first rows and at no words inside drawings.
const ROWS = 6;

async function checkAccess(page, where) {
  await page.addStyleTag({ content: "main > section { content-visibility: visible !important; }" });
  await page.evaluate(axe);
  const found = await page.evaluate(async (rows) => {
    for (const row of document.querySelectorAll(`tbody tr:nth-child(n + ${rows + 1})`)) row.remove();
    for (const drawing of document.querySelectorAll("figure svg")) drawing.replaceChildren();
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, count: nodes.length, first: nodes[0].html.slice(0, 160), why: nodes[0].failureSummary }));
  }, ROWS);
  const grave = found.filter(({ impact }) => ["serious", "critical"].includes(impact));
  for (const { id, impact, help, count, first, why } of grave) check(false, `${where}: axe ${id} (${impact})`, `${help}, ${count} times, such as ${first}: ${why}`);
  check(grave.length === 0, `${where}: axe has no serious finding`, grave.map(({ id }) => id).join(", "));
  for (const { id, impact, help } of found.filter((one) => !grave.includes(one))) console.error(`note    ${where}: axe ${id} (${impact}): ${help}`);
}

async function checkTables(page, where) {
  const bare = await page.evaluate(() =>
    [...document.querySelectorAll("table")]
      .filter((table) => !table.caption?.textContent.trim() || !table.tHead || [...table.tHead.querySelectorAll("th")].some((th) => th.scope !== "col"))
      .map((table) => table.outerHTML.slice(0, 120)));
  check(bare.length === 0, `${where}: every table has a caption and headings`, bare.join("; "));
}

/** What can be seen: figures, rows of tables, and what each of them is about. */
const visible = (page) =>
  page.evaluate(() => {
    const seen = (element) => !element.closest("[hidden]");
    const about = [...document.querySelectorAll("main [data-op], main [data-dtype], main [data-backend], main [data-threads], main [data-status]")];
    return {
      things: [...document.querySelectorAll("figure, .scroll:not(#all) tbody tr, .scroll:not(#all) td")].filter(seen).length,
      about: about.filter(seen).map((element) => ({ ...element.dataset })),
      text: document.getElementById("counted").textContent,
      faint: [...document.querySelectorAll("svg path")].filter((path) => path.style.opacity !== "").length,
    };
  });

async function checkFilters(page, records, where) {
  const all = await visible(page);
  check(all.text === `${records.length} of ${records.length} measurements`, `${where}: unfiltered, all measurements are counted`, all.text);
  const filters = await page.$$eval("#filters select", (selects) => selects.map((select) => [select.name, [...select.options].map((option) => option.value).filter(Boolean)]));
  check(["op", "dtype", "backend", "threads"].every((name) => filters.some(([filter]) => filter === name)), `${where}: op, dtype, backend and threads can be filtered`);
  for (const [name, values] of filters) {
    check(values.length > 0, `${where}: the filter ${name} has choices`);
    for (const value of values) {
      await page.selectOption(`select[name=${name}]`, value);
      const left = await visible(page);
      const expected = records.filter((record) => record[name] === value).length;
      check(expected > 0 && left.text === `${expected} of ${records.length} measurements`, `${where}: ${name}=${value} counts ${expected} measurements`, left.text);
      const wrong = left.about.filter((data) => data[name] && !data[name].split(" ").includes(value));
      check(wrong.length === 0, `${where}: ${name}=${value} shows nothing else`, JSON.stringify(wrong[0]));
      if (values.length > 1) check(left.things < all.things || left.faint > 0, `${where}: ${name}=${value} hides something`);
      if (name === "backend" && values.length > 1) check(left.faint > 0, `${where}: ${name}=${value} fades the marks of the others`);
      const listed = await page.$$eval("#rows tbody tr", (rows) => rows.length);
      check(listed === Math.min(100, expected), `${where}: ${name}=${value} lists its rows`, listed);
    }
    await page.click("#filters button[type=reset]");
    await page.waitForFunction((text) => document.getElementById("counted").textContent === text, all.text);
    const back = await visible(page);
    check(back.things === all.things && back.faint === 0, `${where}: clearing ${name} brings all back`, `${back.things} of ${all.things}`);
  }
  // Two at once.
  const [one] = records;
  await page.selectOption("select[name=op]", one.op);
  await page.selectOption("select[name=backend]", one.backend);
  const both = records.filter((record) => record.op === one.op && record.backend === one.backend).length;
  const { text } = await visible(page);
  check(text === `${both} of ${records.length} measurements`, `${where}: two filters hold together`, text);
  await page.click("#filters button[type=reset]");
}

async function checkRepro(page, where) {
  const buttons = page.locator("main td > button[data-row]");
  check((await buttons.count()) > 0, `${where}: cells open their measurement`);
  await buttons.first().click();
  const dialog = page.locator("#detail");
  check(/touchstone repro '/.test(await dialog.innerText()), `${where}: a cell shows its repro line`);
  if (shots) await page.screenshot({ path: join(shots, "detail.png") });
  await page.keyboard.press("Escape");
  check(!(await dialog.isVisible()), `${where}: Escape closes it`);
  const lines = await page.$$eval("#rows tbody tr", (rows) => rows.filter((row) => row.querySelector("button[data-row]")).length);
  check(lines > 0, `${where}: measurements open theirs`);
}

async function checkDownload(page, csv, where) {
  for (const [what, read] of [["#records", (bytes) => gunzipSync(bytes).toString()], ["#download", (bytes) => bytes.toString()]]) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(what)]);
    const file = await download.path();
    check(read(readFileSync(file)) === csv, `${where}: ${download.suggestedFilename()} is the record file`);
  }
}

async function checkKeyboard(page, where) {
  await page.keyboard.press("Tab");
  const first = await page.evaluate(() => document.activeElement.className);
  check(first === "skip", `${where}: Tab first reaches the way past the navigation`, first);
  // The second way leads past the cells of the first tables, each of which can be reached.
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  const next = await page.evaluate(() => document.activeElement.name);
  check(next === "op", `${where}: the keyboard reaches the filters past the tables`, next);
}

const source = readFileSync(pagePath, "utf8");
check(Buffer.byteLength(source) < MOST_BYTES, "the page is smaller than 5 MB", Buffer.byteLength(source));
const packed = source.match(/href="data:application\/gzip;base64,([^"]*)"/)?.[1];
check(packed, "the page holds its records");
const csv = packed ? gunzipSync(Buffer.from(packed, "base64")).toString() : "";
const records = parseCsv(csv);

// The fastest of a few is the page's own time: what is slower is the machine's other work.
let fastest = Infinity;
for (let i = 0; i < 6 && fastest >= SLOWEST_MS; i++) {
  const { context, ms } = await open(SCREENS[0]);
  fastest = Math.min(fastest, ms);
  await context.close();
}
check(fastest < SLOWEST_MS, `the page opens within ${SLOWEST_MS} ms`, `${fastest} ms`);

for (const screen of SCREENS) {
  for (const scheme of ["light", "dark"]) {
    const { page, context, where } = await open(screen, { scheme });
    if (shots) {
      await page.screenshot({ path: join(shots, `${screen.name}-${scheme}.png`) });
      await page.screenshot({ path: join(shots, `${screen.name}-${scheme}-full.png`), fullPage: true });
    }
    await checkWidth(page, where);
    if (scheme === "light") {
      await checkKeyboard(page, where);
      await checkFilters(page, records, where);
      await checkRepro(page, where);
      if (screen.name === "wide") await checkDownload(page, csv, where);
    }
    await unfoldAll(page);
    await checkWidth(page, `${where}, unfolded`);
    await checkTables(page, where);
    // Takes rows away, so it comes last; first with a measurement opened, which covers all else.
    await page.locator("main td > button[data-row]").first().click();
    await checkAccess(page, `${where}, a measurement opened`);
    await page.keyboard.press("Escape");
    await checkAccess(page, `${where}, unfolded`);
    await context.close();
  }
}

const scripted = await open(SCREENS[0]);
const shown = (page) => page.locator("figure, main section, .scroll:not(#all) tbody tr").count();
const withScripts = await shown(scripted.page);
await scripted.context.close();
const bare = await open(SCREENS[0], { scripts: false });
check((await shown(bare.page)) === withScripts && withScripts > 0, `${bare.where}: everything is there`);
check((await bare.page.locator("#filters").isVisible()) === false, `${bare.where}: no dead filters`);
check(await bare.page.locator("noscript").first().isVisible(), `${bare.where}: it says what is missing`);
check((await bare.page.locator("main h2").first().isVisible()) && (await bare.page.locator("figure").first().isVisible()), `${bare.where}: it can be read`);
await bare.context.close();

await browser.close();
console.log(`${checks - failures.length} passed, ${failures.length} failed`);
console.log(`page: ${(Buffer.byteLength(source) / 1e6).toFixed(2)} MB, ${records.length} records, opens in ${fastest} ms`);
process.exitCode = failures.length ? 1 : 0;
