// The canvas: shows the image, the layer of segments and the marks; turns clicks, drags and keys into actions.
// Gradio calls this once, as a function of: element, trigger, props, watch. Everything else happens on the server.

const find = (selector) => element.querySelector(selector);
const [frame, welcome, stage, photo, layer, marks, cross, status] =
  [".frame", ".welcome", ".stage", ".photo", ".layer", ".marks", ".cross", ".status"].map(find);

const CLICK_PX = 6; // a pointer that moves less has clicked
const STEP = 0.01; // of the image, that an arrow key moves the cross

let image = null; // number, name, width, height
let mode = "everything";
let revision = 0; // of what is shown
let press = null; // where a button went down, in pixels of the page and of the image
let corner = null; // the first corner of a box made of two clicks
let cursor = null; // the cross of the keyboard, in pixels of the image

// ---- what the server says ----

function show(view) {
  if (!view || view.revision <= revision) return; // an answer that was overtaken
  revision = view.revision;
  status.textContent = view.status;
  status.classList.toggle("failed", view.failed);
  status.classList.toggle("busy", view.busy);
  stage.classList.toggle("busy", view.busy);
  if (view.download) save(view.download);
  if (!view.image) return;
  if (!image || image.number !== view.image.number) {
    image = view.image;
    corner = cursor = null;
    cross.hidden = true;
    photo.alt = image.name;
    stage.style.aspectRatio = `${image.width} / ${image.height}`;
    stage.style.width = `min(100%, calc(72vh * ${image.width / image.height}))`;
    welcome.hidden = true;
    stage.hidden = false;
    frame.classList.add("opened");
  }
  if (mode !== view.mode) corner = null;
  mode = view.mode;
  stage.classList.toggle("boxes", mode === "boxes");
  if (view.layer !== null) layer.src = view.layer;
  element.dataset.answerMs = view.answer_ms;
  element.dataset.revision = revision;
  draw(view);
}

function draw({ points, boxes }) {
  marks.replaceChildren();
  if (mode === "points") for (const [x, y, foreground] of points) mark(x, y, foreground ? "" : "background");
  if (mode === "boxes") for (const box of boxes) rectangle(box);
}

function place(node, x, y) {
  node.style.left = `${(100 * x) / image.width}%`;
  node.style.top = `${(100 * y) / image.height}%`;
  return node;
}

function added(kind) {
  const node = document.createElement("div");
  node.className = kind;
  marks.append(node);
  return node;
}

function mark(x, y, kind) {
  const node = place(added(`mark ${kind}`), x, y);
  Object.assign(node.dataset, { x, y });
  return node;
}

function rectangle([x1, y1, x2, y2], node = added("rectangle")) {
  place(node, Math.min(x1, x2), Math.min(y1, y2));
  node.style.width = `${(100 * Math.abs(x2 - x1)) / image.width}%`;
  node.style.height = `${(100 * Math.abs(y2 - y1)) / image.height}%`;
  node.dataset.box = [x1, y1, x2, y2];
  return node;
}

function save({ name, url }) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

// ---- what the user does ----

const act = (action) => trigger("act", { action: { image: image && image.number, ...action } });

function pointAt(x, y, foreground) {
  mark(x, y, foreground ? "" : "background"); // seen at once; the answer draws it again
  act({ point: [x, y], foreground });
}

function boxOf([x1, y1], [x2, y2]) {
  corner = null;
  act({ box: [x1, y1, x2, y2] });
}

function cornerAt(xy) {
  if (corner) return boxOf(corner, xy);
  corner = xy;
  mark(...xy, "corner");
}

function markAt(xy, foreground) {
  if (mode === "boxes") cornerAt(xy);
  else pointAt(...xy, foreground);
}

const within = (value, limit) => Math.round(100 * Math.min(Math.max(value, 0), limit - 0.01)) / 100;

function inImage(event) {
  const { left, top, width, height } = stage.getBoundingClientRect();
  const x = ((event.clientX - left) / width) * image.width;
  const y = ((event.clientY - top) / height) * image.height;
  return [within(x, image.width), within(y, image.height)];
}

const backgroundIsOn = () => Boolean(document.querySelector("#fastsam-background input")?.checked);
const drags = (event) => mode !== "points" && (event.pointerType !== "touch" || mode === "boxes");

stage.addEventListener("pointerdown", (event) => {
  if (!image || press || event.button === 1) return;
  press = { x: event.clientX, y: event.clientY, start: inImage(event), box: null };
  if (drags(event)) stage.setPointerCapture(event.pointerId);
});

stage.addEventListener("pointermove", (event) => {
  if (!press || !drags(event)) return;
  if (!press.box && Math.hypot(event.clientX - press.x, event.clientY - press.y) > CLICK_PX) press.box = added("rectangle");
  if (press.box) rectangle([...press.start, ...inImage(event)], press.box);
});

stage.addEventListener("pointerup", (event) => {
  if (!press) return;
  const { x, y, start, box } = press;
  press = null;
  cross.hidden = true;
  if (box) boxOf(start, inImage(event));
  else if (Math.hypot(event.clientX - x, event.clientY - y) <= CLICK_PX) {
    markAt(inImage(event), event.button !== 2 && !backgroundIsOn());
  }
});

stage.addEventListener("pointercancel", () => { // the browser scrolls
  press?.box?.remove();
  press = null;
});

stage.addEventListener("contextmenu", (event) => event.preventDefault());

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function moveCross([dx, dy], faster) {
  const step = STEP * Math.max(image.width, image.height) * (faster ? 5 : 1);
  const [x, y] = cursor ?? [image.width / 2, image.height / 2];
  cursor = cursor ? [within(x + dx * step, image.width), within(y + dy * step, image.height)] : [x, y];
  place(cross, ...cursor).hidden = false;
}

const KEYS = {
  Enter: () => cursor && markAt(cursor, !backgroundIsOn()),
  " ": () => cursor && markAt(cursor, !backgroundIsOn()),
  b: () => cursor && markAt(cursor, false),
  u: () => act({ undo: true }),
  c: () => act({ clear: true }),
};

stage.addEventListener("keydown", (event) => {
  if (!image || event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
  const key = event.ctrlKey ? "u" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in MOVES) moveCross(MOVES[key], event.shiftKey);
  else if (key in KEYS) KEYS[key]();
  else return;
  event.preventDefault();
});

stage.addEventListener("focus", () => stage.matches(":focus-visible") && moveCross([0, 0], false));
stage.addEventListener("blur", () => { cross.hidden = true; });

// ---- files: Gradio's own upload has the limits and the progress ----

function upload_files(files) {
  const input = document.querySelector("#fastsam-open input[type=file], input[type=file]");
  if (!input || !files.length) return;
  const chosen = new DataTransfer();
  chosen.items.add(files[0]);
  input.files = chosen.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

find(".browse").addEventListener("click", () => document.querySelector("#fastsam-open")?.click());
for (const button of element.querySelectorAll(".example")) {
  button.addEventListener("click", () => trigger("example", { number: Number(button.dataset.number) }));
}
frame.addEventListener("dragover", (event) => { event.preventDefault(); frame.classList.add("dropping"); });
frame.addEventListener("dragleave", () => frame.classList.remove("dropping"));
frame.addEventListener("drop", (event) => {
  event.preventDefault();
  frame.classList.remove("dropping");
  upload_files(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => upload_files(event.clipboardData?.files ?? []));

watch(["value", "photo"], () => {
  if (props.photo && photo.getAttribute("src") !== props.photo) photo.src = props.photo;
  show(props.value);
});
