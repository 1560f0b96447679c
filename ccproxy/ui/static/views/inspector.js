// One request in full, while INSPECT is on: blocks with tokens, both requests, the answer.

import { html, useEffect, useMemo, useState } from "../ui.js";
import { useStore, useView } from "../store.js";
import { NONE, clock, count, dollars, percent, shortId, sum } from "../format.js";
import { t } from "../strings.js";
import { Empty, Failure, RequestTable, Segments, Stack, Tag } from "../parts.js";

const COLORS = { system: 4, tools: 3, messages: 1 };
const EVENT_MS = 40;

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
    ${content && tab === "answer" && html`<${Answer} text=${content.response} />`}`;
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

function Answer({ text }) {
  const events = useMemo(() => parseEvents(text), [text]);
  const [at, setAt] = useState(events.length);
  const [plays, setPlays] = useState(false);
  useEffect(() => {
    if (!plays) return undefined;
    const timer = setInterval(() => setAt((number) => Math.min(number + 1, events.length)), EVENT_MS);
    return () => clearInterval(timer);
  }, [plays]);
  useEffect(() => {
    if (at >= events.length) setPlays(false);
  }, [at]);
  if (!events.length) return html`<pre class="code" tabindex="0">${pretty(text) || NONE}</pre>`;
  const play = () => {
    if (!plays && at >= events.length) setAt(0);
    setPlays(!plays);
  };
  return html`
    <div class="bar">
      <button onClick=${play}>${plays ? t("pause") : t("play")}</button>
      <input type="range" min="0" max=${events.length} value=${at} aria-label=${t("raw_events")} onInput=${(event) => setAt(Number(event.target.value))} />
      <span class="muted">${t("events", { at, all: events.length })}</span>
    </div>
    <div class="sides">
      <section><h2>${t("answer")}</h2><pre class="code" tabindex="0">${textUntil(events, at) || NONE}</pre></section>
      <section><h2>${t("raw_events")}</h2><pre class="code" tabindex="0">${events.slice(Math.max(0, at - 200), at).map((event) => event.data.trim()).join("\n") || NONE}</pre></section>
    </div>`;
}
