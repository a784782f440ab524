"use strict";
(() => {
  const FONT = {family: '"Liberation Sans", Arial, sans-serif', size: 12, color: "#1a1a1a"};
  const CONFIG = {displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"]};
  const MOST_DRAWN = 12000; // bouts that are drawn one by one; of more, those that the screen can show

  // Tables: a click on a column sorts by it, another one the other way round. Empty figures stay last.
  function sortBy(table, column) {
    const head = table.tHead.rows[0].cells[column], body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const numbers = head.classList.contains("number");
    const keyed = [...body.rows].map((row) => [row.cells[column].dataset.sort, row]);
    const order = (a, b) => numbers ? Number(a) - Number(b) : a.localeCompare(b, undefined, {numeric: true});
    keyed.sort(([a], [b]) => a === undefined || b === undefined ?
      (a === undefined) - (b === undefined) : (down ? -1 : 1) * order(a, b));
    body.append(...keyed.map(([, row]) => row));
  }
  for (const table of document.querySelectorAll("table.sortable"))
    [...table.tHead.rows[0].cells].forEach((cell, column) =>
      cell.querySelector("button").addEventListener("click", () => sortBy(table, column)));

  const common = (layout) => Object.assign({
    font: FONT, margin: {l: 10, r: 10, t: 10, b: 10, autoexpand: true}, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
  }, layout);

  function drawPlot(place, {data, layout}) {
    return Plotly.newPlot(place, data, common(Object.assign(layout, {margin: {l: 60, r: 16, t: 16, b: 50}})), CONFIG);
  }

  // Bouts of a lane as [class, from, to] in the axis' unit, inside [from, to]. Where there are too many to tell apart,
  // each of the lane's pixels shows the class that has most of it.
  function visible(flat, fps, from, to) {
    const found = [];
    for (let i = 0; i < flat.length; i += 3) {
      const start = flat[i + 1] / fps, stop = flat[i + 2] / fps;
      if (stop > from && start < to) found.push([flat[i], start, stop]);
    }
    return found;
  }
  function coarse(found, from, to, pixels, nClasses) {
    const width = (to - from) / pixels, shares = new Float64Array(pixels * nClasses), runs = [];
    for (const [id, start, stop] of found) {
      const first = Math.max(0, Math.floor((start - from) / width));
      for (let bin = first; bin < pixels && from + bin * width < stop; bin++)
        shares[bin * nClasses + id] += Math.min(stop, from + (bin + 1) * width) - Math.max(start, from + bin * width);
    }
    for (let bin = 0; bin < pixels; bin++) {
      let best = -1, most = width / 2;
      for (let id = 0; id < nClasses; id++) {
        const share = shares[bin * nClasses + id];
        if (share > 0 && (best < 0 || share > most)) { best = id; most = share; }
      }
      const last = runs[runs.length - 1];
      if (best < 0) continue;
      if (last && last[0] === best && Math.abs(last[2] - (from + bin * width)) < width / 4) last[2] += width;
      else runs.push([best, from + bin * width, from + (bin + 1) * width]);
    }
    return runs;
  }

  class EthogramView {
    constructor(figure, place, data) {
      Object.assign(this, {place, data, page: 0, below: data.lanes.length > 1 ? 1 : 0, range: null});
      this.readout = figure.querySelector(".readout");
      this.rest = this.readout.textContent;
      const controls = figure.querySelector(".controls");
      const pages = Math.ceil(data.rows.length / data.per_page);
      this.select(controls, "Trials ", Array.from({length: pages}, (_, i) =>
        `${i * data.per_page + 1} to ${Math.min((i + 1) * data.per_page, data.rows.length)}`),
      (i) => { this.page = i; this.range = null; });
      this.select(controls, "Lower half: predicted, ", data.lanes.slice(1), (i) => { this.below = i + 1; });
      this.ready = this.draw().then(() => {
        place.on("plotly_relayout", (change) => this.zoomed(change));
        place.addEventListener("mousemove", (event) => this.point(event));
        place.addEventListener("mouseleave", () => { this.readout.textContent = this.rest; });
      });
    }
    select(controls, text, names, chosen) {
      if (names.length < 2) return;
      const label = document.createElement("label"), select = document.createElement("select");
      names.forEach((name, i) => select.add(new Option(name, i)));
      select.addEventListener("change", () => { chosen(Number(select.value)); this.draw(); });
      label.append(text, select);
      controls.append(label);
    }
    get rows() { return this.data.rows.slice(this.page * this.data.per_page, (this.page + 1) * this.data.per_page); }
    get lanes() { return this.data.lanes.length > 1 ? [0, this.below] : [0]; }
    get end() {
      const ends = this.rows.flatMap((row) => row.lanes.map((flat) => flat.length ? flat[flat.length - 1] / row.fps : 0));
      return ends.reduce((a, b) => Math.max(a, b), 0) || 1;
    }
    top(lane, order) { return this.lanes.length > 1 ? [0.1, 0.48][order] : 0.14; }
    get height() { return this.lanes.length > 1 ? 0.36 : 0.72; }
    traces() {
      const [from, to] = this.range || [0, this.end], {classes, colours} = this.data;
      let lanes = this.rows.flatMap((row, y) => this.lanes.map((lane, order) =>
        [y + this.top(lane, order), visible(row.lanes[lane], row.fps, from, to)]));
      const total = lanes.reduce((sum, [, found]) => sum + found.length, 0);
      this.isCoarse = total > MOST_DRAWN;
      const pixels = Math.min(900, Math.max(300, Math.floor(2 * MOST_DRAWN / Math.max(1, lanes.length))));
      this.grain = (to - from) / pixels;
      if (this.isCoarse) lanes = lanes.map(([y, found]) => [y, coarse(found, from, to, pixels, classes.length)]);
      const xs = classes.map(() => []), ys = classes.map(() => []);
      for (const [y, found] of lanes) for (const [id, start, stop] of found) {
        xs[id].push(start, stop, stop, start, start, null);
        ys[id].push(y, y, y + this.height, y + this.height, y, null);
      }
      // A class without a bout here keeps its place in the legend, and so do the colours.
      return classes.map((name, i) => ({
        type: "scatter", mode: "none", fill: "toself", name, x: xs[i].length ? xs[i] : [null],
        y: ys[i].length ? ys[i] : [null], fillcolor: colours[i],
        hoverinfo: "skip", showlegend: true,
      }));
    }
    layout() {
      const rows = this.rows, height = 110 + 26 * rows.length;
      return common({
        height, dragmode: "zoom", hovermode: false, margin: {l: 60, r: 16, t: 10, b: 50},
        legend: {orientation: "h", x: 0, xanchor: "left", y: 1 + 8 / (height - 60), yanchor: "bottom"},
        xaxis: {range: this.range || [0, this.end], title: {text: this.data.unit === "s" ? "time in the trial (s)" :
          "frame of the trial"}, gridcolor: "#e5e5e5", zeroline: false, automargin: true},
        yaxis: {range: [rows.length, 0], fixedrange: true, automargin: true, tickmode: "array", showgrid: false,
          zeroline: false, tickvals: rows.map((_, y) => y + 0.5), ticktext: rows.map((row) => row.label)},
      });
    }
    draw() {
      const traces = this.traces();
      this.rest = this.isCoarse ? `At this scale stretches under ${this.grain.toPrecision(2)} ${this.data.unit} show ` +
        "the class that has most of them; zoom in to see each bout." :
        "Point at a bout; drag across to zoom in, double click to zoom out.";
      this.readout.textContent = this.rest;
      return Plotly.react(this.place, traces, this.layout(), CONFIG);
    }
    zoomed(change) {
      if (this.drawing) return;
      if (change["xaxis.autorange"] || change["xaxis.range[0]"] !== undefined || change["xaxis.range"]) {
        const [from, to] = this.place._fullLayout.xaxis.range;
        this.range = change["xaxis.autorange"] ? null : [Math.max(0, from), Math.min(this.end, to)];
        this.drawing = true;
        this.draw().then(() => { this.drawing = false; });
      }
    }
    point(event) {
      const {xaxis, yaxis} = this.place._fullLayout, box = this.place.getBoundingClientRect();
      const x = xaxis.p2d(event.clientX - box.left - xaxis._offset), y = yaxis.p2d(event.clientY - box.top - yaxis._offset);
      const row = this.rows[Math.floor(y)];
      if (!row || x < xaxis.range[0] || x > xaxis.range[1]) { this.readout.textContent = this.rest; return; }
      const digits = this.data.unit === "s" ? 2 : 0, said = [];
      for (const lane of this.lanes) {
        const [bout] = visible(row.lanes[lane], row.fps, x, x + 1e-9);
        const decode = (name) => name.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
        said.push(`${this.data.lanes[lane]}: ` + (bout ? `${decode(this.data.classes[bout[0]])} ` +
          `${bout[1].toFixed(digits)} to ${bout[2].toFixed(digits)} ${this.data.unit}` : "none"));
      }
      this.readout.textContent = `${row.name}, ${x.toFixed(digits)} ${this.data.unit}. ${said.join("; ")}`;
    }
  }

  const drawn = [];
  for (const place of document.querySelectorAll(".drawing")) {
    const figure = place.closest("figure"), data = JSON.parse(figure.querySelector("script").textContent);
    if (place.dataset.kind === "ethogram") drawn.push(new EthogramView(figure, place, data).ready);
    else drawn.push(drawPlot(place, data));
  }
  Promise.all(drawn).then(() => { document.documentElement.dataset.drawn = drawn.length; });
  // On paper everything is unfolded, and as wide as the paper.
  const fit = () => { for (const place of document.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(place); };
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    fit();
  });
  window.addEventListener("afterprint", fit);
})();
