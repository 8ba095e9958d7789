// The round that trains now: asked of the server every two seconds; where files changed, the page comes anew.
const WAIT = 2000;
const panel = document.getElementById("live");
const number = new Intl.NumberFormat("en");
let stamp = null;
let points = -1;

function minutes(seconds) {
  if (seconds === null) return "time left unknown";
  return seconds < 90 ? `${Math.round(seconds)} s left` : `${Math.round(seconds / 60)} min left`;
}

function losses(live) {
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    width: "container", height: 160, autosize: { type: "fit", contains: "padding" },
    data: { values: live.losses.map(([step, loss]) => ({ step, loss })) },
    mark: { type: "line", strokeWidth: 2 },
    encoding: {
      x: { field: "step", type: "quantitative", scale: { domain: [0, live.steps] }, axis: { tickCount: 6 } },
      y: { field: "loss", type: "quantitative", title: "training loss", scale: { zero: false } },
    },
  };
}

function show(live) {
  panel.hidden = !live;
  if (!live) return;
  const loss = live.losses.at(-1)?.[1];
  document.getElementById("live-text").textContent = [
    `round ${live.round}`, `step ${number.format(live.step)} of ${number.format(live.steps)}`,
    ...(loss === undefined ? [] : [`loss ${loss.toFixed(4)}`]),
    live.stopped ? "stopped: nothing was written for ten minutes" : minutes(live.seconds_left),
  ].join(" · ");
  document.getElementById("live-bar").value = live.steps ? live.step / live.steps : 0;
  document.getElementById("live-scores").textContent =
    live.scores.map(([epoch, score]) => `epoch ${epoch}: MAP@25 ${score.toFixed(4)}`).join(", ") || "MAP@25 after the first epoch";
  if (live.losses.length !== points && live.losses.length > 1) {
    points = live.losses.length;
    window.drawChart(document.getElementById("live-chart"), losses(live));
  }
}

async function poll() {
  try {
    const answer = await (await fetch("live.json", { cache: "no-store" })).json();
    show(answer.live);
    if (stamp !== null && answer.stamp !== stamp) location.reload();
    stamp = answer.stamp;
  } catch {
    document.getElementById("live-text").textContent = "the server does not answer";
  }
  setTimeout(poll, WAIT);
}
poll();
