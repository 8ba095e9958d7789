// Charts are drawn when they come near the screen, so that the page is there at once.
const specs = JSON.parse(document.getElementById("specs").textContent);
const themes = JSON.parse(document.getElementById("themes").textContent);
const drawn = new Map();

async function draw(place, spec) {
  drawn.set(place, spec);
  const config = themes[document.documentElement.dataset.theme];
  // ast: expressions are interpreted, so that the page's policy can forbid eval.
  const options = { config, actions: false, renderer: "svg", ast: true };
  try {
    await window.vegaEmbed(place, spec, options);
    place.dataset.drawn = "";
  } catch (error) {
    console.error(error);
  }
}
window.drawChart = draw;

const watch = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    watch.unobserve(target);
    draw(target, specs[target.dataset.plot]);
  }
}, { rootMargin: "600px" });

for (const place of document.querySelectorAll(".chart[data-plot]")) watch.observe(place);
document.addEventListener("theme", () => { for (const [place, spec] of drawn) draw(place, spec); });
addEventListener("beforeprint", () => {
  for (const place of document.querySelectorAll(".chart[data-plot]:not([data-drawn])")) draw(place, specs[place.dataset.plot]);
});
