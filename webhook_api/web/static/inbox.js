// The inbox works without this: it shows times in the reader's zone, tells of new messages,
// copies a message, and shows none after a logout.
"use strict";

// A browser may keep a page alive for the way back, even when its reader has logged out meanwhile.
const logout = document.getElementById("logout");
addEventListener("pageshow", (event) => {
  if (event.persisted && logout) {
    document.body.hidden = true;
    location.reload();
  }
});

const clock = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };
const ofThisYear = new Intl.DateTimeFormat(undefined, clock);
const ofAnotherYear = new Intl.DateTimeFormat(undefined, { year: "numeric", ...clock });
for (const element of document.querySelectorAll("time[datetime]")) {
  const time = new Date(element.dateTime.replace(/(\.\d{3})\d+/, "$1"));
  if (!Number.isNaN(time.getTime())) {
    const isThisYear = time.getFullYear() === new Date().getFullYear();
    element.textContent = (isThisYear ? ofThisYear : ofAnotherYear).format(time);
  }
}

const LOOK_MS = 5000;
const LONGEST_MS = 120000;
const line = document.getElementById("new");

if (line) {
  let wait = LOOK_MS;
  let timer = 0;
  let stopped = false;

  const look = async () => {
    try {
      const reply = await fetch(line.dataset.url);
      if (reply.status === 503) {
        const asked = Number(reply.headers.get("Retry-After")) * 1000;
        wait = Math.min(Math.max(wait * 2, asked || 0), LONGEST_MS);
      } else if (reply.ok) {
        wait = LOOK_MS;
        tell((await reply.json()).new);
      } else {
        stopped = true; // the session has ended
      }
    } catch {
      wait = Math.min(wait * 2, LONGEST_MS);
    }
    plan();
  };
  const plan = () => {
    clearTimeout(timer);
    if (!stopped && !document.hidden) {
      timer = setTimeout(look, wait);
    }
  };
  const tell = (count) => {
    const text = `${count < 100 ? count : "100 or more"} new message${count === 1 ? "" : "s"}`;
    if (count > 0 && line.textContent !== text) {
      const link = document.createElement("a");
      link.href = line.dataset.show;
      link.textContent = text;
      line.replaceChildren(link);
    }
  };
  document.addEventListener("visibilitychange", plan);
  plan();
}

const copy = document.getElementById("copy");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const told = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(document.getElementById("json").textContent);
      told.textContent = "Copied.";
    } catch {
      told.textContent = "The browser does not allow it.";
    }
  });
}
