// Entries with their state and traffic, unavailable keys, and the latest requests.

import { html, useState } from "../ui.js";
import { useStore } from "../store.js";
import { NONE, count, dollars, duration, latency, percent, sum } from "../format.js";
import { t } from "../strings.js";
import { Button, Empty, RequestTable, Sparkline, State, Table, Tag, act, confirmed, cooldownText, moveRow } from "../parts.js";

const RECENT = 12;

export function Overview() {
  const { fleet } = useStore();
  const rows = fleet.rows;
  const out = rows.flatMap((row) => row.key_rows.filter((key) => key.state !== "ready").map((key) => ({ row, key })));
  const latest = [...fleet.running].reverse().concat(fleet.finished).slice(0, RECENT);
  return html`
    <div class="bar"><h1>${t("overview")}</h1><${Button} onClick=${() => act("entries", { action: "reload" }, t("reload"))}>${t("reload")}</${Button}></div>
    <${Figures} fleet=${fleet} />
    <section>
      ${rows.length === 0 && fleet.at > 0 ? html`<div class="panel"><${Empty}>${t("no_entries")}</${Empty}></div>` : html`<${Entries} fleet=${fleet} />`}
    </section>
    ${out.length > 0 && html`<section><h2>${t("keys_out")}</h2><${KeysOut} out=${out} at=${fleet.received} /></section>`}
    <section>
      <div class="head"><h2>${t("recent")}</h2><a href="#/requests">${t("all_requests")}</a></div>
      ${latest.length ? html`<${RequestTable} requests=${latest} label=${t("recent")} />` : html`<div class="panel"><${Empty}>${t("no_requests")}</${Empty}></div>`}
    </section>`;
}

function Figures({ fleet }) {
  const today = Object.values(fleet.today);
  const of = (name) => sum(today.map((totals) => totals[name]));
  const all = of("input") + of("cached") + of("written");
  const keys = (name) => sum(fleet.rows.map((row) => row.keys?.[name]));
  const figures = [
    ["in_flight", count(fleet.running_total)],
    ["per_minute", count(sum(fleet.rows.map((row) => row.traffic.requests_per_minute)))],
    ["tokens_s", count(Math.round(sum(fleet.rows.map((row) => row.traffic.output_tokens_per_s))))],
    ["ready_keys", html`${keys("ready")}<small> / ${keys("total")}</small>`],
    ["requests_today", html`${count(of("requests"))}${of("errors") ? html`<small> · ${count(of("errors"))} ${t("errors").toLowerCase()}</small>` : null}`],
    ["cache_hit", percent(all ? of("cached") / all : null)],
    ["cost_today", html`${dollars(of("cost"))}${of("unpriced") ? html`<small title=${t("unpriced")}> +</small>` : null}`],
  ];
  return html`<dl class="figures">${figures.map(([name, value]) => html`<div><dt>${t(name)}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Entries({ fleet }) {
  const [open, setOpen] = useState("");
  const columns = [
    [t("entry")], [t("state")], [t("model")], [t("in_flight"), "n"], [t("per_minute"), "n"], [t("five_minutes")],
    [t("ttft"), "n", t("ttft_long")], ["P95", "n", t("ttft_long")], [t("tokens_s"), "n"], [t("errors"), "n"], [t("keys"), "n"], [t("cost_today"), "n"],
  ];
  return html`<div onKeyDown=${moveRow}><${Table} label=${t("entry")} columns=${columns}>
    ${fleet.rows.map((row) => html`<${Entry} key=${row.label} row=${row} today=${fleet.today[row.label]}
      isOpen=${open === row.label} toggle=${() => setOpen(open === row.label ? "" : row.label)} />`)}
  </${Table}></div>`;
}

function Entry({ row, today, isOpen, toggle }) {
  const { traffic } = row;
  const errors = traffic.requests ? `${traffic.errors} / ${traffic.requests}` : NONE;
  const onClick = (event) => event.target.closest("button") || toggle();
  return html`
    <tr class=${`link${row.reason || isOpen ? " has-more" : ""}`} onClick=${onClick}>
      <td><button class="quiet label" data-row aria-expanded=${String(isOpen)} onClick=${toggle}>${row.label}</button></td>
      <td><${State} name=${row.state} /> <${Marks} row=${row} /></td>
      <td class="name mono" title=${row.models.big}>${row.models.big || t("as_requested")}</td>
      <td class="n">${row.in_flight}</td>
      <td class="n">${traffic.requests_per_minute}</td>
      <td><${Sparkline} values=${traffic.history} label=${`${t("five_minutes")}: ${traffic.requests}`} /></td>
      <td class="n">${latency(traffic.ttft_median_s)}</td>
      <td class="n">${latency(traffic.ttft_p95_s)}</td>
      <td class="n">${traffic.output_tokens_per_s ? Math.round(traffic.output_tokens_per_s) : NONE}</td>
      <td class=${`n ${traffic.errors ? "bad" : ""}`}>${errors}</td>
      <td class=${`n ${row.keys && row.keys.ready < row.keys.total ? "warn" : ""}`}>${row.keys ? `${row.keys.ready}/${row.keys.total}` : NONE}</td>
      <td class="n">${today ? dollars(today.unpriced && !today.cost ? null : today.cost) : NONE}</td>
    </tr>
    ${row.reason && html`<tr class=${`problem${isOpen ? " has-more" : ""}`}><td colspan="12"><p>${row.reason}</p></td></tr>`}
    ${isOpen && html`<tr class="detail"><td colspan="12"><${Facts} row=${row} /></td></tr>`}`;
}

const Marks = ({ row }) => html`
  ${row.switched && html`<${Tag} tone="warn" title=${row.switched}>${t("switched")}</${Tag}> `}
  ${row.passes_to && html`<${Tag} tone="warn" title=${row.passes_to}>${t("bypassed")}</${Tag}> `}
  ${row.inspects && html`<${Tag} tone="warn" title=${duration(row.inspects_s)}>${t("inspects")}</${Tag}> `}
  ${row.changed && html`<${Tag} tone="warn">${t("changed")}</${Tag}>`}`;

function Facts({ row }) {
  const models = ["big", "middle", "small"].map((tier) => `${t(tier)}: ${row.models[tier] || t("as_requested")}`);
  const isStopped = row.state === "stopped";
  const label = row.label;
  const stop = async () => {
    if (await confirmed(t("stop_text", { label }), { yes: t("stop") })) await act("entries", { action: "stop", label }, `${t("stop")} ${label}`);
  };
  return html`
    <dl class="facts">
      <dt>${t("address")}</dt><dd class="mono">${row.host}:${row.port}</dd>
      <dt>${t("provider")}</dt><dd class="mono">${row.base_url || NONE}</dd>
      <dt>${t("models")}</dt><dd>${models.join(" · ")}</dd>
      <dt>${t("uptime")}</dt><dd>${duration(row.uptime_s)}${row.pids.length ? html` <span class="muted">· ${t("processes")} ${row.pids.join(", ")}</span>` : null}</dd>
    </dl>
    <div class="actions">
      ${isStopped
        ? html`<${Button} onClick=${() => act("entries", { action: "start", label }, `${t("start")} ${label}`)}>${t("start")}</${Button}>`
        : html`<${Button} onClick=${() => act("entries", { action: "restart", label }, `${t("restart")} ${label}`)}>${t("restart")}</${Button}>
               <${Button} class="danger" onClick=${stop}>${t("stop")}</${Button}>`}
    </div>`;
}

const KeysOut = ({ out, at }) => html`<${Table} name="stacked" label=${t("keys_out")} columns=${[[t("entry")], [t("key")], [t("state")], [t("cause")]]}>
  ${out.map(({ row, key }) => html`<tr>
    <td class="label">${row.label}</td>
    <td class="mono">${key.id} ${key.tail}</td>
    <td><${State} name=${key.state} /></td>
    <td class="wrap">${key.cooldowns.map((cooldown) => html`<div>${cooldownText(cooldown, at)}</div>`)}<span class="muted">${key.last_error}</span></td>
  </tr>`)}
</${Table}>`;
