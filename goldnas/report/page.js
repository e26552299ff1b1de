"use strict";
// What every page of goldnas has: its data, a switch between light and dark, a tip.
const data = JSON.parse(document.getElementById("data").textContent);

function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "circle", "rect", "line", "g", "text", "title"].includes(tag);
  const made = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children); // texts become text, whatever is in them
  return made;
}

const tip = document.getElementById("tip");

function showTip(text, rect) {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = rect.left + rect.width / 2 - width / 2;
  const above = rect.top - height - 8;
  tip.style.left = `${Math.max(4, Math.min(left, innerWidth - width - 4))}px`;
  tip.style.top = `${above > 4 ? above : rect.bottom + 8}px`;
}

function withTip(target, text) {
  const show = () => showTip(typeof text === "function" ? text() : text, target.getBoundingClientRect());
  const hide = () => { tip.hidden = true; };
  target.addEventListener("pointerenter", show);
  target.addEventListener("pointerleave", hide);
  target.addEventListener("focus", show);
  target.addEventListener("blur", hide);
  return target;
}

addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

const theme = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : prefersDark.matches;
}

function labelTheme() {
  theme.textContent = isDark() ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
}

theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  labelTheme();
});
prefersDark.addEventListener("change", labelTheme);
theme.hidden = false;
labelTheme();

// Marks of other charts say what they are by a title of their own.
for (const mark of document.querySelectorAll("[data-tip]")) withTip(mark, mark.dataset.tip);
