// The keys of every entry: state, causes with countdowns, limits and actions.

import { html } from "../ui.js";
import { useStore } from "../store.js";
import { NONE, percent } from "../format.js";
import { t } from "../strings.js";
import { Button, Empty, State, Table, act, confirmed, cooldownText, say } from "../parts.js";
import { latency } from "../format.js";

export function Keys() {
  const { fleet } = useStore();
  return html`
    <div class="bar"><h1>${t("keys")}</h1></div>
    ${fleet.rows.length === 0 && fleet.at > 0 && html`<div class="panel"><${Empty}>${t("no_entries")}</${Empty}></div>`}
    ${fleet.rows.map((row) => html`<${KeysOf} key=${row.label} row=${row} at=${fleet.received} />`)}`;
}

function KeysOf({ row, at }) {
  const { label, key_rows: keys } = row;
  const columns = [[t("key")], [t("state")], [t("cause")], [t("used_today"), "n"], [t("in_flight"), "n"], [t("sessions"), "n"], [t("limits")], [t("actions")]];
  return html`<section aria-label=${label}>
    <div class="head">
      <h2><span class="label">${label}</span></h2>
      ${keys.length > 0 && html`
        <${Button} class="quiet" aria-label=${`${t("test_all")}: ${label}`} onClick=${() => test(label, null)}>${t("test_all")}</${Button}>
        <${Button} class="quiet" aria-label=${`${t("reset_all")}: ${label}`} onClick=${() => act("keys", { label, action: "reset" }, `${t("reset_all")} ${label}`)}>${t("reset_all")}</${Button}>`}
    </div>
    ${keys.length === 0
      ? html`<div class="panel"><${Empty}>${t("no_keys")}</${Empty}></div>`
      : html`<${Table} name="keys stacked" label=${`${t("keys")} ${label}`} columns=${columns}>${keys.map((key) => html`<${KeyLine} key=${key.id} label=${label} one=${key} at=${at} />`)}</${Table}>`}
  </section>`;
}

function KeyLine({ label, one, at }) {
  const isDisabled = one.state === "disabled";
  const causes = isDisabled ? [] : one.cooldowns;
  const limits = [...one.limits, ...(one.account?.windows || [])];
  const balances = (one.account?.balances || []).map((balance) => `${balance.amount} ${balance.currency}`);
  const name = `${one.id} ${one.tail}`;
  const change = async (action) => {
    const needsYes = action === "disable";
    if (needsYes && !(await confirmed(t("disable_text", { key: name, label }), { yes: t("disable") }))) return;
    await act("keys", { label, action, id: one.id }, `${t(action)} ${name}`);
  };
  return html`<tr>
    <td class="mono">${one.id} <span class="muted">${one.tail}</span></td>
    <td><${State} name=${one.state} /></td>
    <td class="wrap">${causes.map((cooldown) => html`<div>${cooldownText(cooldown, at)}</div>`)}${one.last_error && html`<div class="muted">${one.last_error}</div>`}${!causes.length && !one.last_error && html`<span class="muted">${NONE}</span>`}</td>
    <td class="n" data-label=${t("today")}>${one.used_today}</td>
    <td class="n" data-label=${t("in_flight")}>${one.in_flight}</td>
    <td class="n" data-label=${t("sessions")}>${one.sessions}</td>
    <td>${[...limits.map((limit) => `${limit.name} ${percent(limit.used)}`), ...balances].join(" · ") || html`<span class="muted">${NONE}</span>`}</td>
    <td>
      <${Button} class="quiet" aria-label=${`${t("test")} ${name}`} onClick=${() => test(label, one)}>${t("test")}</${Button}>
      <${Button} class="quiet" aria-label=${`${t(isDisabled ? "enable" : "disable")} ${name}`} onClick=${() => change(isDisabled ? "enable" : "disable")}>${t(isDisabled ? "enable" : "disable")}</${Button}>
      <${Button} class="quiet" disabled=${one.state === "ready" && !causes.length} aria-label=${`${t("reset")} ${name}`} onClick=${() => change("reset")}>${t("reset")}</${Button}>
    </td>
  </tr>`;
}

async function test(label, key) {
  const name = key ? `${key.id} ${key.tail}` : t("all_keys");
  if (!(await confirmed(t("test_text", { key: name, label }), { yes: t("test"), danger: false }))) return;
  const result = await act("keys", { label, action: "test", id: key?.id }, `${t("test")} ${label}`);
  for (const one of result?.tests || []) {
    const words = { key: one.id, message: one.message, status: one.status, seconds: latency(one.seconds) };
    say(t(one.ok ? "test_ok" : "test_failed", words), { failed: !one.ok });
  }
}
