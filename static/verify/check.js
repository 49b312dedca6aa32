// The scan page's button: what checks is fetched when it is pressed. Without this script there is no button.

for (const place of document.querySelectorAll("[data-check]")) {
  const button = place.querySelector("button");
  place.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    const { show } = await import("./page.js");
    await show(place);
    button.disabled = false;
  });
}
