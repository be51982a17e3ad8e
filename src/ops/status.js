// Renews the page in place every two seconds. Without it the page shows the same and loads itself anew.
"use strict";

const EVERY = 2000;
const live = document.getElementById("live");
const pause = document.getElementById("pause");
let paused = false;
let renewed = 0;

// role=status is read out when it changes, so it changes only when there is news.
function say(text) {
  if (live.textContent !== text) live.textContent = text;
}

// The page is not renewed while it is paused or hidden, or while somebody selects text.
function isBusy() {
  const selection = document.getSelection();
  return paused || document.hidden || (selection !== null && !selection.isCollapsed);
}

async function renew() {
  const reply = await fetch(document.URL, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!reply.ok) throw new Error(reply.status);
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html").getElementById("status");
  const shown = document.getElementById("status");
  const scrolled = [...shown.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  const focused = [...shown.querySelectorAll(".scroll")].indexOf(document.activeElement);
  shown.replaceChildren(...fresh.childNodes);
  const boxes = [...shown.querySelectorAll(".scroll")];
  boxes.forEach((box, n) => { box.scrollLeft = scrolled[n] ?? 0; });
  boxes[focused]?.focus({ preventScroll: true });
  renewed += 1;
  document.documentElement.dataset.renewed = renewed;
}

async function run() {
  if (!isBusy()) {
    try {
      await renew();
      document.body.classList.remove("old");
      say("Live: renewed every two seconds.");
    } catch {
      document.body.classList.add("old");
      say("No answer: the figures above are old. Trying again.");
    }
  }
  setTimeout(run, EVERY);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on" : "Pause";
  say(paused ? "Paused: the figures above stay as they are." : "Live: renewed every two seconds.");
});
setTimeout(run, EVERY);
