// Components that several views use.

import { html, useEffect, useRef, useState } from "./ui.js";
import { post, store, useStore } from "./store.js";
import { NONE, clock, count, dollars, duration, latency, tokens } from "./format.js";
import { t, word } from "./strings.js";

// States.

const TONES = {
  ready: "ok", degraded: "warn", starting: "warn", stopping: "warn", stopped: "off",
  running: "ok", done: "off", failed: "bad", client_left: "off", disabled: "off",
  cooldown: "warn", out: "warn",
};

export const State = ({ name, tone }) =>
  html`<span class=${`state ${tone || TONES[name] || "bad"}`}>${word("state", name)}</span>`;

export const Tag = ({ tone = "off", children, title }) => html`<span class=${`tag ${tone}`} title=${title}>${children}</span>`;

export const Failure = ({ text }) => (text ? html`<p class="error" role="alert">${text}</p>` : null);

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

// Bars for the requests in each five-second interval.
export function Sparkline({ values = [], label }) {
  const bars = values.slice(-60);
  const most = Math.max(1, ...bars);
  const first = 60 - bars.length;
  return html`<svg class="spark" viewBox="0 0 122 20" role="img" aria-label=${label}>
    <line x1="0" x2="122" y1="19.5" y2="19.5" />
    ${bars.map((value, index) => value > 0 && html`<rect x=${(first + index) * 2 + 1} width="1.5" y=${19 - (value / most) * 18} height=${(value / most) * 18} />`)}
  </svg>`;
}

// Parts of a whole, `[size, class]` each, without styles in the markup.
export function Stack({ parts, label, height = 14 }) {
  const total = parts.reduce((sum, [size]) => sum + size, 0) || 1;
  let at = 0;
  return html`<svg class="stack" viewBox=${`0 0 1000 ${height}`} preserveAspectRatio="none" role="img" aria-label=${label}>
    ${parts.map(([size, name]) => {
      const x = at;
      at += (size / total) * 1000;
      return html`<rect class=${name} x=${x} y="0" width=${Math.max(0, at - x - (size ? 1 : 0))} height=${height} />`;
    })}
  </svg>`;
}

// Tables.

// `columns` are [text, class?, title?]; the region can be scrolled with the keyboard.
export const Table = ({ label, columns, name = "", children }) => html`
  <div class=${`scroll ${name}`} role="region" aria-label=${label} tabindex="0">
    <table>
      <thead><tr>${columns.map(([text, name, title]) => html`<th scope="col" class=${name} title=${title}>${text}</th>`)}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;

// The up and down keys move between the links of a table's rows.
export function moveRow(event) {
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
  if (!step || !event.target.matches?.("[data-row]")) return;
  const links = [...event.currentTarget.querySelectorAll("[data-row]")];
  const next = links[links.indexOf(event.target) + step];
  if (next) {
    event.preventDefault();
    next.focus();
  }
}

export const Choice = ({ label, value, options, onChange }) => html`
  <select aria-label=${label} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${options.map(([name, text]) => html`<option value=${name} selected=${name === value}>${text}</option>`)}
  </select>`;

export const Segments = ({ label, value, options, onChange }) => html`
  <div class="segments" role="group" aria-label=${label}>
    ${options.map(([name, text]) => html`<button type="button" aria-pressed=${String(name === value)} onClick=${() => onChange(name)}>${text}</button>`)}
  </div>`;

export function EntryChoice({ value, onChange, more = [] }) {
  const labels = useStore().fleet.rows.map((row) => row.label);
  const options = [["", t("all_entries")], ...more, ...labels.map((label) => [label, label])];
  return html`<${Choice} label=${t("entry")} value=${value} options=${options} onChange=${onChange} />`;
}

// Requests.

export const toneOf = (one) => (one.state === "failed" ? "bad" : one.state === "running" ? "ok" : "off");

export function noteOf(one) {
  if (one.error && one.state !== "client_left") return [one.error, one.reason].filter(Boolean).join(": ");
  const notes = [];
  if (one.failures?.length) notes.push(one.failures.map((each) => `${each.key} ${each.status}`).join(", "));
  if (one.cache_loss) notes.push(`${t("cache_loss")}: ${word("cause", one.cache_loss.cause)}`);
  if (one.route) notes.push(one.route);
  return notes.join(" · ");
}

export const elapsed = (one) => (one.state === "running" ? Math.max(0, Date.now() / 1000 - one.started) : one.total_s);

// `isCompact` leaves room for a panel.
export function RequestTable({ requests, selected, label = t("requests"), isCompact = false }) {
  const columns = [
    [t("time")], [t("entry")], [t("model")], [t("state")], ...(isCompact ? [] : [[t("key")]]), [t("ttft"), "n", t("ttft_long")], [t("total"), "n"],
    ...(isCompact ? [] : [[t("input"), "n"], [t("cached"), "n"], [t("output"), "n"]]), [t("cost"), "n"], ...(isCompact ? [] : [[t("note")]]),
  ];
  return html`<div onKeyDown=${moveRow}><${Table} label=${label} columns=${columns}>
    ${requests.map((one) => html`<${RequestRow} key=${`${one.label} ${one.id}`} one=${one} isCompact=${isCompact}
        isSelected=${selected === one.id} />`)}
  </${Table}></div>`;
}

function RequestRow({ one, isSelected, isCompact }) {
  const href = `#/requests/${encodeURIComponent(one.label)}/${encodeURIComponent(one.id)}`;
  const open = (event) => {
    if (event.target.tagName !== "A") location.hash = href;
  };
  const number = (tokenCount) => (one.state === "running" ? NONE : count(tokenCount || 0));
  return html`<tr class=${`link${isSelected ? " selected" : ""}`} onClick=${open}>
    <td><a href=${href} data-row title=${one.id} aria-label=${`${clock(one.started)}, ${t("request")} ${one.id}`}>${clock(one.started)}</a></td>
    <td>${one.label}</td>
    <td class="name mono" title=${`${one.requested || ""} → ${one.model || ""}`}>${one.model || one.requested || NONE}</td>
    <td><${State} name=${one.state} tone=${toneOf(one)} />${one.state === "failed" ? html` <span class="muted">${one.status}</span>` : null}</td>
    ${!isCompact && html`<td class="mono">${one.key || NONE}${one.attempts > 1 ? html` <span class="muted">×${one.attempts}</span>` : null}</td>`}
    <td class="n">${latency(one.first_byte_s)}</td>
    <td class="n">${latency(elapsed(one))}</td>
    ${!isCompact && html`<td class="n">${number(tokens(one) - (one.cached || 0))}</td>
    <td class="n">${number(one.cached)}</td>
    <td class="n">${number(one.output)}</td>`}
    <td class="n">${dollars(one.cost)}</td>
    ${!isCompact && html`<td class="rest muted" title=${noteOf(one)}>${noteOf(one)}</td>`}
  </tr>`;
}

// Actions and messages.

let toasts = [];
let lastToast = 0;

export function say(text, { failed = false, action } = {}) {
  const toast = { id: (lastToast += 1), text, failed, action };
  toasts = [...toasts.slice(-3), toast];
  store.change();
  if (!action) setTimeout(() => hush(toast.id), failed ? 20000 : 6000);
}

function hush(id) {
  toasts = toasts.filter((toast) => toast.id !== id);
  store.change();
}

export const Toasts = () => html`<div class="toasts" role="status" aria-live="polite">
  ${toasts.map((toast) => html`<div key=${toast.id} class=${`toast${toast.failed ? " failed" : ""}`}>
    <p>${toast.text}</p>
    ${toast.action && html`<button onClick=${() => { hush(toast.id); toast.action.run(); }}>${toast.action.text}</button>`}
    <button class="quiet" aria-label=${t("close")} onClick=${() => hush(toast.id)}>✕</button>
  </div>`)}
</div>`;

// Sends a command and reports the result; resolves to its content, or null if it failed.
export async function act(command, body, what) {
  try {
    const content = await post(command, body);
    if (content.ok === false) throw new Error(content.error || Object.values(content.states || {}).join(", "));
    const warnings = [content.unsaved, ...(content.warnings || []), ...(content.notes || [])].filter(Boolean);
    say([t("done", { what }), ...warnings].join("\n"));
    return content;
  } catch (error) {
    say(error.message, { failed: true });
    return null;
  }
}

// A button that is disabled while its work runs.
export function Button({ onClick, children, ...rest }) {
  const [isBusy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    try {
      await onClick();
    } finally {
      setBusy(false);
    }
  };
  return html`<button type="button" ...${rest} disabled=${isBusy || rest.disabled} onClick=${run}>${children}</button>`;
}

// Questions: one dialog for the whole page.

let question = null;

export const confirmed = (text, { yes, danger = true }) =>
  new Promise((answer) => {
    question = { title: text, yes, danger, answer };
    store.change();
  });

export const showDialog = (title, body, { yes, answer = () => {} } = {}) => {
  question = { title, body, yes, danger: false, answer };
  store.change();
};

export function Dialog() {
  const dialog = useRef(null);
  const current = question;
  useEffect(() => {
    if (current && !dialog.current.open) dialog.current.showModal();
  });
  if (!current) return null;
  const close = (value) => {
    dialog.current.close(); // restores the focus
    question = null;
    store.change();
    current.answer(value);
  };
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onCancel=${() => close(false)}>
    <h2 id="dialog-title">${current.title}</h2>
    ${current.body}
    <div class="actions">
      <button onClick=${() => close(false)}>${current.yes ? t("cancel") : t("close")}</button>
      ${current.yes && html`<button class=${current.danger ? "danger" : "primary"} onClick=${() => close(true)}>${current.yes}</button>`}
    </div>
  </dialog>`;
}

// Describes why a key is unavailable, with a countdown that starts at `at`, in milliseconds.
export function cooldownText(cooldown, at) {
  const left = cooldown.seconds - (Date.now() - at) / 1000;
  const parts = [word("cause", cooldown.cause) + (cooldown.status ? ` (${cooldown.status})` : "")];
  if (cooldown.model) parts.push(t("for_model", { model: cooldown.model }));
  const when = left > 0 ? t("next_in", { time: duration(Math.ceil(left)) }) : t("next_request");
  return `${parts.join(" ")}, ${when}`;
}
