// Which model answers which kind of request: drag a kind to a model, or choose it.

import { html, useState } from "../ui.js";
import { post, useStore, useView } from "../store.js";
import { t } from "../strings.js";
import { Choice, Empty, Failure, Table, act, say, showDialog } from "../parts.js";

const TIERS = ["big", "middle", "small"];

export function Routes() {
  useStore();
  const [{ content, error }, reload] = useView("routes", {});
  const [chosen, setChosen] = useState("");
  if (!content) return html`<div class="bar"><h1>${t("routes")}</h1></div>${error ? html`<${Failure} text=${error} />` : html`<p class="muted">${t("loading")}</p>`}`;
  const entry = content.entries.find((one) => one.label === chosen) || content.entries[0];
  return html`
    <div class="bar">
      <h1>${t("routes")}</h1>
      ${entry && html`<${Choice} label=${t("entry")} value=${entry.label} options=${content.entries.map((one) => [one.label, one.label])} onChange=${setChosen} />`}
      <p class="note">${t("routes_note")}</p>
    </div>
    ${content.mistakes.length > 0 && html`<${Failure} text=${`${t("in_mistakes")}:\n${content.mistakes.join("\n")}`} />`}
    ${entry ? html`<${RulesOf} key=${entry.label} entry=${entry} content=${content} reload=${reload} />` : html`<div class="panel"><${Empty}>${t("no_entries")}</${Empty}></div>`}`;
}

// The entry's own models are shown by name, those of others with their label.
const nameOf = (home, label, model) => (home === label ? model : `${label}:${model}`);

function RulesOf({ entry, content, reload }) {
  const [dragged, setDragged] = useState("");
  const { label } = entry;
  const change = (rule, model) => propose(content.file, label, rule, model, reload);
  const groups = content.entries.map((one) => [one.label, [...TIERS.filter((tier) => one.tiers[tier] && one.label !== label), ...one.models].map((model) => nameOf(label, one.label, model))]);
  const more = [...Object.entries(entry.agents).map(([agent, model]) => [`${t("agents")}: ${agent}`, model]), ...(entry.fallback.length ? [[t("fallback"), entry.fallback.join(" → ")]] : [])];
  return html`<div class="routes">
    <div>
      <${Table} label=${t("routes")} columns=${[[t("rule")], [t("model")]]}>
        ${content.rules.map((rule) => html`<tr key=${rule} class=${`rule${entry.rules[rule] ? " set" : ""}${dragged === rule ? " dragged" : ""}`} draggable="true"
            onDragStart=${(event) => { event.dataTransfer.setData("text/plain", rule); event.dataTransfer.effectAllowed = "link"; setDragged(rule); }} onDragEnd=${() => setDragged("")}>
          <td><span class="grip" aria-hidden="true">⋮⋮</span><span class="mono">${rule}</span> <span class="muted">${t(`rule_${rule}`)}</span></td>
          <td><${ModelChoice} rule=${rule} current=${entry.rules[rule] || ""} groups=${groups} onChange=${(model) => change(rule, model)} /></td>
        </tr>`)}
        ${more.map(([name, value]) => html`<tr><td>${name}</td><td class="mono wrap">${value}</td></tr>`)}
      </${Table}>
    </div>
    <div class="models">
      ${groups.map(([name, models]) => html`<section aria-label=${`${t("models")} ${name}`}>
        <h2>${name}</h2>
        <ul tabindex="0" aria-label=${`${t("models")} ${name}`}>${models.map((model) => html`<${Target} key=${model} model=${model} isActive=${Boolean(dragged)} onDrop=${(rule) => change(rule, model)} />`)}</ul>
      </section>`)}
    </div>
  </div>`;
}

function ModelChoice({ rule, current, groups, onChange }) {
  const known = groups.some(([, models]) => models.includes(current));
  return html`<select aria-label=${`${rule}: ${t("model")}`} value=${current} onChange=${(event) => { onChange(event.target.value); event.target.value = current; }}>
    <option value="" selected=${!current}>${t("by_tier")}</option>
    ${current && !known && html`<option value=${current} selected>${current}</option>`}
    ${groups.map(([name, models]) => html`<optgroup label=${name}>${models.map((model) => html`<option value=${model} selected=${model === current}>${model}</option>`)}</optgroup>`)}
  </select>`;
}

function Target({ model, isActive, onDrop }) {
  const [isOver, setOver] = useState(false);
  const over = (event) => {
    if (!isActive) return;
    event.preventDefault();
    setOver(true);
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    onDrop(event.dataTransfer.getData("text/plain"));
  };
  return html`<li class=${isOver ? "target" : ""} onDragOver=${over} onDragLeave=${() => setOver(false)} onDrop=${drop}>${model}</li>`;
}

async function propose(file, label, rule, model, reload) {
  const body = { label, rule, model: model || null };
  try {
    const { diff } = await post("routes", body);
    if (!diff) return say(t("no_change"));
    const answer = async (yes) => {
      if (!yes) return;
      const written = await act("routes", { ...body, write: true }, `${label}: ${rule}`);
      if (!written) return;
      await reload();
      say(t("written_text"), { action: { text: t("reload"), run: () => act("entries", { action: "reload" }, t("reload")) } });
    };
    showDialog(t("change_of", { file }), html`<${Diff} text=${diff} />`, { yes: t("write"), answer });
  } catch (error) {
    say(error.message, { failed: true });
  }
  return undefined;
}

const Diff = ({ text }) => html`<pre class="code diff" tabindex="0">${text.split("\n").map((line) => html`<span class=${line[0] === "+" ? "add" : line[0] === "-" ? "del" : "muted"}>${line}\n</span>`)}</pre>`;
