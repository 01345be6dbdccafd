"use strict";

// Tables: a click on a column's name, or Enter on it, sorts; rows of a dash come last.

for (const table of document.querySelectorAll("table.sortable"))
  for (const button of table.querySelectorAll("thead button"))
    button.addEventListener("click", () => sort(table, button.closest("th")));

function sort(table, heading) {
  const isNumeric = heading.classList.contains("number");
  const first = isNumeric ? "descending" : "ascending";
  const second = isNumeric ? "ascending" : "descending";
  const direction = heading.getAttribute("aria-sort") === first ? second : first;
  for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [row, row.cells[heading.cellIndex].textContent.trim()]);
  const number = (text) => parseFloat(text.replace(/[,<\s]/g, ""));
  const compare = (a, b) => (isNumeric ? number(a) - number(b) : a.localeCompare(b));
  rows.sort(([, a], [, b]) => (a === "–") - (b === "–") || sign * compare(a, b) || 0);
  table.tBodies[0].append(...rows.map(([row]) => row));
}

// Curves: two charts of the runs whose models are ticked; one run may be picked out in both.

const runs = JSON.parse(document.getElementById("curves").textContent);
const boxes = [...document.querySelectorAll("#models input")];
const colours = new Map(boxes.map((box, i) => [box.value, `c${i % 12}`]));
const select = document.getElementById("run");
const readout = document.getElementById("readout");
const metrics = [...new Set(runs.map((run) => run.metric))].join(" or ");
const charts = [
  { key: "valid", svg: document.getElementById("valid"), name: `Validation ${metrics}` },
  { key: "loss", svg: document.getElementById("loss"), name: "Training loss" },
];
const margin = { left: 50, right: 10, top: 10, bottom: 34 };
let shown = runs; // of the ticked models
let pinned = false; // a click holds a run until the next click

function element(name, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

/** About `count` round numbers from low to high. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= 0.8 * rough) ?? 10);
  const from = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - from + 1 }, (_, i) => (from + i) * step);
}

/** 1, 2 and 5 times the powers of ten, or the powers alone where these are many. */
function logTicks(low, high) {
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, i) => Math.floor(low) + i);
  const factors = high - low > 3 ? [1] : [1, 2, 5];
  const all = powers.flatMap((power) => factors.map((factor) => power + Math.log10(factor)));
  return all.filter((value) => value >= low && value <= high);
}

const short = (value) => String(Number(value.toPrecision(4)));

function draw(chart) {
  const { key, svg } = chart;
  const { width, height } = svg.getBoundingClientRect();
  svg.replaceChildren();
  chart.lines = [];
  const values = shown.flatMap((run) => run[key]).filter((value) => value !== null);
  document.getElementById(`${key}-title`).textContent = chart.name;
  if (!values.length || width < 100) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);

  let [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const isLog = key === "loss" && low > 0 && high / low > 20;
  if (isLog) document.getElementById(`${key}-title`).textContent += ", logarithmic scale";
  const level = isLog ? Math.log10 : (value) => value;
  [low, high] = [level(low), level(high)];
  const pad = (high - low) * 0.04 || Math.abs(high) * 0.1 || 1;
  [low, high] = [low - pad, high + pad];
  const last = Math.max(1, ...shown.map((run) => run[key].length - 1));
  const x = (epoch) => margin.left + (epoch / last) * (width - margin.left - margin.right);
  const y = (value) => height - margin.bottom - ((level(value) - low) / (high - low)) * (height - margin.top - margin.bottom);

  const levels = isLog ? logTicks(low, high).map((value) => 10 ** value) : ticks(low, high, 5);
  const decimals = Math.max(0, -Math.floor(Math.log10(levels[1] - levels[0]) + 1e-9));
  for (const value of levels) {
    svg.append(element("path", { class: "grid", d: `M${margin.left} ${y(value)}H${width - margin.right}` }));
    svg.append(element("text", { x: margin.left - 6, y: y(value) + 4, "text-anchor": "end" }, isLog ? short(value) : value.toFixed(decimals)));
  }
  for (const number of ticks(1, last + 1, Math.min(last, width / 80)).filter(Number.isInteger)) // from 1; the data from 0
    svg.append(element("text", { x: x(number - 1), y: height - margin.bottom + 16, "text-anchor": "middle" }, number));
  svg.append(element("text", { x: (margin.left + width) / 2, y: height - 3, "text-anchor": "middle" }, "epoch"));

  for (const run of [...shown].sort((a, b) => a.chosen - b.chosen)) {
    const points = run[key].flatMap((value, epoch) => (value === null ? [] : [{ epoch, x: x(epoch), y: y(value) }]));
    if (!points.length) continue;
    const group = element("g", { class: `${colours.get(run.model)}${run.chosen ? "" : " other"}` });
    group.append(element("path", { class: "curve", d: "M" + points.map((p) => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join("L") }));
    const best = points.find((point) => point.epoch === run.best);
    if (best) group.append(element("circle", { class: "dot", cx: best.x, cy: best.y, r: 3.5 }));
    svg.append(group);
    chart.lines.push({ run, points, group });
  }
}

/** Name a run beneath the boxes, with its values at an epoch, and let its lines stand out; none without a run. */
function pick(run, epoch = run?.best ?? (run?.loss.length ?? 0) - 1) {
  select.value = run ? runs.indexOf(run) : "";
  readout.replaceChildren();
  for (const { key, svg, lines } of charts) {
    svg.classList.toggle("picked", Boolean(run));
    svg.querySelector(".mark")?.remove();
    for (const { group, points, run: other } of lines) {
      group.classList.toggle("on", other === run);
      const point = other === run && points.find((one) => one.epoch === epoch);
      if (point) group.append(element("circle", { class: "mark", cx: point.x, cy: point.y, r: 6 }));
    }
  }
  if (!run) {
    readout.textContent = shown.length ? "Point at a line, tap it or choose its run to read its values." : "";
    return;
  }
  const [valid, loss] = [run.valid[epoch], run.loss[epoch]];
  const parts = [epoch < 0 ? "no epoch yet" : `epoch ${epoch + 1}`];
  if (valid != null) parts.push(`${run.metric} ${valid.toFixed(4)}`);
  if (loss != null) parts.push(`training loss ${short(loss)}`);
  if (epoch !== run.best && run.valid[run.best] != null)
    parts.push(`best at epoch ${run.best + 1} with ${run.valid[run.best].toFixed(4)}`);
  const name = document.createElement("a");
  name.href = `#run-${runs.indexOf(run)}`;
  name.textContent = run.label;
  readout.append(name, document.createElement("br"), parts.join(", "));
}

function nearest(chart, event) {
  const { left, top } = chart.svg.getBoundingClientRect();
  let found = { distance: 40 ** 2 };
  for (const { run, points } of chart.lines)
    for (const point of points) {
      const distance = (point.x - event.clientX + left) ** 2 + (point.y - event.clientY + top) ** 2;
      if (distance < found.distance) found = { distance, run, epoch: point.epoch };
    }
  return found;
}

for (const chart of charts) {
  chart.svg.addEventListener("pointermove", (event) => {
    if (pinned) return;
    const { run, epoch } = nearest(chart, event);
    pick(run, epoch);
  });
  chart.svg.addEventListener("pointerleave", () => pinned || pick());
  chart.svg.addEventListener("click", (event) => {
    const { run, epoch } = nearest(chart, event);
    pinned = Boolean(run) && !(pinned && select.value === String(runs.indexOf(run)));
    pick(run, epoch);
  });
}

select.addEventListener("change", () => {
  pinned = select.value !== "";
  pick(runs[select.value]);
});

function filter() {
  const models = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  shown = runs.filter((run) => models.has(run.model));
  select.replaceChildren(select.options[0], ...shown.map((run) => new Option(run.label, runs.indexOf(run))));
  drawAll();
}

function drawAll() {
  charts.forEach(draw);
  pinned = false;
  pick();
}

for (const box of boxes) box.addEventListener("change", filter);
for (const [id, checked] of [["all", true], ["none", false]])
  document.getElementById(id).addEventListener("click", () => {
    for (const box of boxes) box.checked = checked;
    filter();
  });
filter();

let width = innerWidth; // a phone's bars change the height as one scrolls
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  requestAnimationFrame(drawAll);
});

// A link to a run opens it.

function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.matches("details")) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();

// A live page reads itself anew; what the reader has opened, ticked and scrolled to stays.

const seconds = Number(document.documentElement.dataset.reload);
const details = [...document.querySelectorAll("details")];
const nameOf = (one) => [one.closest(".run"), one].map((each) => each?.querySelector("summary").textContent.split(" validation")[0]).join("|");
const headings = () => [...document.querySelectorAll(".sortable th[scope=col]")];

function keep() {
  const sorted = headings().map((heading) => heading.getAttribute("aria-sort"));
  const open = details.filter((one) => one.open).map(nameOf);
  const off = boxes.filter((box) => !box.checked).map((box) => box.value);
  const run = pinned ? runs[select.value].label : null;
  history.replaceState({ top: scrollY, sorted, open, off, run }, "");
}

function restore({ top, sorted, open, off, run }) {
  headings().forEach((heading, i) => {
    if (!sorted[i] || sorted.length !== headings().length) return;
    for (let n = 0; n < 3 && heading.getAttribute("aria-sort") !== sorted[i]; n++) heading.querySelector("button")?.click();
  });
  for (const one of details) one.open ||= open.includes(nameOf(one));
  for (const box of boxes) box.checked = !off.includes(box.value);
  filter();
  const picked = shown.find((one) => one.label === run);
  if (picked) {
    pinned = true;
    pick(picked);
  }
  scrollTo({ top, behavior: "instant" });
}

if (history.state?.sorted) restore(history.state);
history.replaceState(null, "");
history.scrollRestoration = seconds ? "manual" : "auto";
if (seconds)
  setTimeout(() => {
    keep();
    location.reload();
  }, 1000 * seconds);
