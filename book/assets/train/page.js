/* The page "Train in your browser": its controls, its curve, its table and its images.
 *
 * convNets (network.js) does the calculation, in a worker, so that the page stays responsive.
 * TRAINING_ABOUT and TRAINING_IMAGES come from data.js, which workflow/browser_data.py writes.
 */
(() => {
  "use strict";
  const about = TRAINING_ABOUT, byId = (id) => document.getElementById(`train-${id}`);
  const NAMES = { distilled: "distilled images", random: "random images" };
  const EVALUATE_EVERY = 10; // steps
  const perClass = about.test_images_per_class, classes = about.class_names.length;
  const tested = perClass * classes;
  const percent = (share) => `${Math.round(100 * share)}\u00a0%`; // no line break before the sign
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  /* ---- data ---------------------------------------------------------------------------------- */

  function bytes(text) {
    const letters = atob(text), values = new Uint8Array(letters.length);
    for (let i = 0; i < values.length; i++) values[i] = letters.charCodeAt(i);
    return values;
  }
  const sets = {};
  for (const [name, { pixels, labels }] of Object.entries(TRAINING_IMAGES)) {
    const levels = bytes(pixels), { mean: centre, std } = about.scaling;
    const images = new Float32Array(levels.length);
    for (let i = 0; i < images.length; i++) images[i] = (levels[i] / 255 - centre) / std;
    sets[name] = { levels, images, labels: bytes(labels), ...about.sets[name] };
  }
  const runs = { distilled: [], random: [] }; // of each set; a run is [[step, correct by class], ...]

  /* ---- training ------------------------------------------------------------------------------ */

  let worker = null;

  function start() {
    const name = chosen(), steps = Number(byId("steps").value), run = [], began = performance.now();
    runs[name].push(run);
    const text = `${convNets};
      onmessage = (event) => { for (const state of convNets().train(event.data)) postMessage(state); };`;
    const source = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    worker = new Worker(source);
    URL.revokeObjectURL(source);
    const finished = (said) => { stop(); say(said); };
    worker.onerror = () => finished("Training failed. Reload the page, or use another browser.");
    worker.onmessage = ({ data: { step, loss, correct } }) => {
      byId("progress").value = step / steps;
      byId("step").textContent = `Step ${step} of ${steps}${step ? `, training loss ${loss.toFixed(2)}` : ""}`;
      if (!correct) return;
      run.push([step, correct]);
      show();
      const seconds = Math.round((performance.now() - began) / 1000), score = percent(share(correct));
      const what = `${score} of the test images recognised`;
      if (step === steps) finished(`Finished in ${seconds} seconds: ${what}. ${compared(name)}`);
      else if (step && step % (steps / 5) === 0) say(`Step ${step} of ${steps}: ${what}.`);
    };
    byId("start").disabled = true;
    byId("stop").disabled = false;
    say(`Training on ${sets[name].labels.length} ${NAMES[name]} has begun.`);
    // The n-th run on either set starts from the same parameters.
    const seed = runs[name].length, { images, labels, learning_rate } = sets[name];
    worker.postMessage({
      network: { ...about.network, classes }, recipe: about.recipe, steps, seed,
      set: { images, labels, learning_rate }, test: sets.test, evaluateEvery: EVALUATE_EVERY,
    });
  }

  function stop() {
    if (worker) worker.terminate();
    worker = null;
    const focused = document.activeElement === byId("stop");
    byId("start").disabled = false;
    byId("stop").disabled = true;
    if (focused) byId("start").focus(); // a disabled button would lose the keyboard's place
  }

  const chosen = () => document.querySelector("input[name=train-set]:checked").value;
  const share = (correct) => correct.reduce((sum, n) => sum + n, 0) / tested;
  const lastOf = (name) => {
    const run = runs[name].findLast((states) => states.length);
    return run && run[run.length - 1];
  };
  const say = (text) => { byId("status").textContent = text; };

  function compared(name) {
    const other = name === "distilled" ? "random" : "distilled", last = lastOf(other);
    return last ? `${percent(share(last[1]))} with the ${NAMES[other]}.` : `Now try the ${NAMES[other]}.`;
  }

  /* ---- table --------------------------------------------------------------------------------- */

  function fillTable() {
    for (const name of Object.keys(NAMES)) {
      const last = lastOf(name), accuracies = about.sets[name].library_accuracy;
      const [lowest, highest] = [Math.min(...accuracies), Math.max(...accuracies)].map(percent);
      const range = accuracies.length > 1 ? ` (${lowest} to ${highest})` : "";
      byId(`library-${name}`).textContent = percent(mean(accuracies)) + range;
      byId(`all-${name}`).textContent = last ? percent(share(last[1])) : "–";
      for (let k = 0; k < classes; k++) {
        byId(`class-${k}-${name}`).textContent = last ? `${last[1][k]} of ${perClass}` : "–";
      }
    }
  }

  function makeRows() {
    about.class_names.forEach((label, k) => {
      const row = byId("rows").insertRow();
      row.innerHTML = "<th scope=row></th>" + Object.keys(NAMES)
        .map((name) => `<td id="train-class-${k}-${name}"></td>`).join("");
      row.firstChild.textContent = label;
    });
  }

  /* ---- curve --------------------------------------------------------------------------------- */

  const HEIGHT = 280, LEFT = 44, RIGHT = 12, TOP = 12, BOTTOM = 40;

  function drawCurve() {
    const width = Math.max(byId("curve").clientWidth, 240);
    const allRuns = Object.values(runs).flat().filter((run) => run.length);
    const steps = Math.max(Number(byId("steps").value), ...allRuns.map((run) => run[run.length - 1][0]));
    const x = (step) => LEFT + (width - LEFT - RIGHT) * step / steps;
    const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value;
    const parts = [];
    const line = (kind, x1, y1, x2, y2) =>
      parts.push(`<line class="${kind}" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"/>`);
    const label = (kind, left, top, text, anchor = "start") =>
      parts.push(`<text class="${kind}" x="${left}" y="${top}" text-anchor="${anchor}">${text}</text>`);
    for (const value of [0, 0.25, 0.5, 0.75, 1]) {
      line(value === 0.25 ? "chance" : "grid", LEFT, y(value), width - RIGHT, y(value));
      label("", LEFT - 6, y(value) + 4, percent(value), "end");
    }
    for (const part of [0, 0.5, 1]) {
      label("", x(part * steps), HEIGHT - BOTTOM + 18, Math.round(part * steps), part === 1 ? "end" : "middle");
    }
    label("", (LEFT + width - RIGHT) / 2, HEIGHT - 4, "training steps", "middle");
    label("", width - RIGHT, y(1 / classes) + 15, "chance", "end");
    const [low, high] = Object.keys(NAMES).sort((a, b) => libraryMean(a) - libraryMean(b));
    for (const name of [low, high]) {
      const top = y(libraryMean(name));
      line(`library ${name}`, LEFT, top, width - RIGHT, top);
      label(name, LEFT + 4, name === high ? top - 5 : top + 15, `PyTorch, ${NAMES[name]}: ${percent(libraryMean(name))}`);
    }
    for (const name of Object.keys(NAMES)) {
      runs[name].forEach((run, number) => {
        const points = run.map(([step, correct]) => `${x(step).toFixed(1)},${y(share(correct)).toFixed(1)}`);
        const kind = number === runs[name].length - 1 ? name : `${name} earlier`;
        parts.push(`<polyline class="run ${kind}" points="${points.join(" ")}"/>`);
      });
    }
    byId("curve").innerHTML = `<svg role="img" width="${width}" height="${HEIGHT}">${parts.join("")}</svg>`;
    byId("curve").firstChild.setAttribute("aria-label", inWords());
  }

  const libraryMean = (name) => mean(about.sets[name].library_accuracy);

  function inWords() {
    const results = Object.keys(NAMES).map((name) => {
      const last = lastOf(name), by = `PyTorch reaches ${percent(libraryMean(name))}`;
      const yours = last ? `${percent(share(last[1]))} after ${last[0]} steps` : "not trained yet";
      return `With the ${NAMES[name]}: ${yours}; ${by}.`;
    });
    return `Test accuracy during training. ${results.join(" ")} Chance is ${percent(1 / classes)}.`;
  }

  /* ---- images -------------------------------------------------------------------------------- */

  /* One canvas per class, ten images in a row, one pixel between them. */
  function drawImages() {
    const name = chosen(), { levels, labels } = sets[name], size = about.network.size_px;
    byId("images").replaceChildren();
    byId("caption").textContent = `The ${labels.length} ${NAMES[name]}`;
    about.class_names.forEach((label, k) => {
      const members = [...labels.keys()].filter((n) => labels[n] === k), columns = Math.min(10, members.length);
      const block = document.createElement("div"), canvas = document.createElement("canvas");
      canvas.width = columns * (size + 1) - 1;
      canvas.height = Math.ceil(members.length / columns) * (size + 1) - 1;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${members.length} ${NAMES[name]} of the class ${label}`);
      const context = canvas.getContext("2d");
      members.forEach((n, place) => {
        const picture = context.createImageData(size, size);
        for (let i = 0; i < size * size; i++) {
          const level = levels[n * size * size + i];
          picture.data.set([level, level, level, 255], 4 * i);
        }
        context.putImageData(picture, (place % columns) * (size + 1), Math.floor(place / columns) * (size + 1));
      });
      block.append(label, canvas);
      byId("images").append(block);
    });
  }

  /* ---- the page ------------------------------------------------------------------------------ */

  function show() {
    fillTable();
    drawCurve();
  }

  function provenance() {
    const { iterations, method } = about.distillation, changes = Object.entries(about.changes);
    const how = method === "trajectory" ? "by matching training trajectories" : `by the method ${method}`;
    const [own, other] = [about.sets.distilled, about.sets.random].map((set) => set.learning_rate.toPrecision(2));
    const selected = "references.learning_rates" in about.changes ? "set by hand" : "chosen on validation images";
    const usual = `The distilled images were learned ${how}, in ${iterations} iterations. They are trained on at the `
      + `learning rate ${own}, which was learned with them, the random images at ${other}, which was ${selected}.`;
    if (!changes.length) return usual;
    const list = changes.map(([name, value]) => `${name} = ${value}`).join(", ");
    return `${usual} The distilled images are a quick trial, not the set of this study: they were made with ${list}.`;
  }

  const networks = about.sets.random.library_accuracy.length;
  byId("library").textContent = networks > 1 ? `PyTorch, mean of ${networks}` : "PyTorch, one network";
  makeRows();
  byId("provenance").textContent = provenance();
  byId("start").addEventListener("click", start);
  byId("stop").addEventListener("click", () => { stop(); say("Stopped."); });
  byId("steps").addEventListener("change", drawCurve);
  document.querySelectorAll("input[name=train-set]").forEach((e) => e.addEventListener("change", drawImages));
  new ResizeObserver(drawCurve).observe(byId("curve").parentElement);
  byId("page").hidden = false;
  show();
  drawImages();
})();
