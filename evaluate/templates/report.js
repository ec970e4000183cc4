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
  var count = document.getElementById("shown");

  function holds(question, clip, words) {
    question.text = question.text || (question.node.textContent + " " + clip.node.dataset.clip).toLowerCase();
    return question.text.indexOf(words) >= 0;
  }

  function apply() {
    var task = form.elements.task.value, outcome = form.elements.outcome.value;
    var differs = form.elements.differs.checked, words = form.elements.text.value.trim().toLowerCase();
    var shown = 0, total = 0;
    clips.forEach(function (clip) {
      var visible = 0;
      clip.questions.forEach(function (question) {
        var data = question.data;
        var keep = (!task || data.task === task) && (!outcome || (" " + data.outcome + " ").indexOf(" " + outcome + " ") >= 0) &&
          (!differs || data.differs === "1") && (!words || holds(question, clip, words));
        question.node.hidden = !keep;
        visible += keep ? 1 : 0;
      });
      clip.node.hidden = visible === 0;
      shown += visible;
      total += clip.questions.length;
    });
    count.textContent = shown === total ? total + " questions" : shown + " of " + total + " questions";
  }

  var waiting = 0;
  form.hidden = false;
  form.addEventListener("change", apply);
  form.addEventListener("input", function () { clearTimeout(waiting); waiting = setTimeout(apply, 120); });
  form.addEventListener("reset", function () { setTimeout(apply, 0); });
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  apply();
}());
