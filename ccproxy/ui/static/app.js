// The frame of the page: navigation, theme, language, keyboard shortcuts.

import { html, render, useEffect, useRef } from "./ui.js";
import { follow, keepSetting, setting, signOut, store, useStore } from "./store.js";
import { setLanguage, t } from "./strings.js";
import { Dialog, Segments, Toasts, showDialog } from "./parts.js";
import { Overview } from "./views/overview.js";
import { Requests } from "./views/requests.js";
import { Inspector } from "./views/inspector.js";
import { Usage } from "./views/usage.js";
import { Keys } from "./views/keys.js";
import { Routes } from "./views/routes.js";
import { Switches } from "./views/switches.js";
import { Logs } from "./views/logs.js";
import { Doctor } from "./views/doctor.js";

const VIEWS = {
  overview: Overview,
  requests: Requests,
  inspector: Inspector,
  usage: Usage,
  keys: Keys,
  routes: Routes,
  switches: Switches,
  logs: Logs,
  doctor: Doctor,
};
const NAMES = Object.keys(VIEWS);

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a link that was cut off
  }
}

function place() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  return VIEWS[name] ? [name, rest] : ["overview", []];
}

const systemTheme = matchMedia("(prefers-color-scheme: dark)");

function useLook() {
  useStore();
  const theme = setting("theme", systemTheme.matches ? "dark" : "light");
  const language = setting("language", navigator.language.startsWith("zh") ? "zh" : "en");
  setLanguage(language);
  document.documentElement.dataset.theme = theme;
  return [theme, language];
}

function App() {
  const [theme, language] = useLook();
  const { connection } = useStore();
  const main = useRef(null);
  const [name, rest] = place();
  useEffect(() => {
    const change = () => store.change();
    addEventListener("hashchange", () => {
      // A new link was opened after the session ended.
      if (store.connection === "signed_out" && !location.hash.startsWith("#/")) signOut();
      change();
    });
    addEventListener("keydown", onKey);
    systemTheme.addEventListener("change", change);
    const timer = setInterval(change, 1000); // clocks
    return () => clearInterval(timer);
  }, []);
  useEffect(() => {
    document.title = `${t(name)} · ccproxy`;
    main.current.scrollTop = 0;
    document.querySelector(".side [aria-current]").scrollIntoView({ block: "nearest", inline: "center" });
  }, [name, language]);
  const View = VIEWS[name];
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>${t("skip")}</a>
    <div class="frame">
      <${Side} current=${name} theme=${theme} language=${language} connection=${connection} />
      <main id="main" ref=${main} tabindex="-1">
        ${connection === "lost" && html`<p class="error" role="alert">${t("lost_text")}</p>`}
        ${connection === "signed_out" && html`<p class="error" role="alert">${t("signed_out_text")} <button onClick=${signOut}>${t("sign_out")}</button></p>`}
        <${View} key=${name} place=${rest} />
      </main>
    </div>
    <${Toasts} /><${Dialog} />`;
}

function Side({ current, theme, language, connection }) {
  const tone = { live: "ok", connecting: "warn" }[connection] || "bad";
  return html`<nav class="side" aria-label=${t("views")}>
    <div class="brand"><img src="/icon.svg" alt="" />ccproxy</div>
    <ul>${NAMES.map((name, index) => html`<li><a href=${`#/${name}`} aria-current=${name === current ? "page" : undefined}>
      ${t(name)}<kbd aria-hidden="true">${index + 1}</kbd></a></li>`)}</ul>
    <div class="foot">
      <span class=${`state ${tone}`}>${t(connection)}</span>
      <span class="address mono">${location.host}</span>
      <div class="pair">
        <${Segments} label=${t("theme")} value=${theme} options=${[["light", "☀"], ["dark", "☾"]].map(([name, mark]) => [name, html`<span aria-hidden="true">${mark}</span><span class="hidden">${t(name)}</span>`])}
          onChange=${(name) => keepSetting("theme", name)} />
        <${Segments} label=${t("language")} value=${language} options=${[["en", "EN"], ["zh", "中"]]} onChange=${(name) => keepSetting("language", name)} />
      </div>
    </div>
  </nav>`;
}

// Keyboard shortcuts: digits open views, / searches, ? lists the shortcuts.

function onKey(event) {
  const isTyping = event.target.matches("input, select, textarea");
  if (isTyping && event.key === "Escape") event.target.blur();
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const view = NAMES[Number(event.key) - 1];
  const search = document.querySelector("main input[type=search]");
  if (view) location.hash = `#/${view}`;
  else if (event.key === "/" && search) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "?") showDialog(t("help"), help());
}

const help = () => html`<dl class="help">
  ${[["1 – 9", "help_views"], ["/", "help_search"], ["↑ ↓", "help_rows"], ["Enter", "help_open"], ["?", "help_help"], ["Esc", "help_close"]]
    .map(([key, text]) => html`<dt><kbd>${key}</kbd></dt><dd>${t(text)}</dd>`)}
</dl>`;

if (!location.hash.startsWith("#/")) history.replaceState(null, "", "/#/overview");
render(html`<${App} />`, document.getElementById("app"));
follow();
