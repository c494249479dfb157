(function () {
  "use strict";
  function cells(row) {
    return Array.prototype.map.call(row.cells, function (cell) {
      return cell.innerText.replace(/\s+/g, " ").trim();
    }).join("\t");
  }
  function copied(button) {
    var words = button.textContent;
    button.textContent = "Copied";
    setTimeout(function () { button.textContent = words; }, 1500);
  }
  function copy(button) {
    var source = document.getElementById(button.getAttribute("data-copies"));
    var text = source.rows ? Array.prototype.map.call(source.rows, cells).join("\n") : source.innerText.trim();
    if (navigator.clipboard && window.isSecureContext) {
      navigator.clipboard.writeText(text).then(function () { copied(button); });
      return;
    }
    var area = document.createElement("textarea");
    area.value = text;
    document.body.appendChild(area);
    area.select();
    if (document.execCommand("copy")) { copied(button); }
    area.remove();
  }
  document.addEventListener("click", function (event) {
    var button = event.target.closest("button[data-copies]");
    if (button) { copy(button); }
  });

  var plots = function () {
    return Array.prototype.slice.call(document.querySelectorAll(".plotly-graph-div"));
  };
  document.addEventListener("toggle", function (event) {
    if (event.target.open) {
      plots().filter(function (plot) { return event.target.contains(plot); })
        .forEach(function (plot) { Plotly.Plots.resize(plot); });
    }
  }, true);

  // On paper a figure must fit below its heading: tall ones are scaled, not squeezed.
  var PAPER_WIDTH = 670, PAPER_HEIGHT = 780, SMALLEST = 0.62;
  var closed = [], heights = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (details) { details.open = true; });
    heights = plots().map(function (plot) { return plot.offsetHeight; });
    plots().forEach(function (plot, place) {
      var scale = Math.max(SMALLEST, Math.min(0.9, PAPER_HEIGHT / heights[place]));
      var height = Math.min(heights[place], PAPER_HEIGHT / scale);
      plot.style.zoom = scale;
      plot.style.height = height + "px";
      Plotly.relayout(plot, { width: PAPER_WIDTH / scale, height: height });
    });
  });
  window.addEventListener("afterprint", function () {
    plots().forEach(function (plot, place) {
      plot.style.zoom = "";
      plot.style.height = heights[place] + "px";
      Plotly.relayout(plot, { width: null, height: heights[place], autosize: true });
    });
    closed.forEach(function (details) { details.open = false; });
  });
})();
