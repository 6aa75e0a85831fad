// The page of `hatdet serve`: a picture goes to each model, what comes back is drawn above the least score.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const COLORS = 8; // classes s0 ... s7 of the style sheet
const said = document.getElementById("said");
const drop = document.getElementById("drop");
const input = drop.querySelector("input");
const least = document.getElementById("least");
const output = document.querySelector("output");
const panels = [...document.querySelectorAll("section.model")];
let address = null; // of the present picture in this browser
let turn = 0; // counts pictures: answers for an earlier one are dropped

function say(text, bad = false) {
  said.textContent = text;
  said.className = bad ? "bad" : "soft";
}

function show(panel) {
  const from = Number(least.value);
  const counts = new Map();
  for (const item of panel.querySelectorAll(".view rect, .list li")) {
    const on = Number(item.dataset.score) >= from;
    if (item.localName === "rect") {
      item.classList.toggle("off", !on);
      if (on) counts.set(item.dataset.name, (counts.get(item.dataset.name) || 0) + 1);
    } else item.hidden = !on;
  }
  if (!panel.dataset.ms) return;
  const text = [...counts].map(([name, count]) => `${count} ${name}`).join(", ") || "nothing found";
  panel.querySelector(".count").textContent = `${text} (${panel.dataset.ms} ms)`;
}

function slide() {
  output.textContent = Number(least.value).toFixed(2);
  panels.forEach(show);
}

function draw(panel, found) {
  const view = panel.querySelector(".view");
  const svg = view.querySelector("svg");
  const list = panel.querySelector(".list");
  view.style.aspectRatio = `${found.width} / ${found.height}`;
  view.hidden = false;
  svg.setAttribute("viewBox", `0 0 ${found.width} ${found.height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren();
  list.replaceChildren();
  for (const { box, score, label, name } of found.detections) {
    const rect = document.createElementNS(SVG, "rect");
    const [x1, y1, x2, y2] = box;
    const place = { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) };
    for (const [key, value] of Object.entries(place)) rect.setAttribute(key, value);
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${name} ${score.toFixed(2)}`;
    rect.append(title);
    const item = document.createElement("li");
    item.append(document.createElement("i"), `${name} ${score.toFixed(2)}`);
    for (const one of [rect, item]) {
      one.classList.add(`s${label % COLORS}`);
      Object.assign(one.dataset, { score, name });
    }
    svg.append(rect);
    list.append(item);
  }
  panel.dataset.ms = found.ms.toFixed(0);
  show(panel);
}

async function ask(panel, file, mine) {
  panel.querySelector(".count").textContent = "looking ...";
  for (const name of ["svg", ".list"]) panel.querySelector(name).replaceChildren();
  delete panel.dataset.ms;
  try {
    const answer = await fetch(`/detect?model=${panel.dataset.model}`, { method: "POST", body: file });
    const found = await answer.json();
    if (mine !== turn) return;
    if (!answer.ok) throw new Error(found.error);
    draw(panel, found);
  } catch (error) {
    if (mine !== turn) return;
    panel.querySelector(".view").hidden = true;
    panel.querySelector(".count").textContent = "";
    say(error instanceof TypeError ? "the server does not answer: was it ended?" : error.message, true);
  }
}

async function take(files) {
  const file = [...files].find((one) => one.size > 0);
  if (!file) return say("that was no file of a picture; drop a JPEG, PNG, WebP, BMP or TIFF", true);
  const limit = Number(input.dataset.limit); // the server reads no more, so the browser could not say why
  if (file.size > limit) return say(`the file has ${file.size} bytes; a picture of up to ${limit >> 20} MB can be looked at`, true);
  const mine = ++turn;
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(file);
  const more = files.length > 1 ? ` (the first of ${files.length})` : "";
  say((file.name || "the pasted picture") + more);
  for (const panel of panels) {
    const image = panel.querySelector("img");
    panel.querySelector(".view").hidden = true;
    image.hidden = false;
    image.onerror = () => {
      image.hidden = true;
      if (mine === turn && !said.classList.contains("bad")) say("this browser cannot show the picture; its boxes are drawn");
    };
    image.src = address;
  }
  for (const panel of panels) await ask(panel, file, mine); // one model at a time: the times are of it alone
}

for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
  });
}
document.addEventListener("drop", (event) => take(event.dataTransfer.files));
document.addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files));
input.addEventListener("change", () => input.files.length && take(input.files));
least.addEventListener("input", slide);
slide();
