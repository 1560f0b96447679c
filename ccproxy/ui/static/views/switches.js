// Model presets and single models of an entry, bypass, and recording.

import { html, useState } from "../ui.js";
import { useStore, useView } from "../store.js";
import { t } from "../strings.js";
import { Button, Choice, Empty, Failure, State, Tag, act, confirmed } from "../parts.js";

const TIERS = ["big", "middle", "small"];

export function Switches() {
  const { fleet } = useStore();
  const [{ content, error }, reload] = useView("routes", {}, 5);
  return html`
    <div class="bar"><h1>${t("switches")}</h1></div>
    <${Failure} text=${error} />
    ${!content && !error && html`<p class="muted">${t("loading")}</p>`}
    ${content?.entries.length === 0 && html`<div class="panel"><${Empty}>${t("no_entries")}</${Empty}></div>`}
    ${content?.entries.map((entry) => html`<${Entry} key=${entry.label} entry=${entry} entries=${content.entries} row=${fleet.rows.find((row) => row.label === entry.label)} reload=${reload} />`)}`;
}

function Entry({ entry, entries, row, reload }) {
  const { label } = entry;
  const [models, setModels] = useState({});
  const isRunning = Boolean(row?.pids.length);
  const send = async (command, body, what) => {
    if (await act(command, { label, ...body }, `${label}: ${what}`)) {
      setModels({});
      await reload();
    }
  };
  const bypass = async (isOn) => {
    if (isOn && !(await confirmed(t("bypass_text", { label }), { yes: t("turn_off") }))) return;
    await send("toggle", { proxy: isOn ? "off" : "on" }, t(isOn ? "turn_off" : "turn_on"));
  };
  return html`<section class="panel" aria-label=${label}>
    <div class="head"><h2>${label}</h2>${row && html`<${State} name=${row.state} />`}${entry.switch.name && html`<${Tag} tone="warn">${t("switched")} ${entry.switch.preset || ""}</${Tag}>`}</div>
    <dl class="facts">
      <dt>${t("models")}</dt>
      <dd><${Tiers} entry=${entry} entries=${entries} models=${models} setModels=${setModels} />
        <div class="actions">
          <${Button} class="primary" disabled=${!Object.values(models).some(Boolean)} aria-label=${`${t("apply")}: ${label}`} onClick=${() => send("switch", { models }, t("apply"))}>${t("apply")}</${Button}>
          <${Button} disabled=${!entry.switch.name} aria-label=${`${t("env_models")}: ${label}`} onClick=${() => send("switch", { reset: true }, t("own_models"))}>${t("env_models")}</${Button}>
        </div></dd>
      <dt>${t("presets")}</dt>
      <dd>${Object.keys(entry.presets).length === 0
        ? html`<span class="muted">${t("no_presets")}</span>`
        : Object.entries(entry.presets).map(([name, tiers]) => html`<${Button} class=${entry.switch.preset === name ? "primary" : ""} aria-label=${`${t("preset")} ${name}: ${label}`}
            title=${TIERS.map((tier) => tiers[tier] && `${t(tier)}: ${tiers[tier]}`).filter(Boolean).join(" · ")} onClick=${() => send("switch", { preset: name }, name)}>${name}</${Button}> `)}</dd>
      <dt>${t("proxy")}</dt>
      <dd>${entry.bypassed ? html`<span class="warn">${t("proxy_off")}</span>` : t("proxy_on")} <${Button} class="quiet" disabled=${!isRunning} aria-label=${`${t(entry.bypassed ? "turn_on" : "turn_off")}: ${label}`} onClick=${() => bypass(!entry.bypassed)}>${t(entry.bypassed ? "turn_on" : "turn_off")}</${Button}></dd>
      <dt>${t("history")}</dt>
      <dd>${t(row?.keeps_history ? "history_on" : "history_off")} <${Button} class="quiet" disabled=${!isRunning} aria-label=${`${t(row?.keeps_history ? "stop_recording" : "record")}: ${label}`} onClick=${() => send("toggle", { history: row?.keeps_history ? "off" : "on" }, t("history"))}>${t(row?.keeps_history ? "stop_recording" : "record")}</${Button}></dd>
    </dl>
  </section>`;
}

function Tiers({ entry, entries, models, setModels }) {
  const options = entries.flatMap((one) => one.models.map((model) => [`${one.label}:${model}`, one.label === entry.label ? model : `${one.label}:${model}`]));
  return html`<div class="pair tiers">${TIERS.map((tier) => {
    const current = entry.switch[tier] || entry.tiers[tier] || "";
    return html`<label><span class="muted">${t(tier)}</span>
      <${Choice} label=${`${t(tier)}: ${entry.label}`} value=${models[tier] || ""} options=${[["", current || t("as_requested")], ...options]} onChange=${(name) => setModels({ ...models, [tier]: name })} />
    </label>`;
  })}</div>`;
}
