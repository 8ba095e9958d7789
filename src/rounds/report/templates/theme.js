// Light or dark theme: the system's preference until the reader chooses.
{
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("rounds-theme"); } catch { /* a page opened from disk may have no storage */ }

  function applyTheme() {
    const theme = chosen ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    button.setAttribute("aria-pressed", theme === "dark");
    document.dispatchEvent(new Event("theme"));
  }

  button.addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("rounds-theme", chosen); } catch { /* no storage: the choice lasts until the page is closed */ }
    applyTheme();
  });
  system.addEventListener("change", applyTheme);
  applyTheme();
}
