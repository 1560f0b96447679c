// One request in full if INSPECT is on: blocks with tokens, both request bodies, the answer.

import { html, useEffect, useMemo, useState } from "../ui.js";
import { useStore, useView } from "../store.js";
import { NONE, clock, count, dollars, latency, percent, shortId, sum } from "../format.js";
import { t } from "../strings.js";
import { Empty, Failure, RequestTable, Segments, Stack, Tag } from "../parts.js";

const COLORS = { system: 4, tools: 3, messages: 1 };
const EVENT_MS = 40;
const SPEEDS = ["1", "4", "16"];
const BARS = 160;

export function Inspector({ place: [label, id] }) {
  return id ? html`<${Inspected} key=${id} label=${label} id=${id} />` : html`<${Chooser} />`;
}

function Chooser() {
  const { fleet } = useStore();
  const inspecting = new Set(fleet.rows.filter((row) => row.inspects).map((row) => row.label));
  const requests = fleet.finished.filter((one) => inspecting.has(one.label));
  const links = (event) => {
    const row = event.target.closest("tr.link");
    const link = row?.querySelector("[data-row]");
    if (link) {
      event.preventDefault();
      event.stopPropagation();
      location.hash = link.getAttribute("href").replace("#/requests/", "#/inspector/");
    }
  };
  return html`
    <div class="bar"><h1>${t("inspector")}</h1><p class="note">${t("inspector_note")}</p></div>
    ${inspecting.size === 0
      ? html`<div class="panel"><${Empty}>${t("inspector_off")}</${Empty}></div>`
      : requests.length === 0
        ? html`<div class="panel"><${Empty}>${t("no_requests")}</${Empty}></div>`
        : html`<div onClickCapture=${links}><${RequestTable} requests=${requests} label=${t("choose_request")} /></div>`}`;
}

function Inspected({ label, id }) {
  const [{ content, error }] = useView("inspect", { label, id });
  const [tab, setTab] = useState("conversation");
  const tabs = ["conversation", "bodies", "answer"].map((name) => [name, t(name)]);
  const one = content?.request;
  return html`
    <div class="bar">
      <h1>${t("inspector")} <span class="mono muted" title=${id}>${label} ${shortId(id)}</span></h1>
      <${Segments} label=${t("details")} value=${tab} options=${tabs} onChange=${setTab} />
      <a href="#/inspector">${t("choose_request")}</a>
      ${one && html`<p class="note">${clock(one.started)} · ${one.model} · ${count(sum([one.input, one.cached, one.written]))} ${t("input").toLowerCase()} · ${count(one.output || 0)} ${t("output").toLowerCase()} · ${dollars(one.cost)}</p>`}
    </div>
    <${Failure} text=${error} />
    ${content?.is_cut && html`<p class="error">${t("is_cut")}</p>`}
    ${!content && !error && html`<p class="muted">${t("loading")}</p>`}
    ${content && tab === "conversation" && html`<${Blocks} blocks=${content.blocks} cost=${content.input_cost} />`}
    ${content && tab === "bodies" && html`<${Bodies} content=${content} />`}
    ${content && tab === "answer" && html`<${Answer} text=${content.response} times=${content.event_times} />`}`;
}

function Blocks({ blocks, cost }) {
  if (!blocks.length) return html`<div class="panel"><${Empty}>${t("not_a_prompt")}</${Empty}></div>`;
  const total = sum(blocks.map((block) => block.tokens));
  const most = Math.max(1, ...blocks.map((block) => block.tokens || 0));
  const sections = Object.keys(COLORS).map((name) => [name, sum(blocks.filter((block) => block.section === name).map((block) => block.tokens))]);
  const price = cost != null && total ? cost / total : null;
  return html`
    <${Stack} parts=${sections.map(([name, size]) => [size, `f${COLORS[name]}`])} label=${sections.map(([name, size]) => `${t(name)} ${count(size)}`).join(", ")} />
    <div class="legend">${sections.map(([name, size]) => html`<span><span class=${`swatch b${COLORS[name]}`}></span>${t(name)} ${count(size)} <span class="muted">${percent(total ? size / total : null)}</span></span>`)}</div>
    <div class="scroll">${blocks.map((block, index) => html`<${Block} key=${index} block=${block} most=${most} total=${total} price=${price} />`)}</div>`;
}

function Block({ block, most, total, price }) {
  const size = block.tokens || 0;
  const what = block.name || block.kind || "text";
  return html`<details class="block">
    <summary>
      <span class="muted">${block.turn ? `#${block.turn} ` : ""}${block.role}</span>
      <span class="wide mono">${what}</span>
      <span>${block.is_cached_mark && html`<${Tag}>cache</${Tag}> `}${(block.text || "").slice(0, 300)}</span>
      <span class="wide"><svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class=${`f${COLORS[block.section]}`} width=${(size / most) * 100} height="6" /></svg></span>
      <span class="n">${count(size)} <span class="hidden">${t("tokens")}, ${percent(total ? size / total : null)}</span></span>
      <span class="n wide muted">${price == null ? percent(total ? size / total : null) : dollars(price * size)}</span>
    </summary>
    <pre tabindex="0">${block.text || NONE}</pre>
  </details>`;
}

const pretty = (text) => {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
};

const Bodies = ({ content }) => html`<div class="sides">
  <section><h2>${t("client_request")}</h2><pre class="code" tabindex="0">${pretty(content.client_body)}</pre></section>
  <section><h2>${t("provider_request")}</h2><pre class="code" tabindex="0">${content.provider_body ? pretty(content.provider_body) : t("no_provider_body")}</pre></section>
</div>`;

// The answer, event by event.

function parseEvents(text) {
  const events = [];
  for (const part of text.split(/\n\n/)) {
    const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
    if (!data) continue;
    try {
      events.push({ data, value: JSON.parse(data) });
    } catch {
      events.push({ data, value: {} });
    }
  }
  return events;
}

function textUntil(events, end) {
  let text = "";
  for (const { value } of events.slice(0, end)) {
    const { delta, content_block: block } = value;
    if (block && block.type !== "text") text += `\n[${block.type}${block.name ? ` ${block.name}` : ""}] `;
    text += delta?.text ?? delta?.thinking ?? delta?.partial_json ?? value.choices?.[0]?.delta?.content ?? "";
  }
  return text.trim();
}

// Replays the events at their original times; `times` is empty if these are unknown.
function Answer({ text, times }) {
  const events = useMemo(() => parseEvents(text), [text]);
  const when = useMemo(() => events.map((_, index) => times[index] ?? times.at(-1) ?? (index * EVENT_MS) / 1000), [events, times]);
  const [at, setAt] = useState(events.length);
  const [plays, setPlays] = useState(false);
  const [speed, setSpeed] = useState("1");
  useEffect(() => {
    if (!plays) return undefined;
    const began = performance.now();
    const from = at ? when[at - 1] : 0;
    const timer = setInterval(() => {
      const now = from + ((performance.now() - began) / 1000) * Number(speed);
      const next = when.findIndex((time) => time > now);
      setAt(next < 0 ? events.length : next);
      if (next < 0) setPlays(false);
    }, EVENT_MS);
    return () => clearInterval(timer);
  }, [plays, speed]);
  if (!events.length) return html`<pre class="code" tabindex="0">${pretty(text) || NONE}</pre>`;
  const play = () => {
    if (!plays && at >= events.length) setAt(0);
    setPlays(!plays);
  };
  const place = times.length ? t("events_at", { at, all: events.length, time: latency(at ? when[at - 1] : 0) }) : t("events", { at, all: events.length });
  return html`
    <div class="bar">
      <button onClick=${play}>${plays ? t("pause") : t("play")}</button>
      <${Segments} label=${t("speed")} value=${speed} options=${SPEEDS.map((each) => [each, `${each}×`])} onChange=${setSpeed} />
      <input type="range" min="0" max=${events.length} value=${at} aria-label=${t("raw_events")} aria-valuetext=${place}
        onInput=${(event) => { setPlays(false); setAt(Number(event.target.value)); }} />
      <span class="muted">${place}</span>
    </div>
    ${times.length > 0 && html`<${Arrival} when=${when} at=${at} />`}
    <div class="sides">
      <section><h2>${t("answer")}</h2><pre class="code" tabindex="0">${textUntil(events, at) || NONE}</pre></section>
      <section><h2>${t("raw_events")}</h2><pre class="code" tabindex="0">${events.slice(Math.max(0, at - 200), at).map((event) => event.data.trim()).join("\n") || NONE}</pre></section>
    </div>`;
}

// Shows the number of events in each part of the answer's duration, colored up to event `at`.
function Arrival({ when, at }) {
  const last = when.at(-1) || 1;
  const bars = Array.from({ length: BARS }, () => [0, 0]);
  when.forEach((time, index) => {
    bars[Math.min(BARS - 1, Math.floor((time / last) * BARS))][index < at ? 0 : 1] += 1;
  });
  const most = Math.max(...bars.map(sum));
  const pauses = when.map((time, index) => time - (when[index - 1] ?? time));
  const pause = Math.max(...pauses);
  const text = t("arrival_text", { first: latency(when[0]), last: latency(last), pause: latency(pause), number: pauses.indexOf(pause) + 1 });
  return html`<section class="arrival">
    <svg viewBox=${`0 0 ${BARS} 30`} preserveAspectRatio="none" role="img" aria-label=${`${t("arrival")}: ${text}`}>
      ${bars.map(([past, next], x) => past + next > 0 && html`<rect class=${past ? "f1" : "f0"} x=${x} width="0.8" y=${30 - 4 - ((past + next) / most) * 26} height=${4 + ((past + next) / most) * 26} />`)}
    </svg>
    <p class="note">${text}</p>
  </section>`;
}
