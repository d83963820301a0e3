/* Copy buttons. Without JavaScript they stay hidden, and nothing else is missing. */
document.querySelectorAll("[data-copy]").forEach((button) => {
  if (!navigator.clipboard) return; // only over HTTPS and on localhost
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; }, 1500);
  });
});
