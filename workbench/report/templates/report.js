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
    var table = document.getElementById(button.getAttribute("data-copies"));
    var text = Array.prototype.map.call(table.rows, cells).join("\n");
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

  var closed = [];
  var PRINT_WIDTH = 680;
  window.addEventListener("beforeprint", function () {
    closed = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (details) { details.open = true; });
    plots().forEach(function (plot) { Plotly.relayout(plot, { width: PRINT_WIDTH }); });
  });
  window.addEventListener("afterprint", function () {
    closed.forEach(function (details) { details.open = false; });
    plots().forEach(function (plot) { Plotly.relayout(plot, { width: null, autosize: true }); });
  });
})();
