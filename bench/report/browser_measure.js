// Runs in a copy of the page, in a test only: what a reader would see of each plot, as JSON at the end of the page.
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\d.]+/g).slice(0, 3).map((part) => {
    const value = Number(part) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
// What the plot has no place for: not finite, or outside of it.
const strange = (svg) => {
  const { width, height } = svg.viewBox.baseVal;
  const found = [];
  for (const path of svg.querySelectorAll(".line path")) {
    for (const [, x, y] of path.getAttribute("d").matchAll(/[ML]([^ ]+) ([^MLh]+)/g)) {
      if (!(0 <= Number(x) && Number(x) <= width && 0 <= Number(y) && Number(y) <= height)) found.push(`${x} ${y}`);
    }
  }
  for (const rect of svg.querySelectorAll(".bar rect")) {
    const box = rect.getBBox();
    if (!(0 <= box.x && box.x + box.width <= width && 0 <= box.y && box.y + box.height <= height)) found.push(rect.outerHTML);
  }
  const frame = svg.getBoundingClientRect();
  for (const text of svg.querySelectorAll("text")) {
    const box = text.getBoundingClientRect();
    const fits = frame.left <= box.left && box.right <= frame.right && frame.top <= box.top && box.bottom <= frame.bottom;
    if (!fits) found.push(text.textContent);
  }
  return found;
};
const overlaps = (svg) => {
  const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent);
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  const found = [];
  boxes.forEach(([name, a], index) => {
    for (const [other, b] of boxes.slice(index + 1)) {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      // A line of text is taller than its letters: a little may overlap.
      if (1 < wide && 4 < high) found.push(`${name} and ${other}`);
    }
  });
  return found;
};
const plots = [...document.querySelectorAll("figure.plot")].map((figure) => {
  const svg = figure.querySelector("svg.chart");
  if (!svg) return { id: figure.id, measured: false };
  const paper = getComputedStyle(figure).backgroundColor;
  const marks = [...svg.querySelectorAll(".line path, .bar rect")].map((mark) => {
    const box = mark.getBoundingClientRect();
    const style = getComputedStyle(mark);
    const ink = mark.tagName === "rect" ? style.fill : style.stroke;
    const length = mark.getTotalLength ? mark.getTotalLength() : 0;
    return { width: box.width, height: box.height, length, contrast: contrast(ink, paper) };
  });
  const { width, height } = svg.getBoundingClientRect();
  return {
    id: figure.id,
    measured: true,
    width,
    height,
    marks,
    strange: strange(svg),
    overlaps: overlaps(svg),
    xTicks: svg.querySelectorAll("text.x:not(.name)").length,
    yTicks: svg.querySelectorAll("text.y").length,
    titles: svg.querySelectorAll("title").length,
  };
});
const measured = document.createElement("pre");
measured.id = "measured";
measured.textContent = JSON.stringify({
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  overflow: Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth),
  plots,
});
document.body.append(measured);
