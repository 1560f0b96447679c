// Exchanges the one-time code in the fragment for a session.

const state = document.getElementById("state");
const form = document.getElementById("form");
const input = document.getElementById("code");

async function signIn(code) {
  const answer = await fetch("/session", { method: "POST", body: JSON.stringify({ code }) });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  localStorage.setItem("ccproxy.token", content.token);
  location.replace("/");
}

function ask(text) {
  state.textContent = text;
  form.hidden = false;
  input.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  // The user may also paste the whole link.
  signIn(input.value.trim().split("#").pop()).catch((error) => ask(`Not signed in: ${error.message}`));
});

// Also runs if a new link is opened while the page shows that an old one has failed.
function begin() {
  const code = location.hash.slice(1);
  history.replaceState(null, "", "/");
  if (code && !code.startsWith("/")) {
    signIn(code).catch((error) => ask(`Not signed in: ${error.message}`));
  } else {
    ask("This page needs a one-time code.");
  }
}

addEventListener("hashchange", begin);
begin();
