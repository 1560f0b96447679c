// Running and finished requests, and the timeline of the selected one.

import { html, useEffect, useRef, useState } from "../ui.js";
import { get, same, useStore } from "../store.js";
import { NONE, clock, count, dollars, latency, shortId } from "../format.js";
import { t, word } from "../strings.js";
import { Empty, EntryChoice, Failure, RequestTable, Segments, Stack, State, elapsed, toneOf } from "../parts.js";

const SLOW_SECONDS = 10;
const SHOWN = 200;

const isSlow = (one) => (one.first_byte_s ?? one.total_s) >= SLOW_SECONDS;
const textOf = (one) => [one.id, one.label, one.model, one.requested, one.session, one.error, one.reason, one.key].join(" ").toLowerCase();

export function Requests({ place: [label, id] }) {
  const { fleet } = useStore();
  const [entry, setEntry] = useState("");
  const [kind, setKind] = useState("all");
  const [search, setSearch] = useState("");
  const every = [...fleet.running].reverse().concat(fleet.finished);
  const shown = every.filter((one) =>
    (!entry || one.label === entry)
    && (kind === "all" || (kind === "failed" ? one.state === "failed" : isSlow(one)))
    && textOf(one).includes(search.toLowerCase()));
  return html`
    <div class="bar">
      <h1>${t("requests")}</h1>
      <input type="search" aria-label=${t("search")} placeholder=${t("search")} value=${search} onInput=${(event) => setSearch(event.target.value)} />
      <${EntryChoice} value=${entry} onChange=${setEntry} />
      <${Segments} label=${t("state")} value=${kind} options=${["all", "failed", "slow"].map((name) => [name, t(name)])} onChange=${setKind} />
    </div>
    <div class=${`split${id ? " open" : ""}`}>
      ${shown.length
        ? html`<${RequestTable} requests=${shown.slice(0, SHOWN)} selected=${id} isCompact=${Boolean(id)} />`
        : html`<div class="panel"><${Empty}>${every.length ? t("no_match") : t("no_requests")}</${Empty}></div>`}
      ${id && html`<${Timeline} key=${id} label=${label} id=${id} />`}
    </div>`;
}

function Timeline({ label, id }) {
  const { fleet } = useStore();
  const [old, setOld] = useState({ one: null, error: "" });
  const live = [...fleet.running, ...fleet.finished].find((one) => same(one, { label, id }));
  useEffect(() => {
    if (live) return;
    get("requests", { label, id }).then(
      (found) => setOld({ one: found.finished[0] || found.running[0], error: found.finished[0] ? "" : t("no_match") }),
      (error) => setOld({ one: null, error: error.message }),
    );
  }, [label, id, !live]);
  const panel = useRef(null);
  const one = live || old.one;
  // On a narrow screen the timeline is above the list.
  useEffect(() => panel.current?.scrollIntoView({ block: "nearest" }), [label, id, !one]);
  if (!one) return html`<aside class="panel" aria-label=${t("timeline")}>${old.error ? html`<${Failure} text=${old.error} />` : t("loading")}</aside>`;
  return html`<aside class="panel" ref=${panel} aria-label=${t("timeline")}>
    <div class="head">
      <h2 class="mono" title=${one.id}>${shortId(one.id)}</h2>
      <${State} name=${one.state} tone=${toneOf(one)} />
      <a href="#/requests" aria-label=${t("close")}>✕</a>
    </div>
    <${Failure} text=${one.error && `${one.error}: ${one.reason || ""}`} />
    <${Facts} one=${one} />
    <h3>${t("timeline")}</h3>
    <${Phases} one=${one} />
    <ol class="steps">${steps(one).map(([at, text]) => html`<li><span>${at}</span><p>${text}</p></li>`)}</ol>
    ${one.cache_loss && html`<${Loss} loss=${one.cache_loss} />`}
    <div class="actions"><a href=${`#/inspector/${encodeURIComponent(one.label)}/${encodeURIComponent(one.id)}`}>${t("inspect")}</a></div>
  </aside>`;
}

function Facts({ one }) {
  const facts = [
    ["time", clock(one.started)],
    ["entry", one.answered_by ? `${one.label} → ${one.answered_by}` : one.label],
    ["model", one.requested && one.requested !== one.model ? `${one.requested} → ${one.model}` : one.model],
    ["key", one.key],
    ["session", one.session],
    ["agent", one.agent],
    ...(one.state === "running" ? [] : tokenFacts(one)),
  ];
  return html`<dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<dt>${t(name)}</dt><dd>${value}</dd>`)}</dl>`;
}

const tokenFacts = (one) => [
  ["input", [count(one.input || 0), ...["cached", "written"].filter((name) => one[name]).map((name) => `${count(one[name])} ${t(name).toLowerCase()}`)].join(" + ")],
  ["output", `${count(one.output || 0)}${one.reasoning ? ` (${count(one.reasoning)} ${t("reasoning").toLowerCase()})` : ""}`],
  ["cost", dollars(one.cost)],
];

function Phases({ one }) {
  const total = elapsed(one) || 0;
  const [converted, sent] = [one.converted_s || 0, one.sent_s ?? one.converted_s ?? 0];
  const first = one.first_byte_s ?? total;
  const phases = [
    ["phase_convert", converted, 6], ["phase_keys", sent - converted, 3], ["phase_wait", first - sent, 4], ["phase_stream", total - first, 2],
  ].map(([name, length, color]) => [name, Math.max(0, length), color]);
  const label = phases.map(([name, length]) => `${t(name)} ${latency(length)}`).join(", ");
  return html`<${Stack} parts=${phases.map(([, length, color]) => [length, `f${color}`])} label=${label} />
    <div class="legend muted">${phases.map(([name, length, color]) => html`<span><span class=${`swatch b${color}`}></span>${t(name)} ${latency(length)}</span>`)}</div>`;
}

function steps(one) {
  const size = one.size >= 1024 ? `${Math.round(one.size / 1024)} KiB` : `${one.size || 0} B`;
  const found = [[0, t("accepted_size", { size })]];
  if (one.route) found.push([one.converted_s, t("routed", { route: one.route })]);
  if (one.answered_by) found.push([one.converted_s, t("answered_by", { label: one.answered_by })]);
  if (one.converted_s != null && one.model) found.push([one.converted_s, t("converted", { model: one.model })]);
  if (one.dropped?.length) found.push([one.converted_s, t("dropped", { list: one.dropped.join(", ") })]);
  for (const each of one.failures || []) {
    const next = t(`next_${each.next || "end"}`, { delay: latency(each.delay || 0) });
    const what = t("refused_by", { key: each.key, status: each.status, cause: word("cause", each.cause || "") });
    found.push([each.at, [`${what}, ${next}`, each.reason].filter(Boolean).join(": ")]);
  }
  if (one.sent_s != null) found.push([one.sent_s, t("sent_with", { key: one.key || NONE, attempts: one.attempts || 1 })]);
  if (one.first_byte_s != null) found.push([one.first_byte_s, t("first_byte")]);
  if (one.state === "running") found.push([null, one.first_byte_s == null ? t("waits") : t("state_running")]);
  else found.push([one.total_s, t("ended", { status: one.stop_reason || one.error || one.status, chunks: one.chunks || 0, pings: one.pings || 0 })]);
  const order = ([at]) => at ?? Infinity;
  return found.sort((one, other) => order(one) - order(other) || 0).map(([at, text]) => [at == null ? "…" : latency(at), text]);
}

const Loss = ({ loss }) => html`<div class="loss">
  <h3>${t("cache_loss")}: ${word("cause", loss.cause)}</h3>
  <p>${[loss.block, loss.detail].filter(Boolean).join(": ")}</p>
  <p class="muted">${t("loss_text", { lost: count(loss.lost || 0), before: count(loss.before || 0), after: count(loss.after || 0) })} ${loss.cost != null ? dollars(loss.cost) : ""}</p>
</div>`;
