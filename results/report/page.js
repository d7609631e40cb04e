"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const scale = (colors) => colors.map((color, i) => [i / (colors.length - 1), color]);
  const themes = {
    light: {
      palette: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9"],
      text: "#1b1f24", muted: "#57606a", faint: "rgba(87,96,106,.32)", band: "rgba(87,96,106,.14)", grid: "#e1e4e8",
      back: "#ffffff", lit: "#c2004d", one: scale(["#dfe3e8", "#c2004d"]), scale: scale(["#c9ced6", "#6b93bd", "#08306b"]), best: scale(["#dfe3e8", "#b7c6d8", "#7f9fc4", "#3f6ba3", "#08306b"]),
    },
    dark: {
      palette: ["#56b4e9", "#ff8c42", "#2fd6a3", "#e79fc6", "#ffffff", "#e6c229", "#4a86e8"],
      text: "#e6e9ed", muted: "#a3acb8", faint: "rgba(190,198,208,.28)", band: "rgba(190,198,208,.13)", grid: "#343b45",
      back: "#1d2127", lit: "#ff5c93", one: scale(["#3d4756", "#ff5c93"]), scale: scale(["#525c69", "#a59a63", "#fee838"]), best: scale(["#3d4756", "#55627a", "#8d8f72", "#c9bb55", "#fee838"]),
    },
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const theme = () => themes[dark.matches && !printing ? "dark" : "light"];

  // Colours are names (@3, @muted) under these keys only: a study's own text is never taken for one.
  const colored = new Set(["color", "colorscale", "fillcolor"]);
  function paint(value, key) {
    if (typeof value === "string") {
      if (!colored.has(key) || value[0] !== "@") return value;
      const name = value.slice(1);
      return /^\d+$/.test(name) ? theme().palette[name - 1] : theme()[name];
    }
    if (Array.isArray(value)) return typeof value[0] === "object" ? value.map((item) => paint(item)) : value;
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, paint(item, name)]));
  }

  // The places on a logarithmic axis: 1, 2, 5 x 10^k, and more where it is short.
  function stepsOf(view) {
    const steps = [], fine = view && view[1] < 6 * view[0];
    for (let power = -9; power < 3; power++)
      for (const step of fine ? [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9] : [1, 2, 3, 5]) steps.push(Number(`${step}e${power}`));
    return steps;
  }

  function layoutOf(figure) {
    const { text, grid, back, muted } = theme();
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: muted, automargin: true };
    const layout = paint(figure.layout);
    const legend = { orientation: "h", yref: "container", yanchor: "bottom", y: 0, x: 0, traceorder: "normal", font: { size: 11 } };
    const yaxis = { ...axis, ...layout.yaxis };
    if (figure.log) yaxis.type = figure.logged ? "log" : "linear";
    if (figure.view) yaxis.range = figure.logged ? figure.view.map(Math.log10) : figure.view;
    if (figure.logged) {
      const tickvals = stepsOf(figure.view);
      Object.assign(yaxis, { tickvals, ticktext: tickvals.map(String) });
    }
    return {
      font: { family: "system-ui, sans-serif", size: 12, color: text }, margin: { t: 28, r: 15, b: 45, l: 60 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: figure.height, legend,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: text },
      hoverlabel: { bgcolor: back, font: { color: text } }, ...layout, xaxis: { ...axis, ...layout.xaxis }, yaxis,
    };
  }

  const configOf = (place, figure) => ({
    displaylogo: false, responsive: true, displayModeBar: place.closest(".small") ? false : undefined,
    modeBarButtons: [figure.data[0].type === "parcoords" ? ["toImage"] : ["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  });
  const canvas = document.createElement("canvas");
  const webgl = Boolean(canvas.getContext("webgl"));

  function draw(place) {
    const figure = figures[place.dataset.plot];
    if (figure.data[0].type === "parcoords" && !webgl) {
      place.textContent = "This plot needs WebGL, which this browser does not offer.";
      place.dataset.drawn = "no";
      return Promise.resolve();
    }
    const layout = layoutOf(figure);
    if (printing) layout.width = Math.min(place.clientWidth, place.closest(".small") ? 215 : 680);
    return Plotly.react(place, [...painted(figure), ...lit(figure)], layout, configOf(place, figure)).then(() => {
      place.dataset.drawn = "yes";
      if (!place.dataset.listens) listen(place, figure);
    });
  }

  // A trial that is clicked, in a plot or in the table, is shown in all plots.
  let chosen = null;  // {study, trial}
  const mine = (figure) => chosen !== null && figure.study === chosen.study;
  const wide = { color: "@lit", width: 4 };

  // Parallel coordinates have one colour for each line: the chosen one's is beyond the scale of the others.
  function painted(figure) {
    const [first] = figure.data;
    if (first.type !== "parcoords" || !mine(figure)) return paint(figure.data);
    const color = first.meta.trials.map((trial) => Number(trial === chosen.trial));
    return paint([{ ...first, line: { color, cmin: 0, cmax: 1, colorscale: "@one" } }]);
  }

  function lit(figure) {
    if (!mine(figure) || figure.data[0].type === "parcoords") return [];
    const traces = [];
    for (const trace of figure.data) {
      const whole = trace.meta?.trial === chosen.trial;
      if (!whole && !trace.customdata) continue;
      const at = trace.x.map((_, i) => i).filter((i) => whole || trace.customdata[i] === chosen.trial);
      if (!at.length) continue;
      traces.push(paint({
        type: "scatter", x: at.map((i) => trace.x[i]), y: at.map((i) => trace.y[i]), hoverinfo: "skip", showlegend: false,
        mode: trace.mode.includes("lines") ? "lines" : "markers", line: wide,
        marker: { color: "@lit", size: 13, symbol: "circle-open", line: { color: "@lit", width: 3 } },
      }));
    }
    return traces;
  }

  const told = document.getElementById("chosen");
  function choose(next) {
    const again = next && chosen && next.study === chosen.study && next.trial === chosen.trial;
    chosen = again ? null : next;
    for (const row of document.querySelectorAll("tr[data-trial]"))
      row.classList.toggle("lit", chosen !== null && row.dataset.study === chosen.study && Number(row.dataset.trial) === chosen.trial);
    told.hidden = chosen === null;
    if (chosen) told.firstElementChild.textContent = `trial ${chosen.trial} of ${chosen.study} is shown in all plots`;
    redraw(false);
  }
  told.querySelector("button").addEventListener("click", () => choose(null));
  addEventListener("keydown", (event) => { if (event.key === "Escape" && chosen) choose(null); });
  for (const row of document.querySelectorAll("tr[data-trial]"))
    row.addEventListener("click", () => choose({ study: row.dataset.study, trial: Number(row.dataset.trial) }));

  function listen(place, figure) {
    place.dataset.listens = "yes";
    if (!figure.study) return;
    place.on("plotly_click", ({ points: [point] }) => {
      const trial = point.customdata ?? point.data.meta?.trial;
      if (trial !== undefined && trial !== null) choose({ study: figure.study, trial });
    });
  }
  const places = [...document.querySelectorAll("[data-plot]")];
  const redraw = (all) => places.filter((place) => all || place.dataset.drawn === "yes").forEach(draw);

  // A plot is drawn when it comes near the screen: a long page opens at once.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !entry.target.dataset.drawn) {
        entry.target.dataset.drawn = "soon";
        draw(entry.target);
      }
    }
  }, { rootMargin: "500px" });
  places.forEach((place) => near.observe(place));
  dark.addEventListener("change", () => redraw(false));
  addEventListener("beforeprint", () => { printing = true; redraw(true); });
  addEventListener("afterprint", () => { printing = false; redraw(false); });

  for (const button of document.querySelectorAll("[data-log]")) {
    button.addEventListener("click", () => {
      const figure = figures[button.dataset.log];
      figure.logged = !figure.logged;
      button.setAttribute("aria-pressed", String(figure.logged));
      draw(document.querySelector(`[data-plot="${button.dataset.log}"]`));
    });
  }

  function sortBy(header) {
    const body = header.closest("table").tBodies[0];
    const column = header.cellIndex;
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = [...body.rows].map((row) => {
      const cell = row.cells[column];
      const text = cell.textContent;
      return { row, text, value: cell.dataset.v === undefined ? null : Number(cell.dataset.v) };
    });
    keyed.sort((a, b) => {
      if (!a.text || !b.text) return Boolean(b.text) - Boolean(a.text); // what is missing stays at the end
      const order = a.value !== null && b.value !== null ? a.value - b.value : a.text.localeCompare(b.text);
      return down ? -order : order;
    });
    body.append(...keyed.map((item) => item.row));
  }
  for (const button of document.querySelectorAll("table.sortable th button")) {
    button.addEventListener("click", () => sortBy(button.parentNode));
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected: press Ctrl-C";
      }
    });
  }

  const seen = document.body.dataset.state;
  if (seen !== undefined) {
    setInterval(async () => {
      if (document.hidden) return;
      try {
        const answer = await fetch("state", { cache: "no-store" });
        if ((await answer.text()) !== seen) location.reload();
      } catch { /* the server has stopped: the page stays as it is */ }
    }, 5000);
  }
})();
