// A latency table: what each mark stands for.
for (const [id, texts] of Object.entries(data)) {
  const marks = [...document.getElementById(id).querySelectorAll("use")];
  marks.forEach((mark, place) => {
    mark.classList.add("mark");
    mark.setAttribute("tabindex", place ? "-1" : "0");
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", texts[place].replaceAll("\n", ", "));
    withTip(mark, texts[place]);
    mark.addEventListener("keydown", (event) => {
      const next = marks[place + ({ ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key] || NaN)];
      if (next) {
        event.preventDefault();
        next.focus();
      }
    });
  });
}
