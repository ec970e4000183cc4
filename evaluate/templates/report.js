(function () {
  "use strict";
  var form = document.getElementById("filters");
  if (!form) { return; }
  var clips = Array.prototype.map.call(document.querySelectorAll(".clip"), function (clip) {
    var questions = Array.prototype.map.call(clip.querySelectorAll(".question"), function (node) {
      return { node: node, data: node.dataset, text: "" };
    });
    return { node: clip, questions: questions };
  });
  // A page of thousands of questions would hide what comes after them: further clips come when asked for.
  var PAGE = 10, limit = PAGE, more = document.getElementById("more");
  var count = document.getElementById("shown"), unit = " " + (form.dataset.unit || "questions");

  function holds(question, clip, words) {
    question.text = question.text || (question.node.textContent + " " + clip.node.dataset.clip).toLowerCase();
    return question.text.indexOf(words) >= 0;
  }

  function apply() {
    var task = form.elements.task.value, outcome = form.elements.outcome.value;
    var differs = form.elements.differs.checked, words = form.elements.text.value.trim().toLowerCase();
    var shown = 0, total = 0, matching = 0;
    clips.forEach(function (clip) {
      var visible = 0;
      clip.questions.forEach(function (question) {
        var data = question.data;
        var keep = (!task || data.task === task) && (!outcome || (" " + data.outcome + " ").indexOf(" " + outcome + " ") >= 0) &&
          (!differs || data.differs === "1") && (!words || holds(question, clip, words));
        question.node.hidden = !keep;
        visible += keep ? 1 : 0;
      });
      matching += visible ? 1 : 0;
      clip.node.hidden = visible === 0 || matching > limit;
      shown += visible;
      total += clip.questions.length;
    });
    count.textContent = (shown === total ? total : shown + " of " + total) + unit;
    if (more) {
      more.hidden = matching <= limit;
      more.textContent = "Show " + Math.min(PAGE, matching - limit) + " more of " + (matching - limit) + " clips";
    }
  }

  function restart() { limit = PAGE; apply(); }
  function extend() { limit += PAGE; apply(); }

  function play(link) {
    var video = document.createElement("video");
    video.controls = true;
    video.src = link.href;
    video.setAttribute("aria-label", link.textContent);
    // A file that the browser can't play stays a link.
    video.addEventListener("error", function () { video.replaceWith(link); link.dataset.plain = "1"; });
    link.replaceWith(video);
    video.focus();
    var started = video.play();
    if (started) { started.catch(function () {}); }
  }

  function listed() {
    var nodes = [];
    clips.forEach(function (clip) {
      clip.questions.forEach(function (question) { if (!question.node.hidden && !clip.node.hidden) { nodes.push(question.node); } });
    });
    return nodes;
  }

  function step(by) {
    var nodes = listed();
    if (!nodes.length) { return; }
    var here = nodes.indexOf(document.activeElement.closest ? document.activeElement.closest(".question") : null);
    if (by > 0 && here === nodes.length - 1 && more && !more.hidden) { extend(); nodes = listed(); }
    var next = nodes[here < 0 ? (by > 0 ? 0 : nodes.length - 1) : Math.min(nodes.length - 1, Math.max(0, here + by))];
    next.tabIndex = -1;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "center" });
  }

  document.addEventListener("click", function (event) {
    var choice = event.target.closest(".choose");
    if (choice) {  // the link itself goes to the questions
      form.reset();
      form.elements.outcome.value = choice.dataset.outcome;
    }
    var link = event.target.closest(".play");
    if (link && !link.dataset.plain && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      play(link);
    }
  });
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { return; }
    if (event.key === "j" || event.key === "k") { step(event.key === "j" ? 1 : -1); }
    else if (event.key === "/") { form.elements.text.focus(); }
    else if (event.key === "p") {
      var card = document.activeElement.closest(".clip"), link = card && card.querySelector(".play");
      if (link) { play(link); }
    } else { return; }
    event.preventDefault();
  });

  var waiting = 0;
  form.hidden = false;
  form.addEventListener("change", restart);
  form.addEventListener("input", function () { clearTimeout(waiting); waiting = setTimeout(restart, 120); });
  form.addEventListener("reset", function () { setTimeout(restart, 0); });
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  if (more) { more.addEventListener("click", extend); }
  apply();
}());
