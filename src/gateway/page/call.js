// Calls the gateway that served this page, by WHIP (RFC 9725): one offer, one answer, and nothing to install.

const part = (id) => document.getElementById(id);
const [form, called, token, call, end, mute, state, keys, audio] =
  ["form", "called", "token", "call", "end", "mute", "state", "keys", "audio"].map(part);

let line = null;

const say = (words) => {
  state.textContent = words;
};

class Line {
  /** Calls somebody; `told` hears how the call stands. */
  static async call(to, bearer, told) {
    const microphone = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
    const line = new Line(microphone, told);
    try {
      await line.connect(to, bearer);
    } catch (error) {
      line.hangUp();
      throw error;
    }
    return line;
  }

  constructor(microphone, told) {
    this.microphone = microphone;
    this.told = told;
    this.location = null;
    this.isOver = false;
    this.peer = new RTCPeerConnection();
    const { sender } = this.peer.addTransceiver(microphone.getAudioTracks()[0], {
      direction: "sendrecv",
      streams: [microphone],
    });
    this.sender = sender;
    this.peer.addEventListener("track", ({ track }) => {
      audio.srcObject = new MediaStream([track]);
    });
    this.peer.addEventListener("connectionstatechange", () => {
      if (this.peer.connectionState === "failed") this.over("the connection was lost");
    });
  }

  async connect(to, bearer) {
    await this.peer.setLocalDescription();
    const headers = { "Content-Type": "application/sdp" };
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    const response = await fetch(`/whip/${encodeURIComponent(to)}`, {
      method: "POST",
      headers,
      body: this.peer.localDescription.sdp,
    });
    if (!response.ok) {
      const refusal = await response.json().catch(() => ({ message: response.statusText }));
      throw new Error(refusal.message);
    }
    this.location = new URL(response.headers.get("Location"), location.href);
    this.etag = response.headers.get("ETag");
    this.events = new EventSource(`${this.location}/events`);
    this.events.addEventListener("state", ({ data }) => {
      const { state: standing, cause } = JSON.parse(data);
      if (standing === "ended") this.over(cause);
      else this.told(standing);
    });
    this.peer.addEventListener("icecandidate", ({ candidate }) => this.trickle(candidate));
    await this.peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
    // The gateway says goodbye on the connection itself, too.
    const transport = this.sender.transport;
    transport?.addEventListener("statechange", () => {
      if (transport.state === "closed") this.over("normal");
    });
  }

  /** Tells the gateway of one more address of ours (RFC 8840). */
  trickle(candidate) {
    if (!candidate?.candidate || this.isOver) return;
    const name = candidate.usernameFragment;
    const body = [
      ...(name ? [`a=ice-ufrag:${name}`] : []),
      "m=audio 9 UDP/TLS/RTP/SAVPF 0",
      `a=mid:${candidate.sdpMid ?? "0"}`,
      `a=${candidate.candidate}`,
      "",
    ].join("\r\n");
    const headers = { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": this.etag };
    // A lost one matters little: the gateway learns addresses from what comes from them.
    fetch(this.location, { method: "PATCH", headers, body }).catch(() => {});
  }

  press(key) {
    if (this.sender.dtmf?.canInsertDTMF) this.sender.dtmf.insertDTMF(key, 120, 60);
  }

  mute(isMuted) {
    for (const track of this.microphone.getAudioTracks()) track.enabled = !isMuted;
  }

  hangUp() {
    // Also when the page goes away: the request lives on without it.
    if (this.location && !this.isOver) fetch(this.location, { method: "DELETE", keepalive: true }).catch(() => {});
    this.over("normal");
  }

  over(cause) {
    if (this.isOver) return;
    this.close();
    this.told("ended", cause);
  }

  close() {
    this.isOver = true;
    this.events?.close();
    this.peer.close();
    for (const track of this.microphone.getTracks()) track.stop();
    audio.srcObject = null;
  }
}

const show = (isUp) => {
  call.disabled = isUp;
  end.disabled = mute.disabled = keys.disabled = !isUp;
  if (!isUp) {
    mute.setAttribute("aria-pressed", "false");
    line = null;
  }
};

const words = { calling: "Calling…", ringing: "It rings…", answered: "Connected." };

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (call.disabled) return;
  show(true);
  say(words.calling);
  try {
    line = await Line.call(called.value.trim(), token.value.trim(), (standing, cause) => {
      if (standing === "ended") {
        show(false);
        say(cause === "normal" ? "The call is over." : `The call is over: ${cause.replaceAll("_", " ")}.`);
      } else {
        say(words[standing] ?? standing);
      }
    });
  } catch (error) {
    show(false);
    say(`The call cannot be made: ${error.message}`);
  }
});

end.addEventListener("click", () => line?.hangUp());
addEventListener("pagehide", () => line?.hangUp());

mute.addEventListener("click", () => {
  const isMuted = mute.getAttribute("aria-pressed") !== "true";
  mute.setAttribute("aria-pressed", String(isMuted));
  line?.mute(isMuted);
});

for (const key of "123456789*0#") {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = key;
  button.addEventListener("click", () => line?.press(key));
  keys.append(button);
}

const asked = new URLSearchParams(location.search);
called.value = asked.get("to") ?? "";
// Behind the # nobody but this page reads it.
token.value = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
