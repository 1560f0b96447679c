// Costs, tokens and cache hits by day, and a table by entry, model, key or session.

import { html, useEffect, useRef, useState } from "../ui.js";
import uPlot from "../vendor/uplot.js";
import { useStore, useView } from "../store.js";
import { NONE, count, dollars, latency, percent } from "../format.js";
import { t } from "../strings.js";
import { Empty, Failure, Segments, Table } from "../parts.js";

const PERIODS = [1, 7, 30, 90];
const GROUPS = ["label", "model", "key", "session", "user", "day"];
const SERIES = 6;
const SHOWN = 500;
const HEIGHT = 170;
const DAY = 86400;

export function Usage() {
  useStore();
  const [days, setDays] = useState(30);
  const [group, setGroup] = useState("label");
  const [plot, plotError] = useUsage("day,label", days);
  const [list, listError] = useUsage(group, days);
  const periods = PERIODS.map((number) => [number, number === 1 ? t("today") : t("days", { days: number })]);
  return html`
    <div class="bar">
      <h1>${t("usage")}</h1>
      <${Segments} label=${t("period")} value=${days} options=${periods} onChange=${setDays} />
      <${Segments} label=${t("group")} value=${group} options=${GROUPS.map((name) => [name, t(`by_${name}`)])} onChange=${setGroup} />
    </div>
    <${Failure} text=${plotError || listError} />
    ${plot && plot.rows.length > 0 && html`<${Plots} rows=${plot.rows} days=${days} />`}
    ${list && (list.rows.length ? html`<${Totals} list=${list} group=${list.by[0]} />` : html`<div class="panel"><${Empty}>${t("no_usage")}</${Empty}></div>`)}`;
}

function useUsage(by, days) {
  const [{ content, error }] = useView("usage", { by, days }, 15);
  return [content, error];
}

// Plots.

function Plots({ rows, days }) {
  const begin = new Date();
  begin.setHours(0, 0, 0, 0);
  const dates = Array.from({ length: days }, (_, index) => {
    const date = new Date(begin);
    date.setDate(date.getDate() - (days - 1 - index));
    return date;
  });
  const names = dates.map((date) => `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`);
  const x = dates.map((date) => date.getTime() / 1000);
  const total = (field, label) => names.map((day) => rows.filter((row) => row.day === day && (label == null || row.label === label)).reduce((sum, row) => sum + (row[field] || 0), 0));
  const labels = [...new Set(rows.map((row) => row.label))].slice(0, SERIES);
  const [input, cached, written, output] = ["input_tokens", "cache_read_tokens", "cache_creation_tokens", "output_tokens"].map((field) => total(field));
  const hit = names.map((_, index) => {
    const all = input[index] + cached[index] + written[index];
    return all ? (cached[index] / all) * 100 : null;
  });
  return html`<div class="plots">
    <${Plot} title="cost_per_day" x=${x} series=${labels.map((label, index) => ({ name: label, values: total("cost_usd", label), color: index + 1 }))} text=${dollars} />
    <${Plot} title="tokens_per_day" x=${x} text=${count} series=${[
      { name: t("cached"), values: cached, color: 2 }, { name: t("input"), values: input.map((number, index) => number + written[index]), color: 1 }, { name: t("output"), values: output, color: 4 }]} />
    <${Plot} title="hit_per_day" x=${x} lines text=${(value) => (value == null ? NONE : `${Math.round(value)} %`)} series=${[{ name: t("hit"), values: hit, color: 2 }]} most=${100} />
    <${Plot} title="requests_per_day" x=${x} text=${count} series=${[
      { name: t("errors"), values: total("errors"), color: 5 }, { name: t("requests"), values: total("requests").map((number, index) => number - total("errors")[index]), color: 1 }]} />
  </div>`;
}

// Shortens $0.5000 to $0.5, for an axis.
const shortest = (number) => number.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Bars are stacked: each series starts at the sum of the previous ones.
function Plot({ title, x, series, text, lines = false, most }) {
  const box = useRef(null);
  const theme = document.documentElement.dataset.theme;
  const content = JSON.stringify([x, series.map(({ name, values }) => [name, values]), theme]);
  useEffect(() => {
    const sums = x.map(() => 0);
    const stacked = series.map(({ values }) => values.map((value, index) => (lines ? value : (sums[index] += value || 0))));
    const plot = new uPlot(options(box.current.clientWidth, series, { text, lines, most, last: x.length }), [x, ...[...stacked].reverse()], box.current);
    const watch = new ResizeObserver(() => plot.setSize({ width: box.current.clientWidth, height: HEIGHT }));
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [content]);
  const last = series.map(({ name, values }) => `${name} ${text(values.at(-1))}`).join(", ");
  return html`<figure class="plot">
    <figcaption><span>${t(title)}</span></figcaption>
    <div class="legend">${series.map(({ name, color: number }) => html`<span><span class=${`swatch b${number}`}></span>${name}</span>`)}</div>
    <div ref=${box} role="img" aria-label=${`${t(title)}; ${last}`}></div>
  </figure>`;
}

function options(width, series, { text, lines, most, last }) {
  const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const day = (at) => new Date(at * 1000).toLocaleDateString([], { month: "numeric", day: "numeric" });
  const bars = uPlot.paths.bars({ size: [0.7, 26] });
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: true, range: (_, low, high) => [low - DAY * 0.6, high + DAY * 0.6] },
      y: { range: (_, __, high) => [0, most || (high > 0 ? high * 1.08 : 1)] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 26, space: 54, incrs: [DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY], values: (_, splits) => splits.map(day) },
      { ...axis, size: 58, space: 34, values: (_, splits) => splits.map((value) => shortest(text(value))) },
    ],
    series: [{}, ...[...series].reverse().map(({ color: number }) => ({
      stroke: color(`--c${number}`),
      fill: lines ? undefined : color(`--c${number}`),
      width: lines ? 1.75 : 0,
      paths: lines ? undefined : bars,
      points: { show: lines, size: last > 40 ? 3 : 5, fill: color(`--c${number}`) },
      spanGaps: true,
    }))],
  };
}

// Table.

function Totals({ list, group }) {
  const { total } = list;
  const columns = [
    [t(`by_${group}`)], ...["requests", "errors", "input", "cached", "hit", "output", "reasoning", "ttft", "above", "cost"].map((name) => [t(name), "n"]),
  ];
  const rows = [...list.rows].sort((one, other) => (group === "day" ? other.day.localeCompare(one.day) : (other.cost_usd || 0) - (one.cost_usd || 0) || other.requests - one.requests));
  const leftOut = list.left_out + Math.max(0, rows.length - SHOWN);
  return html`
    ${total.requests_above_threshold > 0 && html`<p class="note">${t("above_text", { count: count(total.requests_above_threshold), extra: dollars(total.extra_cost_usd) })}</p>`}
    <${Table} label=${t("usage")} columns=${columns}>
      ${rows.slice(0, SHOWN).map((row) => html`<${Line} key=${row[group]} name=${row[group] || NONE} row=${row} />`)}
      ${rows.length > 1 && html`<${Line} name=${t("total")} row=${total} isTotal />`}
    </${Table}>
    ${leftOut > 0 && html`<p class="note">${t("left_out", { count: count(leftOut) })}</p>`}`;
}

const Line = ({ name, row, isTotal }) => html`<tr>
  <td class=${`name ${isTotal ? "label" : "mono"}`} title=${name}>${name}</td>
  <td class="n">${count(row.requests)}</td>
  <td class=${`n ${row.errors ? "bad" : ""}`}>${count(row.errors)}</td>
  <td class="n">${count(row.input_tokens + row.cache_creation_tokens)}</td>
  <td class="n">${count(row.cache_read_tokens)}</td>
  <td class="n">${percent(row.cache_hit_rate)}</td>
  <td class="n">${count(row.output_tokens)}</td>
  <td class="n">${count(row.reasoning_tokens)}</td>
  <td class="n">${latency(row.mean_ttfb_seconds)}</td>
  <td class="n">${row.requests_above_threshold ? `${count(row.requests_above_threshold)} · ${dollars(row.extra_cost_usd)}` : NONE}</td>
  <td class="n">${dollars(row.cost_usd)}${row.unpriced_requests ? html`<span title=${t("unpriced")}>+</span>` : null}</td>
</tr>`;
