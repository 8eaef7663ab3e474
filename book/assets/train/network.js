/* The study's ConvNet and its training in plain JavaScript: no library, no graphics card.
 *
 * The same calculation as medddist/method/networks.py, training.py and augment.py: three blocks of a
 * 3x3 convolution, instance norm with scale and shift, ReLU and 2x2 average pooling, then one linear
 * layer; cross-entropy; stochastic gradient descent with momentum and weight decay on augmented
 * images, all of them in each step. tests/test_train_page.py compares it with PyTorch.
 *
 * Images are grey, S x S, in a Float32Array of N * S * S standardised pixels.
 * Everything is inside one function, so that its text can also be given to a worker.
 */
function convNets() {
  "use strict";

  /* mulberry32: uniform numbers in [0, 1) from a whole number. */
  function randomNumbers(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /* ---- the three loops in which the time goes -------------------------------------------------
   * Planes with a border of one zero: a pixel's nine neighbours are then always there. */

  /* out[o] = sum over c of the 3x3 kernel (o, c) laid over plane c. */
  function convolve(planes, channels, kernels, outputs, size, out) {
    const row = size + 2, plane = row * row;
    out.fill(0);
    for (let o = 0; o < outputs; o++) {
      for (let c = 0; c < channels; c++) {
        const k = (o * channels + c) * 9;
        const k0 = kernels[k], k1 = kernels[k + 1], k2 = kernels[k + 2];
        const k3 = kernels[k + 3], k4 = kernels[k + 4], k5 = kernels[k + 5];
        const k6 = kernels[k + 6], k7 = kernels[k + 7], k8 = kernels[k + 8];
        for (let y = 0; y < size; y++) {
          let a = c * plane + y * row, b = a + row, d = b + row, to = (o * size + y) * size;
          for (const end = to + size; to < end; to++, a++, b++, d++) {
            out[to] += k0 * planes[a] + k1 * planes[a + 1] + k2 * planes[a + 2]
              + k3 * planes[b] + k4 * planes[b + 1] + k5 * planes[b + 2]
              + k6 * planes[d] + k7 * planes[d + 1] + k8 * planes[d + 2];
          }
        }
      }
    }
  }

  /* Adds d loss / d kernels, given d loss / d out as planes with a border. */
  function addKernelSlopes(planes, channels, slopes, outputs, size, sum) {
    const row = size + 2, plane = row * row;
    for (let o = 0; o < outputs; o++) {
      for (let c = 0; c < channels; c++) {
        let s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0, s8 = 0;
        for (let y = 0; y < size; y++) {
          let a = c * plane + y * row, b = a + row, d = b + row;
          let from = o * plane + (y + 1) * row + 1;
          for (const end = from + size; from < end; from++, a++, b++, d++) {
            const slope = slopes[from];
            s0 += slope * planes[a]; s1 += slope * planes[a + 1]; s2 += slope * planes[a + 2];
            s3 += slope * planes[b]; s4 += slope * planes[b + 1]; s5 += slope * planes[b + 2];
            s6 += slope * planes[d]; s7 += slope * planes[d + 1]; s8 += slope * planes[d + 2];
          }
        }
        const k = (o * channels + c) * 9;
        sum[k] += s0; sum[k + 1] += s1; sum[k + 2] += s2;
        sum[k + 3] += s3; sum[k + 4] += s4; sum[k + 5] += s5;
        sum[k + 6] += s6; sum[k + 7] += s7; sum[k + 8] += s8;
      }
    }
  }

  /* The kernels that carry slopes back: input and output exchanged, and turned by half a turn. */
  function turned(kernels, outputs, channels) {
    const back = new Float32Array(kernels.length);
    for (let o = 0; o < outputs; o++) {
      for (let c = 0; c < channels; c++) {
        for (let k = 0; k < 9; k++) {
          back[(c * outputs + o) * 9 + 8 - k] = kernels[(o * channels + c) * 9 + k];
        }
      }
    }
    return back;
  }

  /* ---- the network --------------------------------------------------------------------------- */

  /* A ConvNet with its working memory for one image. All parameters are in the array `theta`, their
   * slopes in `slopes`. A convolution has no bias: the norm would take it away at once. */
  function createNetwork(settings) {
    const { size_px: size, width, depth, classes } = settings;
    const sizes = [], views = [];
    const reserve = (name, count) => sizes.push([name, count]);
    for (let l = 0; l < depth; l++) reserve("kernels", width * (l ? width : 1) * 9);
    for (let l = 0; l < depth; l++) { reserve("scale", width); reserve("shift", width); }
    const last = size >> depth, features = width * last * last;
    reserve("weights", classes * features);
    reserve("bias", classes);
    const count = sizes.reduce((sum, [, n]) => sum + n, 0);
    const theta = new Float32Array(count), slopes = new Float32Array(count);
    let start = 0;
    for (const [name, n] of sizes) {
      views.push({ name, value: theta.subarray(start, start + n), slope: slopes.subarray(start, start + n) });
      start += n;
    }
    const blocks = [];
    for (let l = 0; l < depth; l++) {
      const s = size >> l, channels = l ? width : 1, bordered = (s + 2) * (s + 2);
      blocks.push({
        size: s, channels,
        kernels: views[l], scale: views[depth + 2 * l], shift: views[depth + 2 * l + 1],
        input: new Float32Array(channels * bordered), // with a border
        normed: new Float32Array(width * s * s), // mean 0, variance 1
        active: new Uint8Array(width * s * s), // where ReLU lets through
        spread: new Float32Array(width), // 1 / standard deviation
        back: new Float32Array(width * bordered), // slopes at the convolution, with a border
        pooled: new Float32Array(width * s * s / 4), // the block's output, then its slopes
      });
    }
    const inputSlopes = blocks.map((b) => new Float32Array(b.channels * b.size * b.size));
    return {
      classes, width, size, features, theta, slopes, blocks, inputSlopes, views,
      weights: views[3 * depth], bias: views[3 * depth + 1], logits: new Float64Array(classes),
    };
  }

  /* PyTorch's default initialisation: uniform within 1 / sqrt(inputs of a number). */
  function initialise(net, random) {
    for (const block of net.blocks) {
      const bound = 1 / Math.sqrt(block.channels * 9);
      block.kernels.value.forEach((_, k, all) => { all[k] = (2 * random() - 1) * bound; });
      block.scale.value.fill(1);
      block.shift.value.fill(0);
    }
    const bound = 1 / Math.sqrt(net.features);
    for (const { value } of [net.weights, net.bias]) {
      value.forEach((_, k) => { value[k] = (2 * random() - 1) * bound; });
    }
  }

  /* Computes the logits of one image; what the way back needs stays in the blocks. */
  function forward(net, images, start) {
    const first = net.blocks[0];
    for (let y = 0; y < net.size; y++) {
      const to = (y + 1) * (net.size + 2) + 1, from = start + y * net.size;
      for (let x = 0; x < net.size; x++) first.input[to + x] = images[from + x];
    }
    net.blocks.forEach((block, l) => {
      convolve(block.input, block.channels, block.kernels.value, net.width, block.size, block.normed);
      normaliseAndPool(net, block);
      const next = net.blocks[l + 1], half = block.size / 2;
      if (!next) return;
      for (let c = 0; c < net.width; c++) {
        for (let y = 0; y < half; y++) {
          const to = (c * (half + 2) + y + 1) * (half + 2) + 1, from = (c * half + y) * half;
          for (let x = 0; x < half; x++) next.input[to + x] = block.pooled[from + x];
        }
      }
    });
    const features = net.blocks[net.blocks.length - 1].pooled;
    for (let k = 0; k < net.classes; k++) {
      let sum = net.bias.value[k];
      for (let f = 0; f < net.features; f++) sum += net.weights.value[k * net.features + f] * features[f];
      net.logits[k] = sum;
    }
    return net.logits;
  }

  /* Each channel: (z - mean) / standard deviation, scale and shift, ReLU, 2x2 means. */
  function normaliseAndPool(net, block) {
    const { size, normed, active, pooled } = block, area = size * size, half = size / 2;
    pooled.fill(0);
    for (let c = 0; c < net.width; c++) {
      const start = c * area, scale = block.scale.value[c], shift = block.shift.value[c];
      let mean = 0, variance = 0;
      for (let i = 0; i < area; i++) mean += normed[start + i];
      mean /= area;
      for (let i = 0; i < area; i++) variance += (normed[start + i] - mean) ** 2;
      const spread = 1 / Math.sqrt(variance / area + 1e-5);
      block.spread[c] = spread;
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          const i = start + y * size + x;
          normed[i] = (normed[i] - mean) * spread;
          const value = scale * normed[i] + shift;
          active[i] = value > 0 ? 1 : 0;
          if (value > 0) pooled[(c * half + (y >> 1)) * half + (x >> 1)] += value / 4;
        }
      }
    }
  }

  /* Adds the slopes of the loss, given those at the logits, for the image of the last `forward`. */
  function backward(net, logitSlopes) {
    const top = net.blocks.length - 1, features = net.blocks[top].pooled;
    const featureSlopes = new Float32Array(net.features);
    for (let k = 0; k < net.classes; k++) {
      const slope = logitSlopes[k], start = k * net.features;
      net.bias.slope[k] += slope;
      for (let f = 0; f < net.features; f++) {
        net.weights.slope[start + f] += slope * features[f];
        featureSlopes[f] += slope * net.weights.value[start + f];
      }
    }
    for (let l = top, above = featureSlopes; l >= 0; l--) {
      const block = net.blocks[l];
      backThroughNorm(net, block, above);
      addKernelSlopes(block.input, block.channels, block.back, net.width, block.size, block.kernels.slope);
      if (l === 0) return; // nobody asks for the slopes of the pixels
      above = net.inputSlopes[l];
      const kernels = turned(block.kernels.value, net.width, block.channels);
      convolve(block.back, net.width, kernels, block.channels, block.size, above);
    }
  }

  /* From the slopes of a block's output to those at its convolution. */
  function backThroughNorm(net, block, above) {
    const { size, normed, active, back } = block, area = size * size, half = size / 2, row = size + 2;
    for (let c = 0; c < net.width; c++) {
      let shiftSlope = 0, scaleSlope = 0;
      for (let y = 0; y < size; y++) {
        const from = (c * size + y) * size, to = (c * row + y + 1) * row + 1, pool = (c * half + (y >> 1)) * half;
        for (let x = 0; x < size; x++) {
          const slope = active[from + x] * above[pool + (x >> 1)] / 4;
          back[to + x] = slope;
          shiftSlope += slope;
          scaleSlope += slope * normed[from + x];
        }
      }
      block.shift.slope[c] += shiftSlope;
      block.scale.slope[c] += scaleSlope;
      const factor = block.scale.value[c] * block.spread[c];
      const mean = shiftSlope / area, along = scaleSlope / area;
      for (let y = 0; y < size; y++) {
        const from = (c * size + y) * size, to = (c * row + y + 1) * row + 1;
        for (let x = 0; x < size; x++) {
          back[to + x] = factor * (back[to + x] - mean - normed[from + x] * along);
        }
      }
    }
  }

  /* Returns the mean cross-entropy of images with their classes; its slopes are in net.slopes. */
  function lossAndSlopes(net, images, labels) {
    const pixels = net.size * net.size, logitSlopes = new Float64Array(net.classes);
    let loss = 0;
    net.slopes.fill(0);
    for (let n = 0; n < labels.length; n++) {
      const logits = forward(net, images, n * pixels), highest = Math.max(...logits);
      let sum = 0;
      for (let k = 0; k < net.classes; k++) sum += Math.exp(logits[k] - highest);
      loss += (highest + Math.log(sum) - logits[labels[n]]) / labels.length;
      for (let k = 0; k < net.classes; k++) {
        const probability = Math.exp(logits[k] - highest) / sum;
        logitSlopes[k] = (probability - (k === labels[n] ? 1 : 0)) / labels.length;
      }
      backward(net, logitSlopes);
    }
    return loss;
  }

  /* Returns the predicted class of each image. */
  function predict(net, images, count) {
    const predicted = new Uint8Array(count), pixels = net.size * net.size;
    for (let n = 0; n < count; n++) {
      const logits = forward(net, images, n * pixels);
      for (let k = 1; k < net.classes; k++) if (logits[k] > logits[predicted[n]]) predicted[n] = k;
    }
    return predicted;
  }

  /* ---- augmentation and training ------------------------------------------------------------- */

  function mean(values) {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += values[i];
    return sum / values.length;
  }

  /* Returns images moved, turned, zoomed, brightened and with a square cut out; nine numbers from
   * [-1, 1) an image decide how, in the order of medddist/method/augment.py. */
  function augment(images, size, draws, settings) {
    const pixels = size * size, changed = new Float32Array(images.length);
    for (let n = 0; n < images.length / pixels; n++) {
      const u = draws.subarray(n * 9, n * 9 + 9);
      const image = images.subarray(n * pixels, (n + 1) * pixels);
      const result = changed.subarray(n * pixels, (n + 1) * pixels);
      move(image, result, size, u, settings);
      const before = mean(result), factor = 1 + settings.contrast * u[5];
      for (let i = 0; i < pixels; i++) {
        result[i] = before + (result[i] - before) * factor + settings.brightness * u[6];
      }
      const grey = mean(result);
      const near = (i, centre) => Math.abs((i + 0.5) / size - (centre + 1) / 2) < settings.cutout / 2;
      for (let y = 0; y < size; y++) {
        if (!near(y, u[7])) continue;
        for (let x = 0; x < size; x++) if (near(x, u[8])) result[y * size + x] = grey;
      }
    }
    return changed;
  }

  /* Bilinear resampling; border pixels continue outside. */
  function move(image, result, size, u, settings) {
    const angle = settings.rotation_degrees * Math.PI / 180 * u[0], zoom = 1 / (1 + settings.scale * u[1]);
    const cos = zoom * Math.cos(angle), sin = zoom * Math.sin(angle);
    const right = 2 * settings.shift * u[2], below = 2 * settings.shift * u[3], last = size - 1;
    const pixel = (p) => ((p + 1) * size - 1) / 2; // of a position from -1 to 1
    const inside = (p) => p < 0 ? 0 : p > last ? last : p;
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        const across = (2 * x + 1) / size - 1, down = (2 * y + 1) / size - 1;
        const px = inside(pixel(cos * across - sin * down + right));
        const py = inside(pixel(sin * across + cos * down + below));
        const x0 = px | 0, y0 = py | 0, fx = px - x0, fy = py - y0;
        const x1 = x0 < last ? x0 + 1 : last, y1 = y0 < last ? y0 + 1 : last;
        result[y * size + x] =
          (1 - fy) * ((1 - fx) * image[y0 * size + x0] + fx * image[y0 * size + x1])
          + fy * ((1 - fx) * image[y1 * size + x0] + fx * image[y1 * size + x1]);
      }
    }
  }

  /* Trains from scratch; yields {step, correct} before the first step, then after every
   * `evaluateEvery` steps: correct[k] of the test images of class k were recognised.
   * job: {network, set: {images, labels, learning_rate}, test: {images, labels}, recipe, steps, seed} */
  function* train(job) {
    const { set, test, recipe, steps } = job, random = randomNumbers(job.seed);
    const net = createNetwork(job.network), velocity = new Float32Array(net.theta.length);
    initialise(net, random);
    const tested = () => {
      const correct = new Array(net.classes).fill(0);
      predict(net, test.images, test.labels.length)
        .forEach((k, n) => { if (k === test.labels[n]) correct[k] += 1; });
      return correct;
    };
    yield { step: 0, correct: tested() };
    const draws = new Float32Array(set.labels.length * 9);
    for (let step = 0; step < steps; step++) {
      draws.forEach((_, i) => { draws[i] = 2 * random() - 1; });
      const loss = lossAndSlopes(net, augment(set.images, net.size, draws, recipe.augmentation), set.labels);
      const rate = set.learning_rate * (step < steps / 2 ? 1 : 0.1); // the schedule `halfway`
      for (let p = 0; p < velocity.length; p++) {
        velocity[p] = recipe.momentum * velocity[p] + net.slopes[p] + recipe.weight_decay * net.theta[p];
        net.theta[p] -= rate * velocity[p];
      }
      const evaluated = (step + 1) % job.evaluateEvery === 0 || step + 1 === steps;
      yield { step: step + 1, loss, correct: evaluated ? tested() : null };
    }
  }

  return { randomNumbers, createNetwork, initialise, lossAndSlopes, predict, augment, train };
}
