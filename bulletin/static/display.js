// The big screen: when the log has grown, take the new content in without a flash. Without this script the page refreshes itself.

document.querySelector('meta[http-equiv="refresh"]')?.remove();

async function refresh() {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.querySelector("main").replaceWith(page.querySelector("main"));
}

const events = new EventSource("/api/v1/events");
events.addEventListener("head", () => refresh().catch(() => {}));
// A connection that was lost may have missed a head: look again as soon as it stands.
events.addEventListener("open", () => refresh().catch(() => {}));
