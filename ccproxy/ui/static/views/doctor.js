// The checks of `ccproxy doctor`.

import { html, useState } from "../ui.js";
import { useStore, useView } from "../store.js";
import { t } from "../strings.js";
import { Button, Failure } from "../parts.js";

const TONES = { ok: "ok", warn: "warn", fail: "bad" };
const ORDER = ["fail", "warn", "ok"];

export function Doctor() {
  useStore();
  const [online, setOnline] = useState(false);
  const [showsPassed, setShowsPassed] = useState(false);
  const [{ content, error }, again] = useView("doctor", { online: online ? "1" : "" });
  const checks = (content?.checks || []).filter((check) => showsPassed || check.level !== "ok").sort((one, other) => ORDER.indexOf(one.level) - ORDER.indexOf(other.level));
  return html`
    <div class="bar">
      <h1>${t("doctor")}</h1>
      <label class="check"><input type="checkbox" checked=${showsPassed} onChange=${(event) => setShowsPassed(event.target.checked)} />${t("show_passed")}</label>
      <label class="check"><input type="checkbox" checked=${online} onChange=${(event) => setOnline(event.target.checked)} />${t("online")}</label>
      <${Button} onClick=${again}>${t("run_again")}</${Button}>
      ${content && html`<p class="note">${[t("failures", { count: content.fail }), t("warnings", { count: content.warn }), t("passed", { count: content.ok })].join(" · ")}</p>`}
    </div>
    <${Failure} text=${error} />
    ${!content && !error && html`<p class="muted">${t("loading")}</p>`}
    ${checks.length > 0 && html`<ul class="checks scroll">${checks.map((check) => html`<li>
      <span class=${`state ${TONES[check.level]}`}>${t(`level_${check.level}`)}</span>
      <span class="label">${check.name}</span>
      <div><p>${check.text}</p>${check.fix && html`<p class="fix">${t("fix")}: ${check.fix}</p>`}</div>
    </li>`)}</ul>`}`;
}
