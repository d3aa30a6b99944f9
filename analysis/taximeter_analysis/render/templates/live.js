
// Follow the store: while the box is ticked, load the page again when there is something new.
const live = document.getElementById("live");
if (live) {
  const news = document.getElementById("news");
  live.checked = sessionStorage.getItem("live") === "1";
  live.addEventListener("change", () => {
    sessionStorage.setItem("live", live.checked ? "1" : "0");
    look();
  });
  const look = async () => {
    try {
      const answer = await fetch("/stamp", { cache: "no-store" });
      const stamp = await answer.text();
      if (!answer.ok || stamp === live.dataset.stamp) { news.textContent = ""; return; }
      if (live.checked) location.reload();
      else news.textContent = "The store has something new: tick the box, or load the page again.";
    } catch {
      news.textContent = "taximeter serve does not answer any more.";
    }
  };
  setInterval(look, 2000);
}
