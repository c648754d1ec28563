"use strict";
(() => {
const data = JSON.parse(document.getElementById("content").textContent);
const M = data.metrics;
const COUNT = M.value.length;
const BRIEF = {
  jensen_shannon_distance: "Jensen–Shannon", population_stability_index: "PSI",
  normalized_wasserstein_distance: "Wasserstein", two_sample_kolmogorov_smirnov_test: "KS p-value",
  pearsons_chi_squared_test: "χ² p-value", hellinger_distance: "Hellinger", infinity_norm: "largest share",
  kolmogorov_smirnov_distance: "KS distance", cramers_v: "Cramér’s V", centroid_distance: "centroid distance",
  domain_classifier_roc_auc: "domain classifier", weighted_drift: "weighted drift", null_value_rate: "null rate",
  data_type_error_rate: "type errors", out_of_bounds_rate: "out of bounds", roc_auc: "ROC AUC", pr_auc: "PR AUC",
  log_loss: "log loss", brier: "Brier score", expected_calibration_error: "calibration error", mae: "MAE", rmse: "RMSE",
  mape: "MAPE", r2: "R²", f1: "F1", residual_p05: "residual 5 %", residual_p50: "residual 50 %", residual_p95: "residual 95 %",
};

const OF_TABLE = ["missing_column", "added_column", "type_changed", "freshness_hours"];

// Elements. All text is set as text.

const SVG = "http://www.w3.org/2000/svg";
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--") || name === "width%") element.style.setProperty(name === "width%" ? "width" : name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
const h = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

// Numbers

const real = (value) => (value === "Infinity" ? Infinity : value === "-Infinity" ? -Infinity : value);
function number(value) {
  value = real(value);
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text;
  if (size >= 1e7 || size < 1e-4) {
    const [mantissa, exponent] = value.toExponential(2).split("e");
    text = `${trimmed(mantissa)}e${Number(exponent)}`;
  } else {
    const [whole, rest] = trimmed(value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(size))))).split(".");
    text = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
  }
  return text.replaceAll("-", "−");
}
const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
const percent = (value) => (value === null || value === undefined ? "–" : `${number(real(value) * 100)} %`);
const isShare = (metric) => metric.endsWith("_rate") || metric === "row_count_change" || metric.startsWith("expectation:");
const shown = (metric, value) => (isShare(metric) ? percent(value) : number(value));
function moment(seconds, type) {
  const then = new Date(seconds * 1000);
  if (seconds === null || Number.isNaN(then.getTime())) return number(seconds);
  const text = then.toISOString();
  return type === "date" ? text.slice(0, 10) : text.slice(0, 16).replace("T", " ");
}
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
const brief = (metric) => BRIEF[metric] || metric.replaceAll("_", " ");

// Metrics

const names = M.names;
const metricOf = (i) => names.metric[M.metric[i]];
const signalOf = (i) => names.signal[M.signal[i]];
const noteOf = (i) => (M.note[i] === null ? null : names.note[M.note[i]]);
const columnOf = (i) => (M.column[i] === null ? null : data.columns[M.column[i]].name);
const sliceOf = (i) => (M.slice[i] === null ? null : data.slices[M.slice[i]][0]);
const windowOf = (i) => (M.window[i] === null ? null : data.windows[M.window[i]]);
const all = Array.from({ length: COUNT }, (_, i) => i);
const overall = all.filter((i) => M.slice[i] === null && M.window[i] === null);
const inWindows = all.filter((i) => M.window[i] !== null && M.slice[i] === null);
const inSlices = all.filter((i) => M.slice[i] !== null && M.window[i] === null);
function grouped(list, key) {
  const found = new Map();
  for (const i of list) found.has(key(i)) ? found.get(key(i)).push(i) : found.set(key(i), [i]);
  return found;
}
const byColumn = grouped(overall.filter((i) => M.column[i] !== null), (i) => M.column[i]);
const worstFirst = (a, b) => M.breached[b] - M.breached[a] || (M.excess[b] ?? -1) - (M.excess[a] ?? -1) || a - b;
function breachedOf(list) {
  return list.filter((i) => M.breached[i]).length;
}
function sign(i) {
  if (metricOf(i) === "row_count_change") return "±";
  const [value, threshold] = [real(M.value[i]), real(M.threshold[i])];
  return value === null ? "" : value > threshold ? ">" : value < threshold ? "<" : "=";
}
const mark = (breached) => (breached ? h("span", { class: "mark", role: "img", "aria-label": "breached" }, "▲") : null);
const valueText = (i) => shown(metricOf(i), M.value[i]);
const thresholdText = (i) => (M.threshold[i] === null ? "" : `${sign(i)} ${shown(metricOf(i), M.threshold[i])}`);
function exact(i) {
  const bound = M.bound[i] ? `, ± ${M.bound[i]}` : "";
  return `${metricOf(i)} ${M.value[i] ?? "can’t be told"}${bound}${noteOf(i) ? ` – ${noteOf(i)}` : ""}`;
}
function cell(i, tag = "td") {
  if (i === undefined) return h(tag, { class: "number" });
  return h(tag, { class: `number${M.breached[i] ? " breached" : ""}`, title: exact(i) }, mark(M.breached[i]), valueText(i));
}

// Pictures

const path = (points) => points.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
function steps(shares, x, y) {
  const points = [[x(0), y(0)]];
  shares.forEach((share, at) => points.push([x(at), y(share)], [x(at + 1), y(share)]));
  return [...points, [x(shares.length), y(0)]];
}
function top(bars) {
  return Math.max(...bars.shares.flatMap((shares) => shares || []), 1e-9);
}
function histogram(bars, x, y) {
  const [baseline, target] = bars.shares;
  if (bars.edges) {
    return [
      baseline && s("path", { class: "fill-baseline", d: path(steps(baseline, x, y)) }),
      target && s("path", { class: "line-target", d: path(steps(target, x, y)) }),
    ];
  }
  const box = (shares, from, to) =>
    shares.map((share, at) => path([[x(at + from), y(0)], [x(at + from), y(share)], [x(at + to), y(share)], [x(at + to), y(0)]])).join("");
  return [
    baseline && s("path", { class: "fill-baseline", d: box(baseline, 0.1, 0.48) }),
    target && s("path", { class: "fill-target", d: box(target, 0.52, 0.9) }),
  ];
}
function mini(bars, name) {
  if (!bars) return h("span", { class: "muted small" }, "no values");
  const [width, height, most] = [132, 34, top(bars)];
  const count = (bars.edges ? bars.edges.length - 1 : bars.labels.length) || 1;
  return s("svg", { class: "mini", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `baseline and target of ${name}` },
    s("path", { class: "axis", d: `M0 ${height - 0.5}H${width}` }),
    histogram(bars, (at) => (at / count) * width, (share) => height - 1 - (share / most) * (height - 3)));
}
function ticks(low, high, most) {
  const raw = (high - low) / most;
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9 && found.length < 30; at++) found.push(at * step);
  return found;
}
/* Axes for a drawing: gives the scales and the elements. `x` and `y` are [low, high]. */
function frame({ width, height, x, y, left = 46, below = 24, xText = number, yText = number, xTicks, xLabel, yLabel }) {
  const [right, above] = [12, yLabel ? 20 : 8];
  const across = (value) => left + ((value - x[0]) / (x[1] - x[0] || 1)) * (width - left - right);
  const up = (value) => height - below - ((value - y[0]) / (y[1] - y[0] || 1)) * (height - below - above);
  const bottom = height - below;
  const elements = [
    ticks(y[0], y[1], 4).map((tick) => [
      s("path", { class: "axis", d: `M${left} ${up(tick).toFixed(1)}H${width - right}` }),
      s("text", { x: left - 6, y: up(tick) + 4, "text-anchor": "end" }, yText(tick)),
    ]),
    (xTicks || ticks(x[0], x[1], Math.max(2, width / 90))).map((tick) =>
      s("text", { x: across(tick), y: bottom + 15, "text-anchor": "middle" }, xText(tick))),
    yLabel && s("text", { x: 0, y: 10 }, yLabel),
    xLabel && s("text", { x: width - right, y: height - 1, "text-anchor": "end" }, xLabel),
  ];
  return { across, up, elements };
}
const drawing = (width, height, label, ...children) =>
  s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, ...children);
const room = (element, most) => Math.max(250, Math.min(most, element.clientWidth || most));
const legend = () => h("p", { class: "legend" }, h("span", {}, "baseline"), h("span", { class: "of-target" }, "target"));

function picture(column, width) {
  const bars = column.bars;
  if (!bars) return h("p", { class: "muted" }, "There are no values to draw.");
  if (bars.labels) {
    const most = top(bars);
    const bar = (shares, at, kind) => shares && h("div", { class: `bar ${kind}`, "width%": `${((shares[at] / most) * 100).toFixed(2)}%` });
    const rows = [...bars.labels, ...(bars.rest ? [null] : [])].map((label, at) => [
      h("span", { class: `label${label === null ? " rest" : ""}` },
        label === null ? "all others" : label === "" ? "(empty)" : typeof label === "number" ? valueOf(column, label) : label),
      h("div", { class: "both" }, bar(bars.shares[0], at, "of-baseline"), bar(bars.shares[1], at, "of-target")),
      h("span", { class: "told" }, bars.shares.map((shares) => (shares ? percent(shares[at]) : "–")).join(" → ")),
    ]);
    return h("div", { class: "bars" }, rows);
  }
  const [height, edges, most] = [220, bars.edges, top(bars)];
  const made = frame({
    width, height, x: [edges[0], edges.at(-1)], y: [0, most], yText: percent, xText: (value) => valueOf(column, value, true),
    xTicks: column.kind === "time" ? [0.12, 0.5, 0.88].map((share) => edges[0] + share * (edges.at(-1) - edges[0])) : null,
    yLabel: "share of values in a bar",
  });
  return drawing(width, height, `Histogram of ${column.name}, baseline and target`, made.elements,
    histogram(bars, (at) => made.across(edges[at]), made.up));
}
function valueOf(column, value, short) {
  if (column.kind !== "time") return number(value);
  const type = column.types.find((one) => one);
  return short ? moment(value, type).slice(0, 10) : moment(value, type);
}

/* A line over windows: `points` are values or null, `marks` says which breached. */
function timeline({ width, points, marks, threshold, text, label, band, level }) {
  const height = 190;
  const values = [...points, ...(band || []).flat(), threshold, level].filter((one) => one !== null && one !== undefined && Number.isFinite(one));
  if (!values.length) return h("p", { class: "muted" }, "There is no value to draw.");
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low >= 0 && low < high / 2) low = 0;
  if (low === high) [low, high] = [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
  const last = Math.max(points.length - 1, 1);
  const every = Math.ceil(points.length / Math.max(2, Math.floor(width / 95)));
  const made = frame({
    width, height, x: [0, last], y: [low, high], yText: text, left: 58,
    xTicks: points.map((_, at) => at).filter((at) => at % every === 0), xText: (at) => day(data.windows[at]),
  });
  const runs = [];
  points.forEach((value, at) => {
    if (value === null || value === undefined) return runs.push([]);
    if (!runs.length) runs.push([]);
    runs.at(-1).push([made.across(at), made.up(value)]);
  });
  const known = (band || []).map((one, at) => [one, at]).filter(([one]) => one && one[0] !== null);
  return drawing(width, height, label, made.elements,
    known.length > 1 && s("path", { class: "band", d: path([
      ...known.map(([one, at]) => [made.across(at), made.up(one[1])]),
      ...known.reverse().map(([one, at]) => [made.across(at), made.up(one[0])])]) + "Z" }),
    threshold !== null && threshold !== undefined && s("path", { class: "limit-line", d: `M58 ${made.up(threshold).toFixed(1)}H${width - 12}` }),
    level !== null && level !== undefined && s("path", { class: "line-baseline", d: `M58 ${made.up(level).toFixed(1)}H${width - 12}` }),
    runs.map((run) => s("path", { class: "line-target", d: path(run) })),
    points.map((value, at) => {
      if (value === null || value === undefined) return null;
      const [x, y] = [made.across(at), made.up(value)];
      const title = s("title", {}, `${data.windows[at]}: ${text(value)}${marks && marks[at] ? ", breached" : ""}`);
      return marks && marks[at]
        ? s("path", { class: "dot-breached", d: `M${x - 5} ${y + 4}L${x} ${y - 5}L${x + 5} ${y + 4}Z` }, title)
        : s("circle", { class: "dot", cx: x, cy: y, r: 2.6 }, title);
    }));
}
const isTime = (window) => /^\d{4}-\d\d/.test(window);
const midnight = data.windows.every((window) => !isTime(window) || !/[T ]/.test(window) || /[T ]00:00(:00)?(\D|$)/.test(window));
const day = (window) => (!isTime(window) ? window : midnight ? window.slice(0, 10) : window.slice(0, 16).replace("T", " "));

// Tables

/* A table whose heads sort it. `heads` are {text, key, number, down, sorted}; `rows` are {cells, keys, element}. */
function sorts(table, heads, order) {
  const row = h("tr", {}, heads.map((head, at) => {
    if (!head.key) return h("th", { scope: "col", class: head.number ? "number" : null, role: "columnheader" }, head.text);
    const button = h("button", { type: "button", class: "plain", onclick: () => {
      const now = cells[at].getAttribute("aria-sort");
      const down = now === "none" ? Boolean(head.number || head.down) : now === "ascending";
      cells.forEach((one, place) => heads[place].key && one.setAttribute("aria-sort", place === at ? (down ? "descending" : "ascending") : "none"));
      order(head.key, down);
    } }, head.text);
    return h("th", { scope: "col", class: head.number ? "number" : null, "aria-sort": head.sorted || "none", role: "columnheader" }, button);
  }));
  const cells = [...row.children];
  table.prepend(h("thead", { role: "rowgroup" }, row));
  return cells;
}
function ordered(list, key, down) {
  const missing = (value) => value === null || value === undefined || value === "";
  return [...list].sort((a, b) => {
    const [one, two] = [real(key(a)), real(key(b))];
    if (missing(one) || missing(two)) return missing(one) - missing(two);
    const order = typeof one === "string" ? one.localeCompare(two) : one - two;
    return down ? -order : order;
  });
}
const scroll = (label, ...children) => h("div", { class: "scroll panel", tabindex: 0, role: "region", "aria-label": label }, ...children);
function section(id, title, tools, ...children) {
  return h("section", { id, "aria-labelledby": `${id}-title` },
    h("div", { class: "head" }, h("h2", { id: `${id}-title` }, title), tools && h("div", { class: "tools" }, tools)), ...children);
}
const choice = (text, options, change, chosen) =>
  h("label", {}, text, h("select", { onchange: (event) => change(event.target.value) },
    options.map(([value, label]) => h("option", { value, selected: String(value) === String(chosen) }, label))));
const search = (text, change) =>
  h("label", { class: "wide" }, h("span", { class: "hidden" }, text), h("input", { type: "search", placeholder: text, oninput: (event) => change(event.target.value) }));
const toggle = (text, change) => h("label", {}, h("input", { type: "checkbox", onchange: (event) => change(event.target.checked) }), text);

// Sections

function head() {
  const few = 8;
  const items = data.findings.map((finding, at) => {
    const place = finding.column === null ? -1 : data.columns.findIndex((column) => column.name === finding.column);
    const rest = place < 0 ? finding.line : finding.line.slice(finding.column.length);
    return h("li", { hidden: at >= few },
      mark(true), place < 0 ? null : h("a", { class: "name", href: `#column-${place}`, onclick: (event) => { event.preventDefault(); reveal(place); } }, finding.column), rest);
  });
  const more = items.length > few && h("button", { type: "button", class: "more", onclick: () => {
    items.forEach((item) => { item.hidden = false; });
    more.remove();
  } }, `Show ${items.length - few} more`);
  const held = M.threshold.some((one, i) => one !== null && M.value[i] !== null);
  return h("header", { class: !data.passed ? "failed" : held ? "passed" : "neither" },
    h("p", { class: "kicker" }, "Monitoring report"),
    h("div", { class: "verdict" }, h("span", { class: "sign", "aria-hidden": "true" }, !data.passed ? "▲" : held ? "✓" : "○"), h("h1", {}, data.verdict)),
    h("dl", { class: "facts" }, data.facts.map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text)))),
    items.length ? h("ol", { class: "findings", "aria-label": "What breached, worst first" }, items) : null, more || null,
    data.remarks.map((line) => h("p", { class: "remark" }, line)));
}

let reveal = () => {};
function columns() {
  if (!data.columns.length) return null;
  const metricNames = [...new Set(overall.filter((i) => M.column[i] !== null).map(metricOf))];
  let [wanted, only, metric] = ["", false, metricNames.includes("jensen_shannon_distance") ? "jensen_shannon_distance" : metricNames[0]];
  const at = (place) => (byColumn.get(place) || []).find((i) => metricOf(i) === metric);
  const breaches = new Set(all.filter((i) => M.breached[i] && M.column[i] !== null).map((i) => M.column[i]));
  const beside = grouped(all.filter((i) => M.breached[i] && M.column[i] !== null && (M.slice[i] !== null || M.window[i] !== null)), (i) => M.column[i]);
  const heads = [
    { text: "Column", key: (place) => data.columns[place].name },
    { text: "Distribution" },
    { text: "Missing", key: (place) => data.columns[place].stats[1]?.missing, number: true },
    { text: "Held against thresholds", key: (place) => worst[place], down: true, sorted: "descending" },
    { text: brief(metric || ""), key: (place) => (at(place) === undefined ? null : M.value[at(place)]), number: true },
    ...(data.weighted ? [{ text: "Importance", key: (place) => data.columns[place].importance, number: true }] : []),
  ].filter((_, place) => place !== 4 || metric);
  const worst = data.columns.map((column, place) => {
    const excess = Math.max(-1, ...(byColumn.get(place) || []).map((i) => M.excess[i] ?? -1));
    return real(column.severity) * 1e3 + (breaches.has(place) ? 1e6 : 0) + excess;
  });
  const rows = data.columns.map((column, place) => {
    const held = (byColumn.get(place) || []).filter((i) => M.threshold[i] !== null || M.breached[i]).sort(worstFirst);
    const few = Math.max(1, breachedOf(held));
    const elsewhere = beside.get(place) || [];
    const places = [["window", M.window], ["slice", M.slice]]
      .map(([word, of]) => [word, new Set(elsewhere.map((i) => of[i]).filter((one) => one !== null)).size])
      .filter(([, size]) => size).map(([word, size]) => plural(size, word));
    const metricCell = metric && cell(at(place));
    if (metricCell) { metricCell.setAttribute("role", "cell"); metricCell.setAttribute("data-label", brief(metric)); }
    const missing = column.stats.map((stats) => (stats ? stats.missing : undefined));
    const opener = h("button", { type: "button", class: "plain opener", "aria-expanded": "false", onclick: () => open(place) }, column.name);
    const element = h("tr", { role: "row", id: `column-${place}`, class: breaches.has(place) ? "of-breached" : null },
      h("th", { scope: "row", role: "rowheader" }, opener, h("div", { class: "kind" }, kindOf(column), breaches.has(place) && h("span", { class: "hidden" }, ", breached"))),
      h("td", { role: "cell", class: "picture" }, mini(column.bars, column.name)),
      h("td", { role: "cell", class: "number", "data-label": "missing" },
        missing[0] === missing[1] || missing[0] === undefined || missing[1] === undefined ? percent(missing[1] ?? missing[0]) : [h("span", { class: "muted" }, `${percent(missing[0])} → `), percent(missing[1])]),
      h("td", { role: "cell", class: "whole" },
        h("ul", { class: "held" }, held.slice(0, few).map((i) =>
          h("li", { class: M.breached[i] ? "breached" : null, title: exact(i) },
            h("span", { class: `label${M.breached[i] ? " breached" : ""}` }, mark(M.breached[i]), brief(metricOf(i))),
            h("span", { class: `number${M.breached[i] ? " breached" : ""}` }, valueText(i)),
            h("span", { class: "limit" }, thresholdText(i)), h("span", {})))),
        held.length > few && h("span", { class: "muted small" }, `and ${held.length - few} more within`),
        !held.length && h("span", { class: "muted small" }, "nothing"),
        places.length ? h("div", { class: "breached small" }, mark(true), `in ${places.join(" and ")}`) : null),
      metricCell,
      data.weighted && h("td", { role: "cell", class: "number", "data-label": "importance" }, number(column.importance)));
    return { element, opener, metricCell, detail: null, text: `${column.name} ${column.types.join(" ")} ${column.kind}`.toLowerCase() };
  });
  const body = h("tbody", { role: "rowgroup" });
  const told = h("span", { class: "muted small", role: "status" });
  const table = h("table", { class: "columns", role: "table", "aria-label": "Columns" }, body);
  const show = () => {
    let count = 0;
    rows.forEach((row, place) => {
      const hidden = !row.text.includes(wanted) || (only && !breaches.has(place));
      row.element.hidden = hidden;
      if (row.detail) row.detail.hidden = hidden || row.opener.getAttribute("aria-expanded") === "false";
      count += hidden ? 0 : 1;
    });
    told.textContent = `${number(count)} of ${plural(rows.length, "column")}`;
  };
  let sorted = null;
  const order = (key, down) => {
    sorted = [key, down];
    body.append(...ordered(rows.map((_, place) => place), key, down).flatMap((place) => [rows[place].element, rows[place].detail].filter(Boolean)));
  };
  const cells = sorts(table, heads, order);
  function open(place, stay) {
    const row = rows[place];
    const now = stay || row.opener.getAttribute("aria-expanded") === "false";
    row.opener.setAttribute("aria-expanded", String(now));
    if (now && !row.detail) {
      row.detail = h("tr", { role: "row", class: "detail" }, h("td", { role: "cell", colspan: heads.length }));
      row.element.after(row.detail);
      detail(place, row.detail.firstChild);
    }
    if (row.detail) row.detail.hidden = !now;
  }
  reveal = (place) => {
    rows[place].element.hidden = false;
    open(place, true);
    rows[place].element.scrollIntoView({ block: "start" });
    rows[place].opener.focus({ preventScroll: true });
  };
  order(heads[3].key, true);
  show();
  const tools = [
    search("Search columns", (text) => { wanted = text.trim().toLowerCase(); show(); }),
    toggle("Breached only", (checked) => { only = checked; show(); }),
    metric && choice("Metric", metricNames.map((name) => [name, brief(name)]), (name) => {
      metric = name;
      cells[4].firstChild.textContent = brief(name);
      rows.forEach((row, place) => {
        const made = cell(at(place));
        made.setAttribute("role", "cell");
        made.setAttribute("data-label", brief(name));
        row.metricCell.replaceWith(made);
        row.metricCell = made;
      });
      if (sorted[0] === heads[4].key) order(...sorted);
    }, metric),
    told,
  ];
  return section("columns", "Columns", tools, h("div", { class: "head" }, legend()), h("div", { class: "panel" }, table));
}
function kindOf(column) {
  const types = [...new Set(column.types.filter((one) => one))];
  const where = column.types[0] && !column.types[1] ? ", only in the baseline" : !column.types[0] && column.types[1] ? ", only in the target" : "";
  return (types.join(" → ") || column.kind) + where;
}

function detail(place, into) {
  const column = data.columns[place];
  const grid = h("div", { class: "grid" });
  into.append(grid);
  const width = room(grid, 560);
  const told = (value) => (value === null || value === undefined ? "–" : valueOf(column, value));
  const [one, two] = column.stats;
  const line = (label, text) => [label, ...column.stats.map((stats) => (stats ? text(stats) : "–"))];
  const numeric = (one && one.quantiles) || (two && two.quantiles);
  const table = [
    line("rows", (stats) => number(stats.rows)), line("null", (stats) => number(stats.nulls)),
    ...(one?.nans || two?.nans ? [line("not a number", (stats) => number(stats.nans))] : []),
    ...(one?.infinities || two?.infinities ? [line("infinite", (stats) => number(stats.infinities))] : []),
    ...(one?.distinct || two?.distinct ? [line("different values", (stats) => number(stats.distinct))] : []),
    ...(numeric ? [
      line("mean", (stats) => told(stats.mean)),
      ...(column.kind === "time" ? [] : [line("standard deviation", (stats) => told(stats.deviation))]),
      line("least", (stats) => told(stats.min)),
      ...data.quantiles.map((share, at) => line(share === 0.5 ? "median" : `${number(share * 100)} %`, (stats) => told(stats.quantiles && stats.quantiles[at]))),
      line("greatest", (stats) => told(stats.max)),
    ] : []),
  ];
  const metrics = all.filter((i) => M.column[i] === place && M.slice[i] === null && M.window[i] === null);
  const of = { length: "length in characters", norm: "length of the vectors" }[column.bars?.of];
  filled(grid, {}, [
    h("figure", {}, h("h3", {}, of ? `Distribution of the ${of}` : "Distribution"), legend(), picture(column, width),
      column.bars?.edges && h("figcaption", {}, "The outermost bars hold what lies beyond them.")),
    h("div", {}, h("h3", {}, of && numeric ? `Figures, of the ${of}` : "Figures"), h("div", { class: "scroll" }, h("table", { class: "compact" },
      h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col", class: "number" }, "baseline"), h("th", { scope: "col", class: "number" }, "target"))),
      h("tbody", {}, table.map(([label, ...values]) => h("tr", {}, h("th", { scope: "row" }, label), values.map((text) => h("td", { class: "number" }, text)))))))),
    column.series && column.series.some((one) => one && one[1] !== null) && column.kind === "numeric" && h("figure", { class: "wide" }, h("h3", {}, "Over time"),
      timeline({ width: room(grid, 1100), points: column.series.map((one) => one && one[1]), band: column.series.map((one) => one && [one[0], one[2]]),
        level: one && one.quantiles ? one.quantiles[data.quantiles.indexOf(0.5)] : null, text: number, label: `Median of ${column.name} by window` }),
      h("figcaption", {}, "The target’s median in each window, with the 5 to 95 % range; the grey line is the baseline’s median.")),
    metrics.length && h("div", { class: "wide" }, h("h3", {}, "Metrics"), h("div", { class: "scroll" }, h("table", { class: "compact" },
      h("thead", {}, h("tr", {}, ["metric", "value", "threshold", "within", "note"].map((text, at) => h("th", { scope: "col", class: at && at < 4 ? "number" : null }, text)))),
      h("tbody", {}, metrics.sort(worstFirst).map(metricRow))))),
    column.notes.map((note) => h("p", { class: "note wide" }, note)),
  ].map((child) => child || null));
}
function metricRow(i) {
  return h("tr", {}, h("th", { scope: "row" }, metricOf(i)), cell(i), h("td", { class: "number muted" }, thresholdText(i)),
    h("td", { class: "number muted", title: M.bound[i] ? String(M.bound[i]) : null }, M.bound[i] ? `± ${shown(metricOf(i), M.bound[i])}` : ""), h("td", { class: "note" }, noteOf(i)));
}

function time() {
  const list = inWindows.filter((i) => signalOf(i) !== "performance");
  if (!list.length) return null;
  const few = 20;
  const counts = grouped(list, metricOf);
  const held = (name) => counts.get(name).filter((i) => M.threshold[i] !== null).length;
  const options = [...counts.keys()].sort((a, b) => held(b) - held(a) || counts.get(b).length - counts.get(a).length);
  let [metric, every, chosen] = [options[0], false, null];
  const grid = h("div", {});
  const line = h("figure", { class: "panel padded block" });
  const draw = () => {
    const byName = grouped(counts.get(metric), (i) => M.column[i]);
    const places = [...byName.keys()].sort((a, b) => {
      const worst = (place) => Math.max(...byName.get(place).map((i) => (M.breached[i] ? 1e3 : 0) + (M.excess[i] ?? real(M.value[i]) ?? 0)));
      return worst(b) - worst(a);
    });
    if (!byName.has(chosen)) chosen = places[0];
    const most = Math.max(...counts.get(metric).map((i) => Math.abs(real(M.value[i]) ?? 0)).filter(Number.isFinite), 1e-12);
    const label = (place) => (place === null ? "whole table" : data.columns[place].name);
    const rows = (every ? places : places.slice(0, few)).map((place) => {
      const at = new Map(byName.get(place).map((i) => [M.window[i], i]));
      return h("tr", {}, h("th", { scope: "row" }, h("button", { type: "button", class: "plain", "aria-pressed": String(place === chosen), onclick: () => { chosen = place; draw(); } }, label(place))),
        data.windows.map((_, window) => {
          const i = at.get(window);
          if (i === undefined) return h("td", {});
          const heat = Math.min(1, M.excess[i] !== null ? M.excess[i] / (M.breached[i] ? 5 : 1) : Math.abs(real(M.value[i]) ?? 0) / most);
          return h("td", { class: M.breached[i] ? "breached" : null, title: `${windowOf(i)}: ${exact(i)}`, "--heat": `${Math.round(8 + heat * 42)}%` }, mark(M.breached[i]), valueText(i));
        }));
    });
    grid.replaceChildren(scroll("Columns by window", h("table", { class: "heat" }, h("thead", {}, h("tr", {}, h("td", {}), data.windows.map((window) => h("th", { scope: "col" }, day(window))))), h("tbody", {}, rows))));
    if (!every && places.length > few) grid.append(h("button", { type: "button", class: "more", onclick: () => { every = true; draw(); } }, `Show all ${places.length}`));
    const points = data.windows.map((_, window) => byName.get(chosen).find((i) => M.window[i] === window));
    const thresholds = points.filter((i) => i !== undefined && M.threshold[i] !== null).map((i) => M.threshold[i]);
    line.replaceChildren(h("h3", {}, h("span", { class: "name" }, label(chosen)), ` – ${brief(metric)}`), timeline({
      width: room(grid, 1190) - 34, points: points.map((i) => (i === undefined ? null : real(M.value[i]))), marks: points.map((i) => i !== undefined && M.breached[i]),
      threshold: thresholds.length ? real(thresholds.at(-1)) : null, text: (value) => shown(metric, value), label: `${brief(metric)} of ${label(chosen)} by window`,
    }), h("figcaption", {}, thresholds.length ? "The dashed line is the threshold; triangles breach it." : "Without a threshold."));
  };
  later.push(draw);
  const tools = choice("Metric", options.map((name) => [name, brief(name)]), (name) => { metric = name; draw(); }, metric);
  return section("time", "Over time", tools, grid, line);
}

const matters = (i) => M.value[i] !== null || M.threshold[i] !== null;
/* A table of metrics by slice or window; without those that can't be told of any. */
function matrix(list, places, label, key) {
  const columns = [...new Set(list.filter(matters).map(metricOf))];
  const found = grouped(list, key);
  const table = h("table", { class: "compact" });
  const body = h("tbody", {});
  const rows = places.map((name, place) => ({ name, at: new Map((found.get(place) || []).map((i) => [metricOf(i), i])) })).filter((row) => row.at.size);
  rows.forEach((row) => { row.element = h("tr", {}, h("th", { scope: "row", class: "name" }, row.name === "" ? "(empty)" : row.name), columns.map((metric) => cell(row.at.get(metric)))); });
  table.append(body);
  body.append(...rows.map((row) => row.element));
  sorts(table, [{ text: label, key: (row) => row.name }, ...columns.map((metric) => ({ text: brief(metric), number: true, key: (row) => (row.at.has(metric) ? M.value[row.at.get(metric)] : null) }))],
    (by, down) => body.append(...ordered(rows, by, down).map((row) => row.element)));
  return rows.length ? scroll(label, table) : null;
}

function performance() {
  const list = overall.filter((i) => signalOf(i) === "performance");
  const found = data.performance;
  if (!list.length && !found) return null;
  const before = found?.baseline;
  const at = new Map(list.map((i) => [metricOf(i), i]));
  const seen = list.filter((i) => !metricOf(i).startsWith("expected_") || metricOf(i) === "expected_calibration_error");
  const estimated = new Set(list.filter((i) => !seen.includes(i)));
  const known = [...new Set([...seen.map(metricOf), ...[...estimated].map((i) => metricOf(i).replace("expected_", ""))])];
  const bases = known.filter((base) => (before?.values[base] ?? null) !== null || [at.get(base), at.get(`expected_${base}`)].some((i) => i !== undefined && matters(i)));
  const untold = grouped(known.filter((base) => !bases.includes(base)), (base) => noteOf(at.get(base) ?? at.get(`expected_${base}`)));
  const wide = [before && "baseline", estimated.size && "expected"].filter(Boolean);
  const table = h("table", { class: "compact" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Metric"), ["target", ...wide, "threshold"].map((text) => h("th", { scope: "col", class: "number" }, text)), h("th", { scope: "col" }, "Note"))),
    h("tbody", {}, bases.map((base) => {
      const [real_, guess] = [at.get(base), estimated.size ? at.get(`expected_${base}`) : undefined];
      const guessed = estimated.has(guess) ? guess : undefined;
      const judged = real_ ?? guessed;
      return h("tr", {}, h("th", { scope: "row", title: base }, brief(base)), cell(real_), before && h("td", { class: "number" }, shown(base, before.values[base])),
        estimated.size ? cell(guessed) : null, h("td", { class: "number muted" }, thresholdText(judged)),
        h("td", { class: "note" }, [real_, guessed].filter((i) => i !== undefined).map(noteOf).filter(Boolean).join("; ")));
    })));
  const pictures = h("div", { class: "grid panel padded block" });
  const outcomes = found?.outcomes || [];
  const label = (one) => (one.slice === null && one.window === null ? "all rows" : [one.slice !== null && `slice ${one.slice}`, one.window !== null && `window ${day(one.window)}`].filter(Boolean).join(", "));
  let [chosen, curve] = [0, 0];
  const draw = () => {
    const one = outcomes[chosen];
    const width = Math.min(380, room(pictures, 414) - 34);
    const whole = one.slice === null && one.window === null;
    pictures.replaceChildren(...[
      confusion(one), one.roc && one.roc.length ? roc(one, before, width, curve, (value) => { curve = Number(value); draw(); }) : null,
      one.calibration && one.calibration.length ? calibration(one, before, width) : null,
      found.residuals && whole && h("figure", {}, h("h3", {}, "Residuals: label minus prediction"), legend(), picture({ name: "residuals", kind: "numeric", bars: found.residuals, types: [] }, width),
        found.residuals.edges && h("figcaption", {}, "The outermost bars hold what lies beyond them.")),
      one.residuals && quantiles(one, before),
      h("p", { class: "muted small wide" }, `${plural(one.rows, "row")}, of which ${number(one.counted)} have both a usable label and a usable prediction; ${number(one.unlabelled)} have no usable label, ${number(one.unpredicted)} no usable prediction.`),
    ].filter(Boolean));
  };
  if (outcomes.length) later.push(draw);
  const tools = outcomes.length > 1 && choice("Pictures of", outcomes.map((one, place) => [place, label(one)]), (place) => { chosen = Number(place); draw(); }, 0);
  const bySlice = matrix(inSlices.filter((i) => signalOf(i) === "performance"), data.slices.map(([name]) => name), data.by || "Slice", (i) => M.slice[i]);
  const byWindow = matrix(inWindows.filter((i) => signalOf(i) === "performance"), data.windows.map(day), "Window", (i) => M.window[i]);
  return section("performance", "Performance", tools, bases.length ? scroll("Performance", table) : null,
    ...[...untold].map(([why, names]) => h("p", { class: "muted small" }, `Not measured: ${names.map(brief).join(", ")}${why ? ` (${why})` : ""}.`)), outcomes.length ? pictures : null,
    found && found.left_out ? h("p", { class: "muted small" }, `${plural(found.left_out, "slice")} or windows more aren’t drawn.`) : null,
    bySlice && h("div", { class: "block" }, h("h3", {}, `By ${data.by || "slice"}`), bySlice), byWindow && h("div", { class: "block" }, h("h3", {}, "By window"), byWindow));
}
function confusion(one) {
  if (!one.confusion) return null;
  const sums = one.confusion.map((row) => row.reduce((a, b) => a + b, 0));
  return h("figure", {}, h("h3", {}, "Confusion: rows by label, columns by prediction"), h("div", { class: "scroll" }, h("table", { class: "confusion" },
    h("thead", {}, h("tr", {}, h("td", {}), one.classes.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, one.confusion.map((row, at) => h("tr", {}, h("th", { scope: "row" }, one.classes[at]),
      row.map((count) => h("td", { "--heat": `${Math.round((count / (sums[at] || 1)) * 60)}%`, title: `${percent(count / (sums[at] || 1))} of the label’s rows` }, count.toLocaleString("en")))))))),
    h("figcaption", {}, "Shaded by the share of the label’s rows."));
}
function square(width, xLabel, yLabel) {
  return frame({ width, height: width, x: [0, 1], y: [0, 1], below: 38, xLabel, yLabel, xTicks: [0, 0.25, 0.5, 0.75, 1] });
}
function roc(one, before, width, curve, change) {
  const made = square(width, "false positives", "true positives");
  const place = Math.min(curve, one.roc.length - 1);
  const draw = ([x, y]) => [made.across(x), made.up(y)];
  const [name, points] = one.roc[place];
  const earlier = before?.roc?.find((other) => other[0] === name);
  return h("figure", {}, h("h3", {}, `ROC curve of the class ${name}`), one.roc.length > 1 && choice("Class", one.roc.map(([text], at) => [at, text]), change, place), before ? legend() : null,
    drawing(width, width, `ROC curve of the class ${name}`, made.elements, s("path", { class: "axis", d: path([draw([0, 0]), draw([1, 1])]) }),
      earlier && s("path", { class: "line-baseline", d: path(earlier[1].map(draw)) }), s("path", { class: "line-target", d: path(points.map(draw)) })));
}
function calibration(one, before, width) {
  const made = square(width, "predicted probability", "share that came true");
  const draw = (of, line, dot) => of && [
    s("path", { class: line, d: path(of.map(([x, y]) => [made.across(x), made.up(y)])) }),
    of.map(([x, y, count]) => s("circle", { class: dot, cx: made.across(x), cy: made.up(y), r: 3 }, s("title", {}, `predicted ${percent(x)}, came true ${percent(y)}, ${plural(count, "row")}`))),
  ];
  return h("figure", {}, h("h3", {}, "Calibration"), before ? legend() : null,
    drawing(width, width, "Calibration", made.elements, s("path", { class: "axis", d: path([[made.across(0), made.up(0)], [made.across(1), made.up(1)]]) }),
      draw(before?.calibration, "line-baseline", "fill-baseline"), draw(one.calibration, "line-target", "dot")),
    h("figcaption", {}, "On the diagonal probabilities are right; below it they promise too much."));
}
function quantiles(one, before) {
  const lists = [before?.residuals, one.residuals].filter(Boolean);
  return h("figure", {}, h("h3", {}, "Quantiles of the residuals"), h("div", { class: "scroll" }, h("table", { class: "compact" },
    h("thead", {}, h("tr", {}, h("td", {}), (before ? ["baseline", "target"] : ["target"]).map((text) => h("th", { scope: "col", class: "number" }, text)))),
    h("tbody", {}, data.quantiles.map((share, at) => h("tr", {}, h("th", { scope: "row" }, share === 0.5 ? "median" : `${number(share * 100)} %`), lists.map((list) => h("td", { class: "number" }, number(list[at])))))))));
}

function slices() {
  if (!data.slices.length) return null;
  const found = grouped(all.filter((i) => M.slice[i] !== null), (i) => M.slice[i]);
  const rows = data.slices.map(([name, count], place) => {
    const list = found.get(place) || [];
    const breached = list.filter((i) => M.breached[i]).sort(worstFirst);
    const columns = new Set(breached.map((i) => M.column[i]).filter((one) => one !== null));
    const where = (i) => (M.column[i] === null ? "" : `${columnOf(i)}: `) + `${brief(metricOf(i))} ${valueText(i)} ${thresholdText(i)}`;
    return { name, count, columns: columns.size, breached: breached.length, element: h("tr", {},
      h("th", { scope: "row", class: "name" }, name === "" ? "(empty)" : name), h("td", { class: "number" }, count === null ? "–" : count.toLocaleString("en")),
      h("td", { class: `number${columns.size ? " breached" : ""}` }, mark(columns.size), number(columns.size)),
      h("td", { class: `number${breached.length ? " breached" : ""}` }, number(breached.length)),
      h("td", { class: "note" }, breached.slice(0, 3).map(where).join("; ") + (breached.length > 3 ? ` and ${breached.length - 3} more` : ""))) };
  });
  const body = h("tbody", {}, rows.map((row) => row.element));
  const table = h("table", { class: "compact" }, body);
  sorts(table, [{ text: "Slice", key: (row) => row.name }, { text: "Rows", key: (row) => row.count, number: true }, { text: "Columns breached", key: (row) => row.columns, number: true },
    { text: "Values breached", key: (row) => row.breached, number: true }, { text: "Worst" }], (key, down) => body.append(...ordered(rows, key, down).map((row) => row.element)));
  return section("slices", "Slices", null, scroll("Slices", table));
}

function whole() {
  const list = overall.filter((i) => signalOf(i) !== "performance" && (M.column[i] === null || OF_TABLE.includes(metricOf(i))));
  if (!list.length) return null;
  const table = h("table", { class: "compact" },
    h("thead", {}, h("tr", {}, ["Check", "value", "threshold", "Note"].map((text, at) => h("th", { scope: "col", class: at === 1 || at === 2 ? "number" : null }, text)))),
    h("tbody", {}, list.sort(worstFirst).map((i) => h("tr", {}, h("th", { scope: "row", title: metricOf(i) }, brief(metricOf(i)), columnOf(i) === null ? null : `: ${columnOf(i)}`),
      cell(i), h("td", { class: "number muted" }, thresholdText(i)), h("td", { class: "note" }, noteOf(i))))));
  return section("whole", "Whole table", null, scroll("Whole table", table));
}

function everything() {
  if (!COUNT) return null;
  const step = 50;
  let [wanted, only, limit, list] = ["", false, step, all];
  const text = all.map((i) => [columnOf(i), metricOf(i), sliceOf(i), windowOf(i), noteOf(i)].filter(Boolean).join(" ").toLowerCase());
  const body = h("tbody", {});
  const told = h("span", { class: "muted small", role: "status" });
  const more = h("button", { type: "button", class: "more", onclick: () => { limit += step * 10; show(); } });
  const table = h("table", { class: "compact" }, body);
  const show = () => {
    const kept = list.filter((i) => text[i].includes(wanted) && (!only || M.breached[i]));
    body.replaceChildren(...kept.slice(0, limit).map((i) => h("tr", {}, h("th", { scope: "row", class: "name" }, columnOf(i)), h("td", { title: signalOf(i) }, metricOf(i)), cell(i),
      h("td", { class: "number muted" }, thresholdText(i)), h("td", {}, sliceOf(i)), h("td", {}, windowOf(i) && day(windowOf(i))), h("td", { class: "note" }, noteOf(i)))));
    told.textContent = `${number(kept.length)} of ${plural(COUNT, "value")}`;
    more.hidden = kept.length <= limit;
    more.textContent = `Show ${number(Math.min(step * 10, kept.length - limit))} more`;
  };
  sorts(table, [{ text: "Column", key: columnOf }, { text: "Metric", key: metricOf }, { text: "Value", key: (i) => M.value[i], number: true }, { text: "Threshold", key: (i) => M.threshold[i], number: true },
    { text: "Slice", key: sliceOf }, { text: "Window", key: windowOf }, { text: "Note" }], (key, down) => { list = ordered(all, key, down); show(); });
  show();
  const tools = [search("Search metrics", (value) => { wanted = value.trim().toLowerCase(); limit = step; show(); }), toggle("Breached only", (checked) => { only = checked; limit = step; show(); }), told];
  return section("everything", "All metrics", tools, scroll("All metrics", table), more,
    data.left_out ? h("p", { class: "muted small" }, `${plural(data.left_out, "value")} more aren’t on this page; the report’s table has them.`) : null);
}

const later = []; // drawn when the page stands, as they ask how much room there is
const sections = [columns(), time(), performance(), slices(), whole(), everything()].filter(Boolean);
const nav = h("nav", { "aria-label": "Sections" }, sections.map((one) => h("a", { href: `#${one.id}` }, one.querySelector("h2").textContent)));
document.getElementById("page").append(head(), sections.length ? nav : "", ...sections);
later.forEach((draw) => draw());
})();
