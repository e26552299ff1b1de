// The report of one search: points, cells, times and energies, and the course of the pruning.
const byId = (id) => document.getElementById(id);
const colour = (kind) => `var(--k${kind % 8})`;
const unit = { latency: "s", energy: "J" };
const amount = (cost, kind) => // from microseconds or microjoules
  Math.abs(cost) >= 1000 ? `${(cost / 1000).toPrecision(4)} m${unit[kind]}` : `${Number(cost.toPrecision(3))} u${unit[kind]}`;
const alive = (kept, index) => kept[index] === "1";
let chosen = null;

// -- cells ---------------------------------------------------------------------------------

const FREE = /skip|pool|identity|none/; // drawn below the line: they have hardly any weights

function operatorText(index) {
  const [place, kind, , site] = data.operators[index];
  const told = data.costs.map((costs) => `${amount(costs.operators[index], costs.kind)} by ${costs.table}`);
  return [`${place} ${data.kinds[kind]}`, ...(site ? [site] : []), ...told].join("\n");
}

function cellGraph(cell, members, small) {
  const nodes = data.cells.nodes, step = 42, reach = nodes + 1;
  const x = (state) => 16 + state * step;
  const up = reach * 15 + 18, down = members.some((i) => FREE.test(data.kinds[data.operators[i][1]])) ? reach * 12 + 14 : 14;
  const last = reach + 1;
  const svg = element("svg", { viewBox: `0 0 ${x(last) + 18} ${up + down}`, role: "img" });
  const said = [];
  const concat = data.cells.concat[cell];
  svg.append(element("line", { class: "bus", x1: x(Math.min(...concat)), y1: up, x2: x(last), y2: up }));
  for (const index of members) {
    const [place, kind] = data.operators[index];
    const [from, to] = place.split(".")[1].split("-").map(Number);
    const name = data.kinds[kind], below = FREE.test(name);
    const alike = data.kinds.filter((other) => FREE.test(other) === below);
    const nested = alike.indexOf(name) / Math.max(1, alike.length); // apart on one edge
    const width = (to - from) * step / 2;
    const height = (below ? 11 : 14) * (to - from) * (1 - 0.35 * nested) + 6;
    const path = element("path", {
      class: "arc",
      d: `M${x(from)} ${up}A${width} ${height} 0 0 ${below ? 0 : 1} ${x(to)} ${up}`,
      stroke: colour(kind),
    });
    if (!small) withTip(path, () => operatorText(index));
    svg.append(path);
    said.push(`${from} to ${to} ${name}`);
  }
  for (let state = 0; state <= last; state++) {
    const inner = state > 1 && state < last;
    svg.append(inner
      ? element("circle", { class: concat.includes(state) ? "state in" : "state", cx: x(state), cy: up, r: 9 })
      : element("rect", { class: "state", x: x(state) - 14, y: up - 9, width: 28, height: 18, rx: 4 }));
    const label = inner ? `${state - 2}` : ["k−2", "k−1", "out"][state === last ? 2 : state];
    svg.append(element("text", { x: x(state), y: up + 3.5 }, label));
  }
  const title = data.cells.names[cell].replace(/^cell/, "cell ");
  svg.setAttribute("aria-label", `${title}: ${said.join(", ") || "no operator"}`);
  const kind = data.cells.reductions[cell] ? " · reduction" : "";
  return element("figure", { class: "cell" },
    element("figcaption", {}, `${title}${small ? "" : kind}`, element("span", {}, `${members.length}`)), svg);
}

function chain(kept, small) {
  const list = element("ol", { class: "chain" });
  data.parts.forEach((part, number) => {
    const members = data.operators.map((_, i) => i).filter((i) => data.operators[i][2] === number && alive(kept, i));
    const box = element("div", { class: "box" }, element("span", { class: "quiet" }, part));
    for (const index of members) {
      const kind = data.operators[index][1];
      const line = element("b", {}, element("span", { class: `swatch k${kind % 8}` }), data.kinds[kind]);
      box.append(small ? line : withTip(line, () => operatorText(index)));
    }
    if (!members.length) box.classList.add("gone");
    list.append(element("li", {}, box));
  });
  return list;
}

function drawNetwork(into, kept, small) {
  if (!data.cells) {
    into.replaceChildren(chain(kept, small));
    return;
  }
  into.replaceChildren(...data.cells.names.map((name, cell) => {
    const number = data.parts.indexOf(name);
    const members = data.operators.map((_, i) => i).filter((i) => data.operators[i][2] === number && alive(kept, i));
    return cellGraph(cell, members, small);
  }));
}

// -- time and energy ----------------------------------------------------------------------------------

let table = 0;

function drawCosts() {
  const body = document.querySelector("#operators tbody");
  if (!body) return;
  const costs = data.costs[table], kept = data.networks[chosen].kept;
  const show = (cost) => amount(cost, costs.kind);
  const rows = costs.fixed.map(([name, count, cost]) => ({ name: count > 1 ? `${name} (${count} times)` : name, cost, kind: null, saves: "in every network" }));
  data.operators.forEach(([place, kind, , site], index) => {
    if (!alive(kept, index)) return;
    const last = data.groups.some((group) => group.includes(index) && group.filter((i) => alive(kept, i)).length === 1);
    const cost = costs.operators[index];
    rows.push({ name: `${place} ${data.kinds[kind]}`, site, cost, kind, saves: last ? "the last of its place" : null });
  });
  const total = rows.reduce((sum, row) => sum + row.cost, 0);
  rows.sort((a, b) => b.cost - a.cost);
  const most = Math.max(...rows.map((row) => row.cost));
  document.querySelector("#operators thead").replaceChildren(element("tr", {},
    element("th", {}, "operator"), element("th", { class: "site" }, "site"), element("th", { class: "n" }, costs.kind === "energy" ? "energy" : "time"),
    element("th", { class: "n" }, "share"), element("th", {}), element("th", { class: "n" }, "without it")));
  body.replaceChildren(...rows.map((row) => {
    const fill = element("span");
    fill.style.width = `${Math.max(0, 100 * row.cost / most)}%`;
    if (row.kind === null) fill.className = "fixed";
    else fill.style.background = colour(row.kind);
    return element("tr", {},
      element("td", {}, row.name), element("td", { class: "site" }, row.site || ""), element("td", { class: "n" }, show(row.cost)),
      element("td", { class: "n" }, `${(100 * row.cost / total).toFixed(1)} %`), element("td", { class: "bar" }, fill),
      element("td", { class: "n" }, row.saves || `${show(total - row.cost)} (−${(100 * row.cost / total).toFixed(1)} %)`));
  }));
  const sums = new Map();
  for (const row of rows) sums.set(row.kind, (sums.get(row.kind) || 0) + Math.max(0, row.cost));
  byId("share").replaceChildren(...[...sums].map(([kind, cost]) => {
    const part = element("span", { tabindex: "0" });
    part.style.flex = `${cost} 1 0`;
    if (kind === null) part.className = "fixed";
    else part.style.background = colour(kind);
    const name = kind === null ? "in every network" : data.kinds[kind];
    const text = `${name}: ${show(cost)}, ${(100 * cost / total).toFixed(1)} %`;
    part.setAttribute("aria-label", text);
    return withTip(part, text);
  }));
  byId("tables-choice").replaceChildren(`${show(total)} by`, ...data.costs.map(({ table: name }, number) => {
    const button = element("button", { type: "button", "aria-pressed": String(number === table) }, name);
    button.addEventListener("click", () => { table = number; drawCosts(); });
    return button;
  }));
}

// -- choosing a network --------------------------------------------------------------------

function networkText(number) {
  const network = data.networks[number];
  return [`${network.id}: ${network.merit}`, ...Object.entries(network.amounts).map(([name, amount]) => `${name}: ${amount}`),
    network.when, ...(network.meets ? [] : ["over a budget"])].join("\n");
}

function choose(number) {
  chosen = number;
  const network = data.networks[number];
  byId("chosen").textContent = network.id;
  const facts = [[data.metric, network.merit], ...Object.entries(network.amounts), ["recorded at", network.when],
    ...network.tested.map((text) => ["trained, test set", text])];
  byId("facts").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("span", {}, `${name} `), value)));
  const kinds = [...new Set(data.operators.filter((_, i) => alive(network.kept, i)).map(([, kind]) => kind))].sort();
  byId("kinds").replaceChildren(...kinds.map((kind) =>
    element("li", {}, element("span", { class: `swatch k${kind % 8}` }), data.kinds[kind])));
  drawNetwork(byId("graph"), network.kept, false);
  drawCosts();
  for (const row of document.querySelectorAll("#networks tbody tr")) row.classList.toggle("chosen", Number(row.dataset.network) === number);
  for (const ring of document.querySelectorAll(".ring")) ring.remove();
  for (const mark of document.querySelectorAll(`.mark[data-network="${number}"]`)) {
    mark.parentNode.append(element("circle", { class: "ring", cx: mark.getAttribute("x"), cy: mark.getAttribute("y"), r: 8 }));
  }
}

function showChosen(number) {
  choose(number);
  history.replaceState(null, "", `#network=${data.networks[number].id}`);
  byId("network").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

function preparePoints(name, groups) {
  const marks = [];
  for (const [id, numbers] of Object.entries(groups)) {
    const uses = byId(id).querySelectorAll("use");
    numbers.forEach((number, place) => {
      const mark = uses[place];
      mark.classList.add("mark");
      mark.dataset.network = number;
      mark.setAttribute("role", "button");
      mark.setAttribute("aria-label", networkText(number).replaceAll("\n", ", "));
      withTip(mark, () => networkText(number));
      mark.addEventListener("click", () => showChosen(number));
      marks.push(mark);
    });
  }
  // One stop of the Tab key for each chart; within it the arrow keys go from point to point.
  marks.sort((a, b) => a.getAttribute("x") - b.getAttribute("x"));
  marks.forEach((mark, place) => {
    mark.setAttribute("tabindex", place ? "-1" : "0");
    mark.addEventListener("keydown", (event) => {
      const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: marks.length - 1 }[event.key];
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        showChosen(Number(mark.dataset.network));
      } else if (marks[next]) {
        event.preventDefault();
        mark.setAttribute("tabindex", "-1");
        marks[next].setAttribute("tabindex", "0");
        marks[next].focus();
      }
    });
  });
}

function listNetworks() {
  const names = Object.keys(data.networks[0].amounts);
  const tested = data.networks.some((network) => network.tested.length); // else no column
  document.querySelector("#networks thead").replaceChildren(element("tr", {},
    ...["network", data.metric, ...names, "recorded at", ...(tested ? ["test set"] : [])].map((name, i) =>
      element("th", i > 0 && i <= names.length + 1 ? { class: "n" } : {}, name))));
  document.querySelector("#networks tbody").replaceChildren(...data.networks.map((network, number) => {
    const button = element("button", { type: "button" }, network.id);
    button.addEventListener("click", () => showChosen(number));
    return element("tr", { "data-network": number },
      element("td", {}, button), element("td", { class: "n" }, network.merit),
      ...names.map((name) => element("td", { class: "n" }, network.amounts[name] || "")),
      element("td", {}, network.when), ...(tested ? [element("td", {}, network.tested.join("; "))] : []));
  }));
}

// -- the course of the search --------------------------------------------------------------

function showMoment(number) {
  const moment = data.moments[number];
  byId("told").textContent = moment.text;
  byId("moment").setAttribute("aria-valuetext", moment.text);
  for (const [name, { axis }] of Object.entries(data.charts)) {
    if (!axis) continue;
    const [left, right, from, to, top, bottom] = axis;
    const x = from + (moment.x - left) / (right - left) * (to - from);
    const svg = document.querySelector(`#chart-${name} svg`);
    const line = svg.querySelector(".cursor") || svg.appendChild(element("line", { class: "cursor" }));
    for (const [key, value] of [["x1", x], ["x2", x], ["y1", top], ["y2", bottom]]) line.setAttribute(key, value);
  }
  if (byId("alive")) {
    drawNetwork(byId("alive"), data.gone.map((at) => (at === null || at > number ? "1" : "0")).join(""), true);
  }
}

function followPointer(name, axis) {
  const svg = document.querySelector(`#chart-${name} svg`);
  const [left, right, from, to] = axis;
  svg.addEventListener("pointermove", (event) => {
    const place = svg.createSVGPoint();
    place.x = event.clientX;
    place.y = event.clientY;
    const x = left + (place.matrixTransform(svg.getScreenCTM().inverse()).x - from) / (to - from) * (right - left);
    let nearest = 0;
    data.moments.forEach((moment, i) => {
      if (Math.abs(moment.x - x) <= Math.abs(data.moments[nearest].x - x)) nearest = i;
    });
    byId("moment").value = nearest;
    showMoment(nearest);
  });
}

// -- begin ---------------------------------------------------------------------------------

if (data.networks.length) {
  listNetworks();
  for (const [name, { points }] of Object.entries(data.charts)) {
    if (Object.keys(points).length) preparePoints(name, points);
  }
  const wanted = data.networks.findIndex(({ id }) => location.hash === `#network=${id}`);
  choose(wanted >= 0 ? wanted : data.best ?? 0);
  if (wanted >= 0) byId("network").scrollIntoView();
}
if (byId("moment")) {
  byId("moment").addEventListener("input", (event) => showMoment(Number(event.target.value)));
  for (const [name, { axis }] of Object.entries(data.charts)) if (axis) followPointer(name, axis);
  showMoment(data.moments.length - 1);
}
const copy = byId("copy");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("command").textContent);
    copy.textContent = "Copied";
  });
}
