// Poll the server for the round in training, and reload the page when its files changed.
const POLL_MS = 2000;
const panel = document.getElementById("live");
const number = new Intl.NumberFormat("en");
let stamp = null;
let pointsDrawn = -1;

function timeLeft(seconds) {
  if (seconds === null) return "time left unknown";
  return seconds < 90 ? `${Math.round(seconds)} s left` : `${Math.round(seconds / 60)} min left`;
}

function lossSpec(live) {
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

function showProgress(live) {
  panel.hidden = !live;
  if (!live) return;
  const loss = live.losses.at(-1)?.[1];
  document.getElementById("live-text").textContent = [
    `round ${live.round}`, `step ${number.format(live.step)} of ${number.format(live.steps)}`,
    ...(loss === undefined ? [] : [`loss ${loss.toFixed(4)}`]),
    live.stopped ? "stopped: nothing was written for ten minutes" : timeLeft(live.seconds_left),
  ].join(" · ");
  document.getElementById("live-bar").value = live.steps ? live.step / live.steps : 0;
  document.getElementById("live-scores").textContent =
    live.scores.map(([epoch, score]) => `epoch ${epoch}: MAP@25 ${score.toFixed(4)}`).join(", ") || "MAP@25 after the first epoch";
  if (live.losses.length !== pointsDrawn && live.losses.length > 1) {
    pointsDrawn = live.losses.length;
    window.drawChart(document.getElementById("live-chart"), lossSpec(live));
  }
}

async function poll() {
  try {
    const answer = await (await fetch("live.json", { cache: "no-store" })).json();
    showProgress(answer.live);
    if (stamp !== null && answer.stamp !== stamp) location.reload();
    stamp = answer.stamp;
  } catch {
    document.getElementById("live-text").textContent = "the server does not answer";
  }
  setTimeout(poll, POLL_MS);
}
poll();
