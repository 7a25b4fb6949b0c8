// Switches between light and dark, and remembers it in a cookie: the server renders the choice, so nothing flashes.
const YEAR_SECONDS = 31_536_000;
const root = document.documentElement;

document.querySelector("#theme").addEventListener("click", () => {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const next = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  root.dataset.theme = next;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `theme=${next}; Path=/; Max-Age=${YEAR_SECONDS}; SameSite=Strict${secure}`;
});
