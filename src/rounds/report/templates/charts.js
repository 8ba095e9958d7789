// Draw charts only when they come near the screen, so that the page loads at once.
const specs = JSON.parse(document.getElementById("specs").textContent);
const themes = JSON.parse(document.getElementById("themes").textContent);
const drawn = new Map();

async function draw(container, spec) {
  drawn.set(container, spec);
  const config = themes[document.documentElement.dataset.theme];
  // ast: interpret expressions, so that the page's security policy can forbid eval.
  const options = { config, actions: false, renderer: "svg", ast: true };
  try {
    await window.vegaEmbed(container, spec, options);
    container.dataset.drawn = "";
  } catch (error) {
    console.error(error);
  }
}
window.drawChart = draw;

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    draw(target, specs[target.dataset.plot]);
  }
}, { rootMargin: "600px" });

for (const container of document.querySelectorAll(".chart[data-plot]")) observer.observe(container);
document.addEventListener("theme", () => { for (const [container, spec] of drawn) draw(container, spec); });
addEventListener("beforeprint", () => {
  for (const container of document.querySelectorAll(".chart[data-plot]:not([data-drawn])")) draw(container, specs[container.dataset.plot]);
});
