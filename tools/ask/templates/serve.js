(function () {
  "use strict";
  var form = document.getElementById("ask-form"), drop = document.getElementById("drop");
  var input = document.getElementById("clip"), against = document.getElementById("against");
  var question = document.getElementById("question"), go = document.getElementById("go");
  var state = document.getElementById("state"), chosen = document.getElementById("chosen");
  var cards = document.getElementById("cards"), limit = Number(form.dataset.limit), clip = null;

  function say(text, wrong) {
    state.textContent = text;
    state.className = wrong ? "wrong" : "soft";
  }

  function choose(file) {
    clip = file || null;
    chosen.textContent = clip ? clip.name : "No clip is chosen.";
    say("", false);
  }

  input.addEventListener("change", function () { choose(input.files[0]); });
  ["dragenter", "dragover"].forEach(function (name) {
    drop.addEventListener(name, function (event) { event.preventDefault(); drop.classList.add("over"); });
  });
  ["dragleave", "drop"].forEach(function (name) {
    drop.addEventListener(name, function (event) { event.preventDefault(); drop.classList.remove("over"); });
  });
  drop.addEventListener("drop", function (event) { choose(event.dataTransfer.files[0]); });
  // A file that misses the field must not replace the page.
  ["dragover", "drop"].forEach(function (name) {
    window.addEventListener(name, function (event) { event.preventDefault(); });
  });

  function ticket() {
    var numbers = crypto.getRandomValues(new Uint32Array(4));
    return Array.prototype.map.call(numbers, function (number) { return number.toString(16); }).join("-");
  }

  function watch(name) {
    return setInterval(function () {
      fetch("/place?ticket=" + encodeURIComponent(name)).then(function (reply) { return reply.json(); }).then(function (found) {
        if (!go.disabled || found.before === null || found.before === undefined) { return; }
        say(found.before ? "Waiting: " + found.before + (found.before === 1 ? " question" : " questions") + " before yours." : "The model is answering.", false);
      }).catch(function () {});
    }, 1000);
  }

  function show(card, file) {
    var holder = document.createElement("div");
    holder.innerHTML = card; // made by the server, which escapes everything
    var media = holder.querySelector(".media");
    if (media && !/\.(avi|mkv|flv)$/i.test(file.name)) {
      var player = document.createElement(file.type.indexOf("audio/") === 0 ? "audio" : "video");
      player.controls = true;
      player.src = URL.createObjectURL(file);
      player.setAttribute("aria-label", file.name);
      player.addEventListener("error", function () { player.remove(); });
      media.insertBefore(player, media.firstChild);
    }
    cards.insertBefore(holder, cards.firstChild);
    holder.tabIndex = -1;
    holder.focus({ preventScroll: true });
    holder.scrollIntoView({ block: "start" });
  }

  form.addEventListener("submit", function (event) {
    event.preventDefault();
    var file = clip, other = against.files[0];
    if (!file) { say("Choose a clip first.", true); return; }
    var files = other ? [file, other] : [file];
    var size = files.reduce(function (sum, each) { return sum + each.size; }, 0);
    if (size > limit) { say("The clip is larger than " + Math.round(limit / 1e6) + " MB.", true); return; }
    var name = ticket(), head = JSON.stringify({
      question: question.value, ticket: name,
      files: files.map(function (each) { return { name: each.name, size: each.size }; })
    });
    go.disabled = true;
    say("Sending the clip.", false);
    var timer = watch(name);
    fetch("/ask", { method: "POST", body: new Blob([head + "\n"].concat(files)) }).then(function (reply) {
      return reply.json();
    }).then(function (found) {
      if (found.error) { say(found.error, true); } else { say("", false); show(found.card, file); }
    }).catch(function () {
      say("There is no answer; is avem serve still running?", true);
    }).then(function () {
      clearInterval(timer);
      go.disabled = false;
    });
  });
}());
