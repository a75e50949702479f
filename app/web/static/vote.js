/* The Vote tab in the browser: keys, the transport bar that plays two media together, where the focus goes.
   Buttons of the page are pressed by their ids; nothing here knows which response is which before the vote. */
(() => {
  "use strict";

  const byId = (id) => document.getElementById(id);
  const seen = (element) => Boolean(element && element.getClientRects().length);

  // -- two media, one bar

  // seconds apart: from APART on the one behind runs a little faster until they are NEAR, from FAR on it jumps
  const NEAR = 0.02, APART = 0.04, FAR = 0.09;
  const HURRY = 0.08;
  const TICK_MS = 40;
  let current = null; // the transport of the pair that is shown

  class Transport {
    constructor(bar, media) {
      this.bar = bar;
      this.media = media;
      this.at = 0;
      this.rate = 1;
      this.state = "";
      this.wanted = new Map(); // where a medium goes once its present jump has ended
      this.part = (name) => bar.querySelector(`[data-vote-do="${name}"]`);
      for (const medium of media) {
        medium.controls = false;
        medium.preload = "auto";
        medium.addEventListener("seeked", () => this.jumped(medium));
        medium.addEventListener("error", () => this.drop(medium));
        medium.addEventListener("loadedmetadata", () => this.measure());
        if (medium.tagName === "VIDEO") medium.addEventListener("click", () => this.toggle());
      }
      const frame = parseFloat(bar.dataset.voteFrame);
      this.frame = frame > 0 ? frame : 0.1;
      this.part("play").addEventListener("click", () => this.toggle());
      this.part("back").addEventListener("click", () => this.step(-1));
      this.part("forward").addEventListener("click", () => this.step(1));
      this.part("seek").addEventListener("input", (event) => {
        const wanted = parseFloat(event.target.value); // before pausing paints the bar anew
        this.pause();
        this.seek(wanted);
      });
      this.listens = [...bar.closest("[data-vote-pair]").querySelectorAll("[data-vote-listen]")];
      for (const button of this.listens) button.addEventListener("click", () => this.listen(button.dataset.voteListen));
      this.part("sound").addEventListener("change", () => this.sound());
      this.part("volume").addEventListener("input", () => this.sound());
      this.part("speed").addEventListener("change", (event) => this.speed(parseFloat(event.target.value)));
      bar.hidden = false;
      this.show("paused");
      this.measure();
      this.sound();
      this.timer = setInterval(() => this.tick(), TICK_MS);
    }

    side(medium) { return medium.closest("[data-vote-side]").dataset.voteSide; }
    length(medium) { return Number.isFinite(medium.duration) ? medium.duration : 0; }
    get duration() { return Math.max(0, ...this.media.map((medium) => this.length(medium))); }
    over(medium) { return medium.ended || this.at >= this.length(medium) - NEAR; }
    get playing() { return this.state === "playing" || this.state === "loading"; }

    measure() {
      const seek = this.part("seek");
      seek.max = String(this.duration);
      seek.step = String(Math.min(this.frame, 0.05));
      const ready = this.duration > 0;
      for (const name of ["play", "back", "forward", "seek"]) this.part(name).disabled = !ready;
      this.paint();
    }

    play() {
      if (!this.duration) return;
      if (this.at >= this.duration - NEAR) this.seek(0);
      this.show("playing");
      this.tick();
    }

    pause() {
      if (!this.playing) return;
      for (const medium of this.media) medium.pause();
      this.show("paused");
      this.seek(this.at); // both at the very same time
    }

    toggle() { if (this.playing) this.pause(); else this.play(); }

    step(frames) {
      this.pause();
      const number = Math.floor(this.at / this.frame + 1e-3) + frames;
      this.seek(number <= 0 ? 0 : (number + 0.1) * this.frame); // a little into the frame, where rounding cannot miss it
    }

    seek(seconds) {
      this.at = Math.min(Math.max(0, seconds), this.duration);
      for (const medium of this.media) this.send(medium, Math.min(this.at, this.length(medium)));
      if (!this.playing) this.show("paused");
      this.paint();
    }

    send(medium, seconds) {
      if (medium.seeking) { this.wanted.set(medium, seconds); return; }
      if (Math.abs(medium.currentTime - seconds) > 1e-3) medium.currentTime = seconds;
    }

    jumped(medium) {
      const seconds = this.wanted.get(medium);
      this.wanted.delete(medium);
      if (seconds !== undefined) this.send(medium, seconds);
    }

    tick() {
      if (!this.bar.isConnected) { this.close(); return; }
      if (!this.playing) return;
      if (this.media.some((medium) => medium.seeking || this.wanted.size)) { this.hold(); return; }
      const longest = this.media.reduce((a, b) => (this.length(b) > this.length(a) ? b : a));
      this.at = Math.max(longest.ended ? this.duration : longest.currentTime, 0);
      const active = this.media.filter((medium) => !this.over(medium));
      for (const medium of this.media) if (!active.includes(medium) && !medium.paused) medium.pause();
      if (!active.length) {
        this.show("ended");
        this.at = this.duration;
        this.paint();
        return;
      }
      if (active.some((medium) => medium.readyState < 3)) { this.hold(); return; }
      for (const medium of active) {
        const ahead = medium === longest ? 0 : medium.currentTime - this.at;
        if (Math.abs(ahead) > FAR) { this.send(medium, this.at); this.hold(); return; }
        this.hurry(medium, ahead);
      }
      for (const medium of active) if (medium.paused) this.start(medium);
      this.show("playing");
      this.paint();
    }

    hurry(medium, ahead) { // a change of speed is heard, so there are few
      if (Math.abs(ahead) > APART) medium.playbackRate = this.rate * (1 - HURRY * Math.sign(ahead));
      else if (Math.abs(ahead) < NEAR / 2 && medium.playbackRate !== this.rate) medium.playbackRate = this.rate;
    }

    start(medium) {
      const started = medium.play();
      if (started) started.catch((error) => {
        if (error.name === "AbortError") return; // it was paused before it began
        this.pause();
        this.say("The browser did not play this. Press Play again.");
      });
    }

    hold() { // one is not ready: the other waits for it
      for (const medium of this.media) if (!medium.paused) medium.pause();
      this.show("loading");
    }

    drop(medium) {
      this.media = this.media.filter((one) => one !== medium);
      if (!this.media.length) { this.close(); this.bar.hidden = true; return; }
      this.say("One of the two cannot be played here.");
      this.measure();
    }

    speed(rate) {
      this.rate = rate > 0 ? rate : 1;
      for (const medium of this.media) medium.playbackRate = this.rate;
    }

    sound() {
      const whose = this.part("sound").value, volume = parseFloat(this.part("volume").value);
      for (const medium of this.media) {
        medium.volume = Math.max(0, Math.min(1, volume)); // the same on both sides
        medium.muted = !(whose === "both" || whose === this.side(medium));
      }
      for (const button of this.listens) {
        const heard = whose === "both" || whose === button.dataset.voteListen;
        button.setAttribute("aria-pressed", String(heard));
      }
    }

    listen(side) { // one side alone, from wherever both are
      this.part("sound").value = side;
      this.sound();
      if (!this.playing) this.play();
    }

    nextSound() {
      const choice = this.part("sound");
      choice.selectedIndex = (choice.selectedIndex + 1) % choice.options.length;
      this.sound();
      this.say(`Sound: ${choice.options[choice.selectedIndex].text}`);
    }

    show(state) {
      if (state === this.state) return;
      this.state = this.bar.dataset.state = state;
      const label = this.playing ? "Pause both" : "Play both";
      if (this.part("play").textContent !== label) this.part("play").textContent = label;
      if (state === "ended") this.say("The end.");
      else if (state === "playing") this.say("");
    }

    say(text) { this.part("say").textContent = text; }

    paint() {
      const seek = this.part("seek"), end = this.duration;
      seek.value = String(this.at);
      seek.style.setProperty("--o-vote-at", `${end ? (100 * this.at) / end : 0}%`);
      seek.setAttribute("aria-valuetext", `${this.at.toFixed(1)} of ${end.toFixed(1)} seconds`);
      for (const medium of this.media) {
        const place = medium.closest("[data-vote-side]"), bar = place.querySelector("[data-vote-played]");
        if (!bar) continue;
        const length = this.length(medium), at = Math.min(this.at, length);
        bar.style.width = `${length ? (100 * at) / length : 0}%`;
        place.querySelector("[data-vote-length]").textContent = `${at.toFixed(1)} / ${length.toFixed(1)} s`;
      }
      this.part("time").textContent = `${this.at.toFixed(2)} / ${end.toFixed(2)} s`;
    }

    close() {
      clearInterval(this.timer);
      for (const medium of this.media) medium.pause();
      if (current === this) current = null;
    }
  }

  function connect(bar) {
    bar.dataset.ready = "yes";
    const pair = bar.closest("[data-vote-pair]");
    const media = ["left", "right"].map((side) => {
      const place = pair.querySelector(`[data-vote-side="${side}"]`);
      return place.querySelector("video") || place.querySelector("audio");
    });
    if (current) current.close();
    if (media.every(Boolean)) current = new Transport(bar, media);
  }

  // -- keys

  const PRESS = {
    1: "vote-left", 2: "vote-right", 0: "vote-tie", x: "vote-both-bad", s: "vote-skip", n: "vote-next", u: "vote-undo",
  };
  const KEYS_OFF = "omnirm-vote-keys-off";
  const TYPED = "input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select, [contenteditable]";
  const PRESSED_BY_SPACE = "button, input, select, textarea, a[href], summary, video[controls], audio[controls], [role=button]";

  const keysOff = () => localStorage.getItem(KEYS_OFF) === "yes";

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    const focus = event.target instanceof Element ? event.target : document.body;
    if (focus.closest(TYPED) || document.querySelector("dialog[open]") || keysOff()) return;
    if (!seen(document.querySelector("[data-vote-pair], [data-vote-done]"))) return;
    const key = event.key.toLowerCase(), button = byId(PRESS[key] || "");
    if (button) {
      if (event.repeat || button.disabled || !seen(button)) return;
      event.preventDefault();
      button.click();
    } else if (current && key === " ") {
      if (focus.closest(PRESSED_BY_SPACE)) return;
      event.preventDefault();
      if (!event.repeat) current.toggle();
    } else if (current && (key === "," || key === ".")) {
      event.preventDefault();
      current.step(key === "," ? -1 : 1);
    } else if (current && key === "m") {
      event.preventDefault();
      current.nextSound();
    }
  });

  document.addEventListener("change", (event) => {
    if (event.target.id === "vote-keys-on") localStorage.setItem(KEYS_OFF, event.target.checked ? "no" : "yes");
  });

  // -- one vote a pair, however quickly one clicks

  const VOTES = "#vote-left, #vote-right, #vote-tie, #vote-both-bad, #vote-skip";
  let cast = 0, castOn = null;

  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    if (event.target.closest("#vote-undo")) castOn = null;
    if (!event.target.closest(VOTES)) return;
    const pair = document.querySelector("[data-vote-pair]")?.dataset.votePair;
    if (pair === castOn && Date.now() - cast < 1000) {
      event.preventDefault();
      event.stopImmediatePropagation();
    } else [cast, castOn] = [Date.now(), pair];
  }, true);

  // -- what is new on the page

  let shownPair = null, shownReveal = null;

  function focusOn(element) {
    const active = document.activeElement;
    if (active && active.closest(TYPED) && seen(active)) return;
    element.focus({ preventScroll: true });
  }

  function look() {
    for (const bar of document.querySelectorAll("[data-vote-transport]:not([data-ready])")) connect(bar);
    const switched = byId("vote-keys-on");
    if (switched && !switched.dataset.ready) {
      switched.dataset.ready = "yes";
      switched.checked = !keysOff();
    }
    const pair = document.querySelector("[data-vote-pair], [data-vote-done]");
    if (pair !== shownPair) {
      const first = shownPair === null;
      shownPair = pair;
      if (pair && !first && seen(pair)) {
        const heading = pair.querySelector("[tabindex='-1']");
        const top = byId("vote-progress") || pair;
        if (heading) focusOn(heading);
        if (top.getBoundingClientRect().top < 0) top.scrollIntoView({ block: "start" });
      }
    }
    const reveal = document.querySelector("[data-vote-left]");
    if (reveal !== shownReveal) {
      shownReveal = reveal;
      if (reveal && pair) {
        for (const side of ["left", "right"]) {
          const letter = side === "left" ? reveal.dataset.voteLeft : reveal.dataset.voteLeft === "A" ? "B" : "A";
          const chip = pair.querySelector(`[data-vote-side="${side}"] [data-vote-letter]`);
          if (chip) {
            chip.textContent = letter;
            chip.className = `o-chip o-chip--${letter.toLowerCase()}`;
          }
        }
        focusOn(reveal);
        if (reveal.getBoundingClientRect().top > innerHeight - 140) reveal.scrollIntoView({ block: "nearest" });
      }
    }
  }

  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; look(); });
  }).observe(document.documentElement, { childList: true, subtree: true });

  // -- a medium that cannot be shown says so, in every tab

  document.addEventListener("error", (event) => {
    const medium = event.target;
    if (!(medium instanceof Element) || !medium.matches(".o-media img, .o-media video, .o-media audio")) return;
    if (medium.dataset.broken) return;
    medium.dataset.broken = "yes";
    const note = document.createElement("p");
    note.className = "o-media-problem";
    note.textContent = `${medium.getAttribute("alt") || medium.getAttribute("aria-label") || "This file"} cannot be shown by this browser. `;
    const link = document.createElement("a");
    link.href = medium.getAttribute("src");
    link.download = "";
    link.textContent = "Download it";
    note.append(link);
    medium.hidden = true;
    medium.after(note);
  }, true);
})();
