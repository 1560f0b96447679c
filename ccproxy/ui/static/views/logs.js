// The last lines of all logs.

import { html, useEffect, useRef, useState } from "../ui.js";
import { useStore, useView } from "../store.js";
import { clock } from "../format.js";
import { t } from "../strings.js";
import { Choice, Empty, EntryChoice, Failure } from "../parts.js";

const LEVELS = ["", "debug", "info", "warning", "error"];
const TONES = { error: "bad", critical: "bad", warning: "warn" };
const SECONDS = 2;
const LINES = 400;

export function Logs() {
  useStore();
  const [label, setLabel] = useState("");
  const [level, setLevel] = useState("");
  const [text, setText] = useState("");
  const [follows, setFollows] = useState(true);
  const [{ content, error }] = useView("logs", { label, level, count: LINES }, follows ? SECONDS : 0);
  const list = useRef(null);
  const lines = (content?.lines || []).filter((line) => `${line.text} ${line.request}`.toLowerCase().includes(text.toLowerCase()));
  const last = lines.at(-1);
  useEffect(() => {
    if (follows && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [last?.at, last?.text, follows, lines.length]);
  return html`
    <div class="bar">
      <h1>${t("logs")}</h1>
      <input type="search" aria-label=${t("filter")} placeholder=${t("filter")} value=${text} onInput=${(event) => setText(event.target.value)} />
      <${EntryChoice} value=${label} onChange=${setLabel} more=${[["supervisor", t("supervisor")]]} />
      <${Choice} label=${t("level")} value=${level} options=${LEVELS.map((name) => [name, name || t("all")])} onChange=${setLevel} />
      <label class="check"><input type="checkbox" checked=${follows} onChange=${(event) => setFollows(event.target.checked)} />${t("follow")}</label>
    </div>
    <${Failure} text=${error} />
    ${content && (lines.length
      ? html`<ol class="log" ref=${list} tabindex="0" aria-label=${t("logs")}>${lines.map((line) => html`<li>
          <span class="muted">${clock(line.at)}</span><span title=${line.source}>${line.source}</span>
          <span class=${TONES[line.level] || "muted"}>${line.level}</span><span>${stripped(line)}</span></li>`)}</ol>`
      : html`<div class="panel"><${Empty}>${t("no_lines")}</${Empty}></div>`)}`;
}

// The text starts with the time and, in some lines, the level, which have their own columns.
const stripped = (line) => line.text.replace(/^(\d\d-\d\d )?\d\d:\d\d:\d\d(\.\d+)?\s+/, "").replace(/^[A-Z]+ +/, "");
